"""What Grid Engine's commands really printed: one file a call."""

import re
from pathlib import Path

from hpcbridge.transports.base import Completed

DIRECTORY = Path(__file__).parents[2] / "fixtures" / "gridengine"


def recorded(name: str) -> Completed:
    """The recording `name` as the transport would have handed it over."""
    text = (DIRECTORY / f"{name}.txt").read_text()
    match = re.fullmatch(
        r"\$ (.*)\nuser: .*\nexit: (\d+)\nseconds: .*\n--- stdout\n(.*?)--- stderr\n(.*?)--- end\n",
        text,
        re.DOTALL,
    )
    assert match, name
    return Completed(tuple(match[1].split()), int(match[2]), match[3].encode(), match[4].encode())


def names(pattern: str) -> list[str]:
    """The recordings whose names match."""
    found = sorted(path.stem for path in DIRECTORY.glob(f"{pattern}.txt"))
    assert found, pattern
    return found
