"""Processes of this machine, as /proc shows them."""

import contextlib
from pathlib import Path


def marked(mark: str, *, file: str = "environ") -> list[int]:
    """The pids of those with ``mark`` in this file of theirs; see proc(5)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (entry / file).read_bytes():
                found.append(int(entry.name))
    return found
