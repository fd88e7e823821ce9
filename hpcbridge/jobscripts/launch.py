#!/usr/bin/env python3
"""Run a Python application with its secret, which neither ``ps`` nor its environment ever shows.

    python3 launch.py [OPTION...] SCRIPT [ARGUMENT...]
    python3 launch.py [OPTION...] -m MODULE [ARGUMENT...]

The secret is read from the file ``secret`` beside this file (mode 0600, the caller's own), appended
to ``sys.argv`` inside this process as ``--authKey SECRET``, and the file is erased: whoever finds
the directory later finds no key. Options: ``--secret-option NAME`` in place of ``--authKey``;
``--secret-file NAME`` appends ``NAME PATH``, for an application that reads its secret from a file:
one in this process's memory, so that the other can be erased all the same; ``--keep-secret`` leaves
the file, for a job that starts more than once, and is the file that ``--secret-file`` names.
What the application prints reaches the log at once and without the secret.

Where there is a file ``secret.new`` beside this one, the session is kept ready for a user, and a
server of wslink (trame, ParaView) takes the secret that this file holds one day; others do that by
themselves.

Staged into every session directory and run by whatever Python is there, so: standard library only,
Python 3.8 and later, ``pvpython`` included. Exit status 2 and one sentence when it cannot begin.
"""

# os.path and not pathlib: it is loaded anyway, and this runs before every application.
# ruff: noqa: PTH100, PTH108, PTH110, PTH118, PTH120

from __future__ import annotations

import importlib.util
import io
import os
import runpy
import stat
import sys
import time
from typing import Any, NoReturn

SIZE_LIMIT = 4096
"""Bytes a secret may have."""
LOOK = 0.03
"""Seconds between two looks for a new secret."""


def main(arguments: list[str]) -> None:
    """Become the application. ``arguments`` are those after ``launch.py``."""
    option, as_file, keep, is_module, target, rest = parse(arguments)
    if not is_module and not os.path.exists(target):
        give_up(f"there is no script {target} on this node")
    here = os.path.dirname(os.path.abspath(__file__))
    path = os.path.join(here, "secret")
    secret = read_secret(path)
    value = secret
    if as_file:
        value = path if keep else in_memory(secret)
    if not keep:
        os.unlink(path)
    show_output_at_once(secret)
    if os.path.exists(os.path.join(here, "secret.new")):
        begin_to_look(os.path.join(here, "secret.new"))
    sys.argv[:] = [target, *rest, option, value]
    if sys.path[:1] == [here]:  # not so with PYTHONSAFEPATH
        del sys.path[0]
    if is_module:
        sys.path.insert(0, "")
        run_module(target)
    else:
        sys.path.insert(0, os.path.dirname(os.path.abspath(target)))
        runpy.run_path(target, run_name="__main__")


def parse(arguments: list[str]) -> tuple[str, bool, bool, bool, str, list[str]]:
    """Split into: secret's option, is it for a file?, keep ours?, a module?, what to run, rest."""
    option, as_file, keep = "--authKey", False, False
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word in ("--secret-option", "--secret-file") and left:
            option, as_file = left.pop(0), word == "--secret-file"
        elif word == "--keep-secret":
            keep = True
        elif word == "-m" and left:
            return option, as_file, keep, True, left.pop(0), left
        elif word.startswith("-"):
            break
        else:
            return option, as_file, keep, False, word, left
    give_up(
        "usage: launch.py [--secret-option NAME | --secret-file NAME] [--keep-secret] "
        "SCRIPT|-m MODULE [ARGUMENT...]"
    )


def in_memory(secret: str) -> str:
    """The path of a file with the secret that no directory holds: memfd_create(2)."""
    if not hasattr(os, "memfd_create"):
        give_up("this Python cannot make a file in memory (glibc 2.27); use --keep-secret")
    descriptor = os.memfd_create("secret", os.MFD_CLOEXEC)
    os.write(descriptor, secret.encode("ascii"))
    return f"/proc/self/fd/{descriptor}"


def read_secret(path: str) -> str:
    """The secret in the file at ``path``; exits if the file is not private to this user."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        give_up(f"the secret file {path} cannot be opened: {error.strerror}")
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            give_up(f"the secret file {path} is not a regular file of this user")
        if status.st_mode & 0o077:
            give_up(f"the secret file {path} can be read by others; its mode must be 0600")
        raw = file.read(SIZE_LIMIT + 1)
    secret = raw.decode("ascii", "replace").strip()
    if not secret or len(raw) > SIZE_LIMIT or not secret.isascii() or not secret.isprintable():
        give_up(f"the secret file {path} does not hold one line of printable ASCII text")
    return secret


def show_output_at_once(secret: str) -> None:
    """Make print() write through: a ready line in a buffer is as good as none."""
    os.environ.setdefault("PYTHONUNBUFFERED", "1")  # for Python processes it starts
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):  # pvpython may have its own, which do not buffer
            stream.flush()
            raw = io.FileIO(stream.fileno(), "w", closefd=False)
            setattr(sys, name, Redacted(raw, stream.encoding, secret))


class Redacted(io.TextIOWrapper):
    """An unbuffered text stream that writes ``***`` for the secret, as when argparse repeats it."""

    def __init__(self, raw: io.FileIO, encoding: str, secret: str) -> None:
        super().__init__(raw, encoding, "backslashreplace", write_through=True)
        self.secrets = [secret]

    def write(self, text: str) -> int:
        """Write at once; the answer counts the characters asked for."""
        shown = text
        for secret in self.secrets:
            shown = shown.replace(secret, "***")
        super().write(shown)
        return len(text)


def begin_to_look(path: str) -> None:
    """Have a thread look for the new secret in the file at ``path``."""
    import threading  # only where it is needed

    threading.Thread(target=take_new_secret, args=(path,), daemon=True).start()


def take_new_secret(path: str) -> None:
    """Once the file holds a line, make it the secret of this process's servers, and write that."""
    import hashlib

    line = ""
    while not line.startswith("taken "):  # else the application has seen to it itself
        time.sleep(LOOK)
        try:
            with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123
                line = file.read(SIZE_LIMIT)
        except OSError:  # on NFS, now and then
            continue
        found = servers() if line.endswith("\n") else []
        if found and not line.startswith("taken "):
            secret = line.strip()
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, Redacted):
                    stream.secrets.append(secret)
            for each in found:
                each.updateSecret(secret)
            line = f"taken {hashlib.sha256(secret.encode()).hexdigest()}\n"
            with open(path, "w", encoding="ascii") as file:  # noqa: PTH123
                file.write(line)


def servers() -> list[Any]:
    """The servers of wslink in this process; each compares a client's secret with its own."""
    import gc

    kind = getattr(sys.modules.get("wslink.websocket"), "ServerProtocol", None)
    if kind is None:
        return []
    # By type(): isinstance() would ask proxies, some of which raise.
    return [each for each in gc.get_objects() if issubclass(type(each), kind)]


def run_module(name: str) -> None:
    """Run as ``python -m`` does; a module that is not there is told apart from one that fails."""
    try:
        found = importlib.util.find_spec(name)
    except ImportError:
        found = None
    if found is None:
        give_up(f"there is no module {name} for {sys.executable or 'this Python'}")
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def give_up(reason: str) -> NoReturn:
    """Say why and exit with status 2."""
    sys.stderr.write(f"hpcbridge launch.py: {reason}.\n")
    sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
