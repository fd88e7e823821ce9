"""Asks a web server's own parser what it makes of a configuration, in a directory of its own."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from hpcbridge.errors import ConfigError

LIMIT = 60.0
"""Seconds that a parser may take."""
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
"""Where web servers are installed."""

Prepare = Callable[[Path], Sequence[str]]
"""Writes files into a directory; returns the program and its arguments."""


def ask(server: str, prepare: Prepare) -> str:
    """What the parser of ``server`` said, where it takes the configuration.

    Raises :class:`~hpcbridge.errors.ConfigError` with its words where it does not, and where it is
    not installed.
    """
    with tempfile.TemporaryDirectory(prefix="hpcbridge-check-") as directory:
        program, *arguments = prepare(Path(directory))
        found = shutil.which(program, path=PATH)
        if found is None:
            raise ConfigError(
                f"{program} is not installed on this machine. Check where {server} runs."
            )
        try:
            done = subprocess.run(  # noqa: S603 - a program of ours and files, no shell
                [found, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=LIMIT,
            )
        except subprocess.TimeoutExpired as error:
            raise ConfigError(f"{server} did not answer within {LIMIT:g} s.") from error
        said = done.stdout.replace(f"{directory}/", "").strip()
        if done.returncode != 0:
            raise ConfigError(f"{server} does not take this configuration:\n{said}")
        return said
