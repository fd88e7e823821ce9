"""What one service has of a session: its record, and what is told and done by it."""

import dataclasses
import time
from types import SimpleNamespace
from typing import Any

import pytest

from hpcbridge.clusters.watcher import Watch
from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.schedulers.base import JobInfo, JobState, Outlook
from hpcbridge.sessions.census import Census
from hpcbridge.sessions.session import REMOTE_CLIENT_LIFE, Session
from hpcbridge.store import RemoteClients, SessionRow, State

WAIT = 600.0
GPUS = Outlook("viz", 3, None, "2 GPUs", "partition")


def a_session(*, shared: bool = False, **columns: Any) -> Session:
    given = {"application": "cone", "cluster": "fake", "job_name": "n", "state": State.QUEUED}
    context: Any = SimpleNamespace(store=SimpleNamespace(shared=shared), census=Census())
    cluster: Any = SimpleNamespace(watcher=SimpleNamespace(drop=lambda watch: watch.changed()))
    application = ApplicationSettings(cluster="fake", template="t", wait=WAIT, keep=100)
    return Session(SessionRow(id="a" * 40, **(given | columns)), context, cluster, application)


def a_job(state: JobState = JobState.QUEUED, detail: str = "") -> JobInfo:
    return JobInfo("1", "n", state, detail=detail)


def newer(session: Session, **columns: Any) -> SessionRow:
    return session.row.model_copy(update={"version": session.row.version + 1} | columns)


@pytest.mark.parametrize(
    ("state", "settled", "stopping"),
    [
        (State.SUBMITTING, False, False),
        (State.QUEUED, False, False),
        (State.STARTING, False, False),
        (State.READY, True, False),
        (State.ENDED, True, True),
    ],
)
def test_whoever_waits_for_a_session_of_before_need_not_where_it_is_ready_or_over(
    state: State, *, settled: bool, stopping: bool
) -> None:
    session = a_session(state=state)
    assert (session.settled.is_set(), session.stopping) == (settled, stopping)
    session.stop()
    assert (session.stopping, session.moved.is_set()) == (True, True)
    assert a_session(state=state, stopped=True).stopping


def test_the_wait_of_a_job_is_told_in_numbers_and_words_of_one_moment() -> None:
    session = a_session()
    assert session.outlook == Outlook()
    session.note_wait(a_job(detail="Resources"), None)
    assert (session.outlook, session.row.message) == (
        Outlook(),
        "Waiting in the queue: Resources.",
    )
    session.note_wait(a_job(), GPUS)
    told = "Waiting for 2 GPUs; 3 jobs are ahead in partition viz."
    assert (session.outlook, session.row.message) == (GPUS, told)
    session.note_wait(a_job(), None)
    assert (session.outlook, session.row.message) == (GPUS, told), "it is not known anew"
    session.row.state = State.STARTING
    assert session.outlook == Outlook()
    session.row.state = State.QUEUED
    session.note_wait(a_job(), Outlook())
    assert (session.row.outlook, session.row.message) == (None, "Waiting.")
    session.note_wait(a_job(), GPUS)
    session.note_wait(a_job(JobState.RUNNING), None)
    assert (session.row.outlook, session.row.message) == (None, "Waiting.")


def test_a_launch_has_its_wait_and_a_job_that_waits_again_has_it_again() -> None:
    now = time.time()
    submitted = a_session(submitting_at=now - 400, queued_at=now - 390)
    assert submitted.gives_up_at == pytest.approx(now + WAIT - 400, abs=5)
    requeued = {"submitting_at": now - 9000, "ready_at": now - 8000, "queued_at": now - 100}
    assert a_session(**requeued).gives_up_at == pytest.approx(now + WAIT - 100, abs=5)
    started = requeued | {"ready_at": None, "queued_at": now - 8990}
    assert a_session(**started).gives_up_at == pytest.approx(now + WAIT - 9000, abs=5)
    unwritten = a_session()
    assert unwritten.gives_up_at == pytest.approx(now + WAIT, abs=5)
    for state in (State.READY, State.ENDED):
        assert a_session(state=state).gives_up_at is None
    unwritten.application = None
    assert unwritten.gives_up_at is None


def test_since_when_its_cluster_is_silent_is_known_by_whoever_watches_or_from_the_record() -> None:
    session = a_session(unknown_since=5.0)
    assert session.unknown_since == 5.0
    session.watch = Watch("1", "n", 0, lambda: None)
    assert session.unknown_since is None
    session.watch.unknown_since = 7.0
    assert session.unknown_since == 7.0


def test_a_job_is_watched_no_longer_where_another_replica_drives_its_session() -> None:
    session, dropped = a_session(), []
    session.let_go()
    session.watch = Watch("1", "n", 0, lambda: dropped.append(1))
    session.let_go()
    session.let_go()
    assert (session.watch, dropped) == (None, [1])


def test_clients_elsewhere_are_counted_only_where_there_may_be_any() -> None:
    assert a_session().remote_clients is None
    assert a_session(shared=True).remote_clients == RemoteClients(0, float("inf"))


@pytest.mark.parametrize("driven", [True, False])
def test_whoever_follows_takes_the_record_over_and_who_drives_what_clients_did(
    *, driven: bool
) -> None:
    session = a_session(message="ours", user=None)
    session.moved.clear()
    session.refresh(newer(session, message="theirs", user="ann", claimed=True), driven=driven)
    assert session.row.message == ("ours" if driven else "theirs")
    assert session.row.user == (None if driven else "ann")
    assert (session.row.claimed, session.keepalive.claimed, session.row.version) == (True, True, 1)
    assert session.moved.is_set()
    assert not session.stopping
    session.refresh(newer(session, stopped=True), driven=driven)
    session.refresh(newer(session, stopped=False), driven=driven)
    assert session.stopping, "a stop is not taken back"


def test_who_drives_a_warm_session_learns_whose_it_has_become() -> None:
    session = a_session(pool="cone")
    given = {"user": "ann", "taken_at": 5.0, "secret": "new", "message": "theirs"}
    session.refresh(newer(session, **given), driven=True)
    row = session.row
    assert (row.user, row.taken_at, row.secret, row.message) == ("ann", 5.0, "new", "")


def test_a_client_of_another_replica_keeps_a_session_until_it_leaves() -> None:
    session = a_session(shared=True)
    before = session.keepalive.until or 0.0
    session.refresh(newer(session, message="the same"), driven=True)
    assert session.keepalive.until == before
    session.refresh(newer(session, wanted_at=1.0), driven=True)
    assert (session.keepalive.until or 0.0) >= before + REMOTE_CLIENT_LIFE
    assert not session.keepalive.free
    session.refresh(newer(session, forsaken=True), driven=True)
    assert session.keepalive.free
    assert (session.keepalive.until or 0.0) < before + REMOTE_CLIENT_LIFE


def test_a_session_that_another_replica_drives_is_counted_where_it_stands() -> None:
    session = a_session(shared=True)
    session.refresh(newer(session, state=State.READY), driven=False)
    counts = session.context.census.counts
    assert +counts == {("cone", "fake", "ready"): 1}  # type: ignore[operator]


def test_what_is_older_than_our_own_is_not_taken_over() -> None:
    session = a_session(version=3)
    session.moved.clear()
    session.refresh(session.row.model_copy(update={"version": 2, "claimed": True}), driven=False)
    assert (session.row.claimed, session.moved.is_set()) == (False, False)
    session.refresh(session.row.model_copy(update={"claimed": True}), driven=False)
    assert session.row.claimed, "the same version is no older one"


def test_an_outlook_of_the_record_is_the_outlook() -> None:
    assert a_session(outlook=dataclasses.asdict(GPUS)).outlook == GPUS
