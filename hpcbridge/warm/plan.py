"""What a pool of warm sessions needs now, from the record of its sessions alone.

Nothing is remembered between two plans, so a restart or another leader plans the same. Times are
seconds since the epoch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hpcbridge.config.warm import WarmSettings
from hpcbridge.states import EndReason, State
from hpcbridge.store import SessionRow

PAUSE = 30.0
"""Seconds without a new session after one that failed; twice as many after each further one."""
PAUSE_LIMIT = 3600.0
EARLY = 0.8
"""Share of the time for which a session is handed out, after which another is begun for it."""


@dataclass(frozen=True)
class Past:
    """What there was of a pool: the first session of it, the last launch that asked for one, and
    when one that a user got last became ready."""

    first: float | None = None
    asked: float | None = None
    worked: float | None = None


@dataclass(frozen=True)
class Plan:
    """How many sessions to begin, which to end and why; ``why`` says why there are fewer."""

    begin: int = 0
    end: Sequence[tuple[SessionRow, str]] = field(default_factory=tuple)
    why: str = ""


def longest_age(warm: WarmSettings, walltime: float) -> float:
    """Seconds that a job may have run when its session is handed out."""
    return walltime * (1 - warm.time_left)


def node_hours(rows: Sequence[SessionRow], nodes: int, since: float, now: float) -> float:
    """What jobs cost since then, until their sessions were handed out."""
    seconds = 0.0
    for row in rows:
        if row.starting_at is not None:
            ends = [each for each in (row.taken_at, row.ended_at) if each is not None]
            seconds += max(0.0, min([*ends, now]) - max(row.starting_at, since))
    return seconds * nodes / 3600


def wanted(warm: WarmSettings, past: Past, now: float) -> int:
    """How many are to be kept at this time of the day, as things were asked for."""
    opened = warm.clock.opened(now)
    if opened is None:
        return 0
    used = max(opened, past.asked or 0.0, past.first or now)
    return max(warm.least, warm.count - int(max(0.0, now - used) / warm.unused_after))


def pause_until(rows: Sequence[SessionRow], past: Past) -> float:
    """When another session may be begun, after some that failed before anybody had them.

    Those that were under way together count as one failure.
    """
    worked = [row.ready_at or 0.0 for row in rows if row.state == State.READY]
    since = max([past.worked or 0.0, *worked])
    failed = [row for row in rows if _failed(row) and (row.ended_at or 0.0) > since]
    rounds, last = 0, 0.0
    for row in sorted(failed, key=lambda row: row.ended_at or 0.0):
        rounds += (row.submitting_at or 0.0) >= last
        last = row.ended_at or 0.0
    return last + min(PAUSE_LIMIT, PAUSE * 2.0 ** min(rounds - 1, 20)) if rounds else 0.0


def _failed(row: SessionRow) -> bool:
    unused = row.state == State.ENDED and row.taken_at is None
    return unused and not row.stopped and row.reason != EndReason.STOPPED


def plan(
    warm: WarmSettings,
    walltime: float,
    rows: Sequence[SessionRow],
    past: Past,
    now: float,
    *,
    spent: float,
    drained: Callable[[str], bool],
) -> Plan:
    """``rows`` are the pool's of the last day, and ``spent`` the node-hours of this day.

    ``drained`` tells clusters that take no new sessions.
    """
    age = longest_age(warm, walltime)
    young: list[SessionRow] = []
    fading: list[SessionRow] = []
    end: list[tuple[SessionRow, str]] = []
    for row in (each for each in rows if each.warm and not each.stopped):
        old = now - (row.starting_at or now)
        if drained(row.cluster):
            end.append((row, "its cluster is drained"))
        elif old > age:
            end.append((row, "too little of its time is left"))
        else:
            (fading if old > EARLY * age else young).append(row)
    count = wanted(warm, past, now)
    why = ""
    if warm.node_hours_a_day is not None and spent >= warm.node_hours_a_day:
        count, why = 0, f"the {warm.node_hours_a_day:g} node-hours of this day are spent"
    end += [(row, why or "fewer are kept now") for row in _over(young, fading, count)]
    missing = max(0, count - len(young))
    if any(row.taken_at and row.state in (State.SUBMITTING, State.QUEUED) for row in rows):
        missing = 0  # who waits in the queue comes first
    pause = pause_until(rows, past)
    if pause and missing:
        if now < pause:
            return Plan(0, end, "sessions failed before anybody had them")
        missing = 1  # to see whether it works again
    return Plan(missing, end, why)


def _over(young: list[SessionRow], fading: list[SessionRow], count: int) -> list[SessionRow]:
    """Those that are too many: fading ones are needed only until young ones are ready."""
    young = sorted(young, key=lambda row: (row.state != State.READY, row.submitting_at or 0.0))
    fading = sorted(fading, key=lambda row: row.starting_at or 0.0, reverse=True)
    ready = sum(row.state == State.READY for row in young)
    return young[count:] + fading[max(0, count - ready) :]
