"""What PBS's commands really printed: one file a call, its command and exit status on top."""

import re
import shlex
from pathlib import Path

from hpcbridge.transports.base import Completed

DIRECTORY = Path(__file__).parents[2] / "fixtures" / "pbs"


def recorded(name: str) -> Completed:
    """The recording as the transport would have handed it over."""
    text = (DIRECTORY / f"{name}.txt").read_bytes()
    head, _, rest = text.partition(b"--- stdout ")
    out, rest = _block(rest)
    err, _ = _block(rest.partition(b"--- stderr ")[2])
    command, status = re.search(r"\$ (.*)\n(?:.*\n)*exit: (\d+)", head.decode()).groups()  # type: ignore[union-attr]
    return Completed(tuple(shlex.split(command)), int(status), out, err)


def _block(text: bytes) -> tuple[bytes, bytes]:
    size, _, rest = text.partition(b" bytes)\n")
    length = int(size.removeprefix(b"("))
    return rest[:length], rest[length:]


def names(pattern: str) -> list[str]:
    """The recordings whose names match."""
    return sorted(path.stem for path in DIRECTORY.glob(f"{pattern}.txt"))


def raw(pattern: str) -> list[str]:
    """The files with nothing but what qstat printed."""
    return sorted(path.name for path in DIRECTORY.glob(f"{pattern}.raw.json"))
