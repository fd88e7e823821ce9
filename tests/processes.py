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


def told(mark: str, file: str) -> str:
    """What ``file`` in /proc says of the processes with ``mark`` in their environment, in a row."""
    found = []
    for pid in marked(mark):
        with contextlib.suppress(OSError):  # it has just ended
            found.append(Path(f"/proc/{pid}/{file}").read_text())
    return "".join(found)
