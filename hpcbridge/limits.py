"""What will end a ready session: its job's walltime, its longest life, or that nobody uses it.

Idleness is seen in the tunnel's own traffic. Nothing relies on a browser that says goodbye.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

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
    """An end that can be foreseen. ``when`` is in seconds since the epoch.

    ``ours`` says that we end the session then; the scheduler does at the walltime.
    """

    when: float
    reason: EndReason
    message: str
    ours: bool = True

    @property
    def over(self) -> bool:
        """Whether the session is to be ended now."""
        return self.ours and time.time() >= self.when


def limits_of(
    application: ApplicationSettings,
    row: SessionRow,
    traffic: Traffic | None,
    visitors: Visitors | None = None,
) -> list[Limit]:
    """A ready session's limits, the first one first; ``visitors`` are those of other replicas."""
    limits = []
    if application.walltime is not None and row.starting_at is not None:
        message = "The job's time is over."
        end = row.starting_at + application.walltime
        limits.append(Limit(end, EndReason.TIMED_OUT, message, ours=False))
    if row.warm:
        return limits
    begun = max(row.taken_at or 0.0, row.ready_at or 0.0)  # when its user got it
    if application.longest is not None and row.ready_at is not None:
        message = f"The session has reached the longest life of {application.longest:g} s."
        limits.append(Limit(begun + application.longest, EndReason.TIMED_OUT, message))
    elsewhere = visitors or Visitors(0, math.inf)
    if application.idle and traffic and not traffic.connections and not elsewhere.connections:
        unused = min(time.monotonic() - traffic.last_activity, elsewhere.unused)
        since = max(row.taken_at or 0.0, time.time() - unused) + (LATE if visitors else 0)
        message = f"Nobody was connected to the session for {application.idle:g} s."
        limits.append(Limit(since + application.idle, EndReason.IDLE, message))
    return sorted(limits, key=lambda limit: limit.when)


def next_look(limits: Sequence[Limit]) -> float | None:
    """When to look at the limits again (monotonic seconds): traffic rings no bell."""
    ours = [limit.when - time.time() for limit in limits if limit.ours]
    return time.monotonic() + max(0.0, min(LOOK, *ours)) if ours else None
