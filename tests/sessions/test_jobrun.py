"""Which run of its job a session is in: by node, by number, and where the job is suspended."""

from typing import Any

import pytest

from hpcbridge.clusters.watcher import Watch
from hpcbridge.schedulers.base import JobInfo, JobState
from hpcbridge.sessions.jobrun import JobRun
from hpcbridge.store import SessionRow, State


def a_job(state: JobState = JobState.RUNNING, **more: Any) -> JobInfo:
    return JobInfo("1", "n", state, **more)


def a_watch(job: JobInfo | None) -> Watch:
    watch = Watch("1", "n", 0, lambda: None)
    watch.job = job
    return watch


def a_row(state: State = State.READY, host: str | None = "n1", **more: Any) -> SessionRow:
    return SessionRow(
        id="a" * 40, application="a", cluster="c", job_name="n", state=state, host=host, **more
    )


@pytest.mark.parametrize(
    ("job", "back"),
    [
        (None, False),
        (a_job(host="n1", run="1"), False),
        (a_job(host="n1", run="2"), True),
        (a_job(host="n2", run="1"), True),
        (a_job(host="n2"), True),
        (a_job(host=None, run="1"), False),
        (a_job(host="n1"), False),
        (a_job(JobState.QUEUED), True),
        (a_job(JobState.QUEUED, suspended=True), True),
        (a_job(JobState.COMPLETING, host="n2", run="2"), False),
        (a_job(JobState.UNKNOWN, host="n2", run="2"), False),
    ],
)
def test_a_job_went_back_if_it_waits_is_on_another_node_or_has_another_number(
    job: JobInfo | None, *, back: bool
) -> None:
    run = JobRun(a_row())
    run.began(a_job(host="n1", run="1"))
    assert run.went_back(a_watch(job)) is back


def test_a_session_that_waits_does_not_go_back_with_its_job() -> None:
    run = JobRun(a_row(State.QUEUED, None))
    assert not run.went_back(a_watch(a_job(JobState.QUEUED)))


def test_where_its_number_was_not_known_the_next_one_that_is_told_counts() -> None:
    """As after a restart of the service."""
    run = JobRun(a_row())
    assert not run.went_back(a_watch(a_job(host="n1", run="7")))
    assert run.went_back(a_watch(a_job(host="n1", run="8")))


@pytest.mark.parametrize(
    ("known", "told", "former"), [(4000, None, 4000), (None, 5000, 5000), (None, None, 0)]
)
def test_the_port_of_the_run_before_is_what_is_known_of_it(
    known: int | None, told: int | None, former: int
) -> None:
    run = JobRun(a_row(port=known))
    run.left(a_watch(a_job(JobState.QUEUED)), told)
    assert run.former == former
    assert JobRun(a_row()).former is None


def test_a_suspended_job_is_the_same_run_until_it_waits_for_another() -> None:
    row = a_row()
    run = JobRun(row)
    run.began(a_job(host="n1", run="1"))
    suspended = a_watch(a_job(JobState.QUEUED, suspended=True))
    run.left(suspended, None)
    row.state = State.QUEUED
    assert run.former is None
    assert not run.went_back(suspended)
    assert run.went_back(a_watch(a_job(JobState.QUEUED))), "it was requeued"
    assert run.went_back(a_watch(a_job(host="n1", run="2"))), "it has begun anew"
    run.began(a_job(host="n1", run="1"))
    assert not run.went_back(a_watch(a_job(JobState.QUEUED)))
