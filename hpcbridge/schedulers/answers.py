"""Sorts what a batch system's commands say when they fail: not asked, answer lost, or refused.

The exit status decides first, and the shape of the answer next (each adapter's parsers). Words
decide only where both leave it open, as sbatch ends with 1 whether it was refused or got no answer;
and only at the beginning of a line of the command itself, as a site's own words can be any.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from hpcbridge.errors import ClusterUnreachable, OutcomeUnknown
from hpcbridge.plain import readable
from hpcbridge.transports.base import Completed

MISSING = 127
"""The exit status of sh(1) and env(1) for a command that they do not find."""


@dataclass(frozen=True)
class Dialect:
    """How the commands of one batch system say that they got no answer.

    ``system`` is who did not answer, and ``missing`` what an admin can do where a command is not
    found. ``heard`` takes the lines that can tell so from all that a command printed.
    ``not_asked`` means that the request did not leave, ``lost`` that it may have been carried out;
    both are matched at the beginning of each line, without regard to case.
    """

    system: str
    missing: str
    heard: Callable[[Completed], list[str]]
    not_asked: str
    lost: str

    def raise_if_missing(self, command: str, done: Completed) -> None:
        """Raise :class:`~hpcbridge.errors.ClusterUnreachable` where there is no such command."""
        if done.exit_status == MISSING:
            raise ClusterUnreachable(
                f"{command} is not installed where the commands run, or not in the PATH of a "
                f"non-interactive login: {last_line(done)}.{self.missing}"
            )

    def raise_if_not_asked(self, command: str, done: Completed) -> None:
        """Raise where a query that failed says that it got no answer."""
        self.raise_if_missing(command, done)
        if done.exit_status != 0:
            self.raise_if_silent(self.heard(done))

    def raise_if_silent(self, lines: list[str]) -> None:
        """Raise :class:`~hpcbridge.errors.ClusterUnreachable` where one of these lines says so."""
        if said := _first(f"{self.not_asked}|{self.lost}", lines):
            raise ClusterUnreachable(
                f"{self.system} does not answer ({said}). Nothing is lost; try again in a minute."
            )

    def raise_if_not_taken(self, command: str, done: Completed) -> None:
        """Raise where a submission that failed is no refusal.

        That is :class:`~hpcbridge.errors.OutcomeUnknown` where the job may have been accepted.
        """
        self.raise_if_missing(command, done)
        lines = self.heard(done)
        if not _first(self.not_asked, lines) and (said := _first(self.lost, lines)):
            raise OutcomeUnknown(f"The answer of {self.system} to {command} was lost: {said}")
        self.raise_if_silent(lines)


def _first(pattern: str, lines: list[str]) -> str:
    return next((line[:300] for line in lines if re.match(pattern, line, re.IGNORECASE)), "")


def lines_of(text: str) -> list[str]:
    """The lines of a text that say something, without blanks around them."""
    return [line.strip() for line in readable(text).splitlines() if line.strip()]


def last_line(done: Completed, *, but: str = "") -> str:
    """The last thing that a command said, other than the line ``but``."""
    lines = lines_of(done.err) or lines_of(done.out)
    return next((line[:300] for line in reversed(lines) if line != but), "no message")
