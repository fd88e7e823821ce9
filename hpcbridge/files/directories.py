"""Paths of the settings that nobody but the service's account and root can lead elsewhere."""

import contextlib
import os
from pathlib import Path

from hpcbridge.errors import ConfigError
from hpcbridge.files.helper import open_to_others


def others_above(path: Path) -> str:
    """The directory in which others could put theirs in place of ``path``; "" for none.

    What is missing, or cannot be looked at, is told when the path is used.
    """
    with contextlib.suppress(OSError):
        return open_to_others(os.fspath(path.absolute()))
    return ""


def closed_to_others(setting: str, path: Path) -> None:
    """Raises :class:`~hpcbridge.errors.ConfigError` where others could replace ``path``, which
    ``setting`` names."""
    if above := others_above(path):
        raise ConfigError(
            f"{setting}: others could replace what is in {above}. Close it to them (chmod go-w), "
            "give it to this account, or name another directory."
        )
