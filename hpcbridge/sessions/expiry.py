"""What will end a ready session: its job's walltime, its longest life, or that nobody uses it.

Idleness is seen in the tunnel's own traffic. Nothing relies on a browser that says goodbye.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.network.splice import Traffic
from hpcbridge.sessions.clock import SessionClock
from hpcbridge.states import EndReason
from hpcbridge.store import RemoteClients, SessionRow

CHECK_INTERVAL = 5.0
"""Seconds between two looks at limits that may move."""
LATE = 10.0
"""Seconds until another replica's connections are surely known here."""


@dataclass(frozen=True)
class Expiry:
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


def expiries_of(
    application: ApplicationSettings,
    row: SessionRow,
    clock: SessionClock,
    traffic: Traffic | None,
    remote_clients: RemoteClients | None = None,
) -> list[Expiry]:
    """A ready session's expiries, the first one first; ``remote_clients`` are those
    of other replicas."""

    def expiry(when: float, reason: EndReason, message: str, *, ours: bool = True) -> Expiry:
        return Expiry(when, clock.epoch(when), reason, message, ours)

    expiries = []
    if application.walltime is not None and row.starting_at is not None:
        end = clock.since(row.starting_at) + application.walltime
        expiries.append(expiry(end, EndReason.TIMED_OUT, "The job's time is over.", ours=False))
    if row.warm:
        return expiries
    got = [clock.since(each) for each in (row.taken_at, row.ready_at) if each is not None]
    begun = max(got, default=-math.inf)  # when its user got it
    if application.longest is not None and row.ready_at is not None:
        message = f"The session has reached the longest life of {application.longest:g} s."
        expiries.append(expiry(begun + application.longest, EndReason.TIMED_OUT, message))
    elsewhere = remote_clients or RemoteClients(0, math.inf)
    if application.idle and traffic and not traffic.connections and not elsewhere.connections:
        used = max(traffic.last_activity, time.monotonic() - elsewhere.unused)
        since = max(begun, used) + (LATE if remote_clients else 0)
        message = f"Nobody was connected to the session for {application.idle:g} s."
        expiries.append(expiry(since + application.idle, EndReason.IDLE, message))
    return sorted(expiries, key=lambda expiry: expiry.when)


def next_check(expiries: Sequence[Expiry]) -> float | None:
    """When to look at the expiries again (monotonic seconds): traffic notifies nobody."""
    ours = [expiry.when for expiry in expiries if expiry.ours]
    return min(time.monotonic() + CHECK_INTERVAL, *ours) if ours else None
