"""What will end a ready session: its job's walltime, its longest life, or that nobody uses it.

Idleness is seen in the tunnel's own traffic. Nothing relies on a browser that says goodbye.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from hpcbridge.ages import Ages
from hpcbridge.applicationsettings import ApplicationSettings
from hpcbridge.schedulers.base import EndReason
from hpcbridge.splice import Traffic
from hpcbridge.store import SessionRow, Visitors

LOOK = 5.0
"""Seconds between two looks at limits that may move."""
LATE = 10.0
"""Seconds until another replica's connections are surely known here."""


@dataclass(frozen=True)
class Limit:
    """An end that can be foreseen: ``when`` in monotonic seconds, ``at`` in those since the epoch.

    ``ours`` says that we end the session then; the scheduler does at the walltime.
    """

    when: float
    at: float
    reason: EndReason
    message: str
    ours: bool = True

    @property
    def over(self) -> bool:
        """Whether the session is to be ended now."""
        return self.ours and time.monotonic() >= self.when


def limits_of(
    application: ApplicationSettings,
    row: SessionRow,
    ages: Ages,
    traffic: Traffic | None,
    visitors: Visitors | None = None,
) -> list[Limit]:
    """A ready session's limits, the first one first; ``visitors`` are those of other replicas."""

    def limit(when: float, reason: EndReason, message: str, *, ours: bool = True) -> Limit:
        return Limit(when, ages.told(when), reason, message, ours)

    limits = []
    if application.walltime is not None and row.starting_at is not None:
        end = ages.since(row.starting_at) + application.walltime
        limits.append(limit(end, EndReason.TIMED_OUT, "The job's time is over.", ours=False))
    if row.warm:
        return limits
    got = [ages.since(each) for each in (row.taken_at, row.ready_at) if each is not None]
    begun = max(got, default=-math.inf)  # when its user got it
    if application.longest is not None and row.ready_at is not None:
        message = f"The session has reached the longest life of {application.longest:g} s."
        limits.append(limit(begun + application.longest, EndReason.TIMED_OUT, message))
    elsewhere = visitors or Visitors(0, math.inf)
    if application.idle and traffic and not traffic.connections and not elsewhere.connections:
        used = max(traffic.last_activity, time.monotonic() - elsewhere.unused)
        since = max(begun, used) + (LATE if visitors else 0)
        message = f"Nobody was connected to the session for {application.idle:g} s."
        limits.append(limit(since + application.idle, EndReason.IDLE, message))
    return sorted(limits, key=lambda limit: limit.when)


def next_look(limits: Sequence[Limit]) -> float | None:
    """When to look at the limits again (monotonic seconds): traffic rings no bell."""
    ours = [limit.when for limit in limits if limit.ours]
    return min(time.monotonic() + LOOK, *ours) if ours else None
