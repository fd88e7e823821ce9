"""What an examination says: one line for each thing that was looked at."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """``what`` was looked at, whether it is in order, and one or two sentences about it.

    What is not in order is told with what to do about it; nothing secret is ever in it.
    """

    what: str
    good: bool
    said: str


def good(what: str, said: str) -> Finding:
    """In order."""
    return Finding(what, True, said)


def bad(what: str, said: str) -> Finding:
    """Not in order; ``said`` ends with the cure."""
    return Finding(what, False, said)
