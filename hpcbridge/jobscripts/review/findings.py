"""What is said of a line, before it is known where the line is from."""

from typing import NamedTuple

from hpcbridge.jobscripts.rules import Severity


class Finding(NamedTuple):
    """A sentence, and whether the template can be used all the same."""

    severity: Severity
    message: str


def error(message: str) -> Finding:
    """The template cannot be used, or does not do what it says."""
    return Finding(Severity.ERROR, message)


def warning(message: str) -> Finding:
    """Worth a look."""
    return Finding(Severity.WARNING, message)
