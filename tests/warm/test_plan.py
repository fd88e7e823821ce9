"""What a pool needs: how many, which not any more, and when to leave the cluster alone."""

from typing import Any

import pytest

from hpcbridge.config.warm import WarmSettings
from hpcbridge.schedulers.base import EndReason
from hpcbridge.store import SessionRow, State
from hpcbridge.warm.plan import (
    EARLY,
    PAUSE,
    PAUSE_LIMIT,
    Past,
    Plan,
    node_hours,
    pause_until,
    plan,
    wanted,
)

NOW = 1_700_000_000.0
HOUR = 3600.0
WALLTIME = 4 * HOUR  # sessions are handed out in their first hour


def row(age: float | None = 60, state: State = State.READY, **columns: Any) -> SessionRow:
    """A session whose job began ``age`` seconds ago; None for one that waits in the queue."""
    began = None if age is None else NOW - age
    given = {"starting_at": began, "ready_at": began, "submitting_at": (began or NOW) - 5}
    given |= {"id": "x", "job_name": "x", "application": "cone", "cluster": "here", "pool": "p"}
    if age is None:
        given["ready_at"] = None
        state = State.QUEUED
    return SessionRow(state=state, **(given | columns))


def failed(begun: float, ended: float, **columns: Any) -> SessionRow:
    given = {"submitting_at": begun, "ended_at": ended, "ready_at": None, "starting_at": None}
    reason = {"reason": EndReason.FAILED}
    return row(state=State.ENDED, **(given | reason | columns))


def planned(*rows: SessionRow, past: Past | None = None, **settings: Any) -> Plan:
    spent = settings.pop("spent", 0.0)
    drained = settings.pop("drained", set())
    return plan(
        WarmSettings(**({"count": 2} | settings)),
        WALLTIME,
        rows,
        past or Past(first=NOW - 5, asked=NOW),
        NOW,
        spent=spent,
        drained=drained.__contains__,
    )


def test_what_is_missing_is_begun_and_what_is_under_way_counts() -> None:
    assert planned().begin == 2
    assert planned(row(None)).begin == 1
    assert planned(row(), row(None)) == Plan(end=[])


def test_what_a_user_has_or_what_is_to_end_does_not_count() -> None:
    assert planned(row(taken_at=NOW), row(stopped=True)).begin == 2


def test_whoever_waits_in_the_queue_comes_before_the_pool() -> None:
    assert planned(row(None, taken_at=NOW - 3)).begin == 0
    assert planned(row(taken_at=NOW - 60)).begin == 2


def test_one_that_is_too_much_goes_and_first_one_that_is_not_ready() -> None:
    ready, waiting = [row(), row(age=30)], row(None)
    made = planned(*ready, waiting)
    assert [each for each, _ in made.end] == [waiting]
    assert made.begin == 0


def test_an_old_one_is_ended_and_a_new_one_begun_before_it_gets_too_old() -> None:
    old, fading = row(age=HOUR + 1), row(age=EARLY * HOUR + 1)
    made = planned(old, fading)
    assert [each for each, _ in made.end] == [old]
    assert made.begin == 2
    assert planned(fading, row(), row(None)) == Plan(end=[])  # until the other is ready
    assert [each for each, _ in planned(fading, row(), row()).end] == [fading]


def test_sessions_of_a_drained_cluster_are_ended() -> None:
    there = row(cluster="closed")
    made = planned(there, drained={"closed"})
    assert [each for each, _ in made.end] == [there]
    assert made.begin == 2


def test_outside_of_the_hours_there_are_none() -> None:
    there = row()
    made = planned(there, hours=["Sat 00:00-24:00"], timezone="UTC")  # NOW is a Tuesday
    assert made.begin == 0
    assert [each for each, _ in made.end] == [there]


@pytest.mark.parametrize(("unused", "left"), [(0, 3), (0.9, 3), (1, 2), (2.5, 1), (99, 1)])
def test_one_less_is_kept_for_each_time_that_nobody_asked(unused: float, left: int) -> None:
    warm = WarmSettings(count=3, least=1, unused_after=HOUR)
    assert wanted(warm, Past(first=NOW - 1000 * HOUR, asked=NOW - unused * HOUR), NOW) == left


def test_a_pool_that_nobody_ever_asked_shrinks_from_its_first_session_on() -> None:
    warm = WarmSettings(count=3, unused_after=HOUR)
    assert wanted(warm, Past(first=NOW - 3 * HOUR), NOW) == 0
    assert wanted(warm, Past(), NOW) == 3


def test_a_launch_that_found_none_brings_all_back() -> None:
    assert planned(past=Past(first=NOW - 99 * HOUR, asked=NOW - 90 * HOUR)).begin == 0
    assert planned(past=Past(first=NOW - 99 * HOUR, asked=NOW - 1)).begin == 2


def test_each_morning_begins_with_all() -> None:
    warm = WarmSettings(count=2, hours=["Mon-Sun 00:00-24:00"], timezone="UTC", unused_after=HOUR)
    morning = WarmSettings(count=2, hours=["Tue 22:00-24:00"], timezone="UTC", unused_after=HOUR)
    past = Past(first=NOW - 20 * HOUR, asked=NOW - 10 * HOUR)
    assert wanted(warm, past, NOW) == 0
    assert wanted(morning, past, NOW) == 2  # NOW is 22:13


def test_node_hours_are_those_of_today_until_a_user_came() -> None:
    rows = [
        row(age=2 * HOUR),
        row(age=30 * HOUR),  # an hour of it is today's
        row(age=3 * HOUR, taken_at=NOW - 2 * HOUR),
        row(age=3 * HOUR, state=State.ENDED, ended_at=NOW - 2 * HOUR),
        row(None),
        row(age=HOUR, taken_at=NOW - 2 * HOUR),  # was never warm
    ]
    assert node_hours(rows, 2, NOW - 5 * HOUR, NOW) == pytest.approx(2 * (2 + 5 + 1 + 1))


def test_when_the_days_node_hours_are_spent_all_are_ended_and_none_begun() -> None:
    there = [row(), row(None)]
    made = planned(*there, node_hours_a_day=8, spent=8.0)
    assert {id(each) for each, _ in made.end} == {id(each) for each in there}
    assert made.begin == 0
    assert "8 node-hours" in made.why
    assert planned(node_hours_a_day=8, spent=7.9).begin == 2


def test_after_a_failure_there_is_a_pause_and_then_one_tries() -> None:
    past = Past(first=NOW - 9999, asked=NOW)
    fresh = [failed(NOW - 20, NOW - 10), failed(NOW - 20, NOW - 9)]
    made = planned(*fresh, past=past)
    assert made.begin == 0
    assert "failed" in made.why
    assert planned(failed(NOW - 90, NOW - PAUSE - 1), past=past).begin == 1


def test_each_further_failure_doubles_the_pause_up_to_a_limit() -> None:
    rows, ended = [], NOW - 9 * HOUR
    for pause in (PAUSE, 2 * PAUSE, 4 * PAUSE, 8 * PAUSE):
        rows.append(failed(ended, ended + 1))
        ended += 1
        assert pause_until(rows, Past()) == ended + pause
    for _ in range(20):
        rows.append(failed(ended, ended + 1))
        ended += 1
    assert pause_until(rows, Past()) == ended + PAUSE_LIMIT


def test_sessions_that_failed_side_by_side_are_one_failure() -> None:
    rows = [failed(NOW - 50, NOW - 40 + each) for each in range(5)]
    assert pause_until(rows, Past()) == NOW - 36 + PAUSE


def test_what_was_asked_to_end_or_has_worked_since_is_no_failure() -> None:
    stopped = failed(NOW - 50, NOW - 40, stopped=True, reason=EndReason.STOPPED)
    assert pause_until([stopped], Past()) == 0.0
    assert pause_until([failed(NOW - 50, NOW - 40)], Past(worked=NOW - 30)) == 0.0
    assert pause_until([failed(NOW - 99, NOW - 90), row(age=60)], Past()) == 0.0


def test_one_that_ended_by_itself_while_it_waited_is_a_failure() -> None:
    gone = failed(NOW - 50, NOW - 10, ready_at=NOW - 40, reason=EndReason.FINISHED)
    assert pause_until([gone], Past()) == NOW - 10 + PAUSE
