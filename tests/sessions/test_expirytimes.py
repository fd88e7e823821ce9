"""When a ready session will end, counted by a clock that is never set."""

import time
from typing import Any

import pytest

from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.network.splice import Traffic
from hpcbridge.sessions.clock import SessionClock
from hpcbridge.sessions.expiry import LATE, Expiry, expiries_of
from hpcbridge.states import EndReason, State
from hpcbridge.store import RemoteClients, SessionRow


def expiries(
    limits: dict[str, Any],
    *,
    traffic: Traffic | None = None,
    elsewhere: RemoteClients | None = None,
    **columns: Any,
) -> list[Expiry]:
    """Of a session that is ready for an hour, for an application with these limits."""
    application = ApplicationSettings(cluster="here", template="t", **limits)
    times = {"starting_at": time.time() - 3660, "ready_at": time.time() - 3600}
    row = SessionRow(id="a" * 40, state=State.READY, **(times | columns))
    clock = SessionClock(row.starting_at, row.ready_at, row.taken_at)
    return expiries_of(application, row, clock, traffic or Traffic(), elsewhere)


@pytest.mark.parametrize(("here", "there"), [(100.0, 500.0), (500.0, 100.0)])
def test_a_session_is_idle_since_it_was_last_used_at_any_replica(here: float, there: float) -> None:
    traffic = Traffic(last_activity=time.monotonic() - here)
    (end,) = expiries({"idle": 600}, traffic=traffic, elsewhere=RemoteClients(0, there))
    assert end.reason == EndReason.IDLE
    assert end.when - time.monotonic() == pytest.approx(600 - 100 + LATE, abs=1)


def test_who_is_connected_anywhere_keeps_a_session_from_being_idle() -> None:
    idle = {"idle": 600}
    assert expiries(idle, traffic=Traffic(connections=1)) == []
    assert expiries(idle, elsewhere=RemoteClients(1, 0.0)) == []


def test_a_warm_session_that_nobody_has_ends_with_its_job_only() -> None:
    limits = {"idle": 600, "longest": 7200, "walltime": 86400}
    told = {expiry.reason for expiry in expiries(limits)}
    assert told == {EndReason.IDLE, EndReason.TIMED_OUT}
    (only,) = expiries(limits, pool="warm")
    assert (only.reason, only.ours) == (EndReason.TIMED_OUT, False)


def test_a_session_of_a_pool_is_as_old_as_its_users_part_in_it() -> None:
    """It was ready for an hour, and handed over a minute ago."""
    limits = {"longest": 7200}
    (end,) = expiries(limits, pool="warm", user="alice", taken_at=time.time() - 60)
    assert end.when - time.monotonic() == pytest.approx(7200 - 60, abs=1)
    assert end.at - time.time() == pytest.approx(7200 - 60, abs=1)


def test_the_first_end_that_is_foreseen_comes_first() -> None:
    limits = {"idle": 600, "longest": 3700, "walltime": 86400}
    ends = expiries(limits)
    assert [(end.reason, end.ours) for end in ends] == [
        (EndReason.TIMED_OUT, True),
        (EndReason.IDLE, True),
        (EndReason.TIMED_OUT, False),
    ]


def test_what_is_left_to_the_scheduler_is_never_ended_by_us() -> None:
    (walltime,) = expiries({"walltime": 60})
    assert walltime.when < time.monotonic()
    assert not walltime.over


def test_a_time_that_is_yet_to_come_by_the_wall_clock_counts_as_now() -> None:
    """The machine that wrote it, or this one before a restart, had a clock that was ahead."""
    ahead = time.time() + 7200
    clock = SessionClock(ahead)
    assert clock.since(ahead) <= time.monotonic()


def test_a_time_is_read_off_the_wall_clock_once(monkeypatch: pytest.MonkeyPatch) -> None:
    at, real = time.time() - 60, time.time
    clock = SessionClock(at)
    before = clock.since(at)
    monkeypatch.setattr(time, "time", lambda: real() + 7200)
    assert clock.since(at) == before


def test_times_are_told_by_the_wall_clock_as_it_is_set_now(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, real = SessionClock(), time.time
    moment = time.monotonic() + 60
    told = clock.epoch(moment)
    assert told == pytest.approx(time.time() + 60, abs=1)
    monkeypatch.setattr(time, "time", lambda: real() + 0.2)
    assert clock.epoch(moment) == told, "both clocks drift"
    for by in (7200, -7200):
        monkeypatch.setattr(time, "time", lambda by=by: real() + by)
        assert clock.epoch(moment) == pytest.approx(told + by, abs=1)
