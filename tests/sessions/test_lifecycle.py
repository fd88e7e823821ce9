"""The life of one session: every step, every end, every restart; nothing is left behind."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from hpcbridge import tunnels as tunnels_module
from hpcbridge.clusters import queuestatus as queuestatus_module
from hpcbridge.clusters import watcher as watcher_module
from hpcbridge.clusters.cluster import Cluster
from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.config.installation import job_name
from hpcbridge.errors import (
    BridgeError,
    ClusterError,
    ClusterUnreachable,
    JobRejected,
    NoCapacity,
    NotReadyInTime,
    OutcomeUnknown,
    SessionFailed,
    StoreError,
    TemplateError,
    TunnelError,
    UnexpectedReply,
)
from hpcbridge.frontends.base import Routes
from hpcbridge.frontends.table import RouteTable
from hpcbridge.schedulers.base import EndReason, JobRequest, JobState, Outlook
from hpcbridge.sessions.context import SessionContext, Timing
from hpcbridge.sessions.following import follow
from hpcbridge.sessions.lifecycle import drive
from hpcbridge.sessions.session import Session
from hpcbridge.sessions.startup import Startup
from hpcbridge.sessions.submission import ATTEMPTS
from hpcbridge.sessions.teardown import Teardown
from hpcbridge.store import SessionRow, State
from hpcbridge.web import events as events_module
from tests.fakes import (
    FakeFiles,
    FakePublisher,
    FakeScheduler,
    FakeTransport,
    FlakyStore,
    fake_cluster,
)
from tests.waiting import until

ID = "A" * 32
LINE = "Starting factory"
FAST = Timing(retry=0.02, retry_limit=0.05, reopen=0.02)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_module, "LEAST", 0.002)
    for name in ("STARTING", "WAITING", "QUIET", "FAILING"):
        monkeypatch.setattr(watcher_module, f"INTERVAL_{name}", 0.01)


@dataclass
class World:
    """A service with one session on a cluster of fakes."""

    store: FlakyStore
    publisher: FakePublisher
    files: FakeFiles
    cluster: Cluster
    port: int
    sockets: Path
    routes: RouteTable
    wait: float = 60
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    unix: bool = False
    timing: Timing = FAST

    @property
    def scheduler(self) -> FakeScheduler:
        return cast(FakeScheduler, self.cluster.scheduler)

    @property
    def transport(self) -> FakeTransport:
        return cast(FakeTransport, self.cluster.transport)

    @property
    def session(self) -> Session:
        return self.sessions[-1]

    @property
    def row(self) -> SessionRow:
        return self.session.row

    def has_grace(self, seconds: float) -> None:
        """The grace of the cluster, which is short otherwise."""
        changed = {"grace": seconds}
        self.cluster.settings = self.cluster.settings.model_copy(update=changed)

    def application(self) -> ApplicationSettings:
        return ApplicationSettings(cluster="fake", template="t", wait=self.wait)

    def take(
        self, row: SessionRow, *, configured: bool = True, address: str | None = None
    ) -> Session:
        context = SessionContext(
            self.store,
            self.routes,
            cast(Any, self.files),
            self.sockets if self.unix else None,
            timing=self.timing,
        )
        application = self.application() if configured else None
        self.sessions.append(Session(row, context, self.cluster, application, address=address))
        self.tasks.append(asyncio.create_task(drive(self.session)))
        return self.session

    async def launch(self) -> Session:
        row = SessionRow(
            id=ID,
            secret="s3cret",
            application="cone",
            cluster="fake",
            job_name=job_name(ID, "0" * 8),
            submitting_at=time.time(),
        )
        await self.store.add(row)
        return self.take(row)

    async def restart(self, *, configured: bool = True) -> Session:
        """The service is killed; the next one reads the row."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.session.release()
        if self.session.watch is not None:
            self.cluster.watcher.drop(self.session.watch)
        with contextlib.suppress(BridgeError):
            await self.routes.remove(ID)
        row = await self.store.get(ID)
        assert row is not None
        address = (await self.store.endpoints.here()).get(ID)
        return self.take(row, configured=configured, address=address)

    async def queued(self) -> Session:
        session = await self.launch()
        await until(lambda: session.row.state == State.QUEUED)
        return session

    async def starting(self) -> Session:
        session = await self.queued()
        self.scheduler.run(self.row.job_id or "")
        await until(lambda: session.row.state == State.STARTING)
        return session

    def become_ready(self, port: int | None = None) -> None:
        application = self.transport.session(self.row)
        application.tells(f"port={port or self.port}\n")
        application.prints(f"noise\nwslink: {LINE}")

    async def ready(self) -> Session:
        session = await self.starting()
        self.become_ready()
        await until(lambda: session.row.state == State.READY)
        return session

    async def over(self) -> SessionRow:
        """Wait until all is cleaned up; the row as it was written."""
        await asyncio.wait_for(asyncio.shield(self.tasks[-1]), 60)
        row = await self.store.get(ID)
        assert row is not None
        return row


@pytest.fixture
async def world(tmp_path: Path, directory: Path) -> AsyncIterator[World]:
    store = await FlakyStore.open(f"sqlite+aiosqlite:///{tmp_path}/db.sqlite")
    assert isinstance(store, FlakyStore)
    publisher = FakePublisher()
    routes = RouteTable([publisher])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    world = World(
        store,
        publisher,
        FakeFiles(),
        fake_cluster(),
        server.sockets[0].getsockname()[1],
        directory,
        routes,
    )
    yield world
    for task in world.tasks:
        task.cancel()
    await asyncio.gather(*world.tasks, return_exceptions=True)
    for session in world.sessions:
        await session.release()
    await routes.close()
    await world.cluster.close()
    await store.close()
    server.close()
    await server.wait_closed()


def nothing_is_left(world: World) -> None:
    assert world.scheduler.living == []
    assert world.transport.files == {}
    assert world.publisher.routes == {}
    assert list(world.sockets.glob("*.sock")) == []
    assert world.cluster.watcher._watches == set()
    assert world.cluster.follower._followed == set()


async def ended(world: World, reason: EndReason, *words: str, error: type = SessionFailed) -> None:
    """The session has ended for this reason, whoever waited was told, and nothing is left."""
    row = await world.over()
    assert (row.state, row.reason) == (State.ENDED, reason)
    assert row.secret is None
    assert await world.store.endpoints.here() == {}
    assert row.ended_at is not None
    assert row.job_ended
    assert world.session.settled.is_set()
    assert type(world.session.error) is error
    for word in words:
        assert word in str(world.session.error), str(world.session.error)
        assert word in row.message
    nothing_is_left(world)


# -- the way to ready


async def test_a_session_goes_through_all_its_states_to_ready(world: World) -> None:
    session = await world.ready()
    row = await world.store.get(ID)
    assert row is not None
    times = [row.submitting_at, row.queued_at, row.starting_at, row.ready_at]
    assert times == sorted(each for each in times if each is not None)
    assert (row.host, row.port, row.job_id) == ("localhost", world.port, "1")
    assert world.publisher.routes == {ID: session.endpoint.address}
    assert await world.store.endpoints.here() == world.publisher.routes
    assert session.settled.is_set()
    assert session.error is None
    assert world.cluster.follower._followed == set()
    request = world.scheduler.submitted[0]
    assert request.name == job_name(ID, "0" * 8)
    assert request.directory == f"/s/{request.name}"
    assert ID not in request.name


async def test_ready_means_that_the_application_accepts_connections(world: World) -> None:
    await world.ready()
    host, _, port = (world.session.endpoint.address or "").rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.close()
    await writer.wait_closed()


async def test_the_local_end_can_be_a_unix_socket(world: World) -> None:
    world.unix = True
    await world.ready()
    path = world.sockets / f"{ID}.sock"
    assert world.session.endpoint.address == f"unix:{path}"
    assert path.is_socket()
    world.session.stop()
    await ended(world, EndReason.STOPPED)


async def test_a_ready_line_without_a_port_waits_for_the_port(world: World) -> None:
    await world.starting()
    application = world.transport.session(world.row)
    application.prints(LINE)
    await asyncio.sleep(0.1)
    assert world.row.state == State.STARTING
    application.tells(f"port={world.port}\n")
    await until(lambda: world.row.state == State.READY)


async def test_a_ready_line_counts_only_once_the_scheduler_told_the_host(world: World) -> None:
    await world.queued()
    world.become_ready()
    await asyncio.sleep(0.1)
    assert world.row.state == State.QUEUED
    world.scheduler.run("1")
    await until(lambda: world.row.state == State.READY)


async def test_why_a_job_waits_is_told(world: World) -> None:
    await world.queued()
    world.scheduler.change("1", detail="Resources")
    await until(lambda: world.row.message == "Waiting in the queue: Resources.")


async def test_for_what_and_behind_whom_a_job_waits_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queuestatus_module, "PATIENCE", 0.0)
    world.scheduler.outlooks["1"] = Outlook("viz", 14, None, "2 GPUs", "partition")
    await world.queued()
    expected = "Waiting for 2 GPUs; 14 jobs are ahead in partition viz."
    await until(lambda: world.row.message == expected)
    assert world.session.outlook == world.scheduler.outlooks["1"]
    world.scheduler.run("1")
    await until(lambda: world.row.state == State.STARTING)
    assert world.session.outlook == Outlook()


async def test_a_place_in_the_queue_is_told_in_numbers_and_words_of_one_moment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queuestatus_module, "PATIENCE", 0.0)
    world.scheduler.outlooks["1"] = Outlook("viz", 14, None, "2 GPUs", "partition")
    session = await world.queued()
    await until(lambda: session.outlook.ahead == 14)
    assert "14 jobs are ahead" in session.row.message
    watch = session.watch
    assert watch is not None
    world.scheduler.outlooks["1"] = watch.outlook = Outlook("viz", 3, None, "2 GPUs", "partition")
    assert session.outlook.ahead == 14  # as long as the message says so
    assert "14 jobs are ahead" in session.row.message
    watch.changed()
    await until(lambda: session.outlook.ahead == 3)
    assert "3 jobs are ahead" in session.row.message
    world.scheduler.change("1", state=JobState.RUNNING, host=None)  # on no node yet
    await until(lambda: session.outlook == Outlook())
    assert "ahead" not in session.row.message


async def test_a_job_that_can_never_start_ends_the_session_and_is_cancelled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "HOPELESS", 0.1)
    await world.queued()
    world.scheduler.change("1", hopeless="The job can never start: too much.")
    await ended(world, EndReason.REJECTED, "can never start: too much.", error=JobRejected)
    await until(lambda: world.scheduler.cancelled)


async def test_a_job_that_is_hopeless_for_a_moment_only_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "HOPELESS", 60.0)
    await world.queued()
    world.scheduler.change("1", hopeless="The job can never start: too much.", detail="No.")
    await until(lambda: "No." in world.row.message)
    world.scheduler.run("1")
    await until(lambda: world.row.state == State.STARTING)


# -- how it can end before it is ready


@pytest.mark.parametrize(
    "fault", [JobRejected("Slurm refused the job: bad partition"), NoCapacity("All slots taken")]
)
async def test_a_refused_job_ends_the_session_with_the_schedulers_words(
    world: World, fault: BridgeError
) -> None:
    world.scheduler.submit_fault = fault
    await world.launch()
    await ended(world, EndReason.REJECTED, str(fault), error=type(fault))


async def test_a_cluster_that_is_down_at_submit_is_told_at_once(world: World) -> None:
    world.scheduler.submit_fault = ClusterUnreachable("The controller does not answer")
    await world.launch()
    await ended(world, EndReason.REJECTED, "does not answer", error=ClusterUnreachable)
    assert len(world.scheduler.submitted) == 1


async def test_a_directory_that_cannot_be_staged_is_told(world: World) -> None:
    world.transport.stage_fault = ClusterError("The disk is full")
    await world.launch()
    await ended(world, EndReason.REJECTED, "disk is full", error=ClusterError)
    assert world.scheduler.submitted == []


async def test_a_broken_template_is_told(world: World) -> None:
    world.files.fault = TemplateError("job.sh: line 3")
    await world.launch()
    await ended(world, EndReason.REJECTED, "line 3", error=TemplateError)


@pytest.mark.parametrize(
    ("reason", "status", "words"),
    [
        (EndReason.FAILED, 139, "exit status 139"),
        (EndReason.FAILED, -11, "signal 11"),
        (EndReason.OUT_OF_MEMORY, None, "more memory"),
        (EndReason.TIMED_OUT, 0, "used up its walltime"),
        (EndReason.NODE_FAILED, None, "node failed"),
        (EndReason.PREEMPTED, None, "make room"),
        (EndReason.CANCELLED, -15, "was cancelled"),
    ],
)
async def test_a_job_that_dies_before_it_is_ready_is_told_with_its_last_lines(
    world: World, reason: EndReason, status: int | None, words: str
) -> None:
    await world.starting()
    world.transport.session(world.row).prints("cannot open display\n")
    world.scheduler.end("1", reason, status, detail="Why")
    await ended(world, reason, "before it was ready", words, "cannot open display", "(Why)")
    assert (world.row.exit_status, world.row.log_tail) == (status, "cannot open display")


async def test_an_application_that_ends_well_before_it_is_ready_has_failed(world: World) -> None:
    await world.starting()
    world.scheduler.end("1", EndReason.FINISHED, 0)
    await ended(world, EndReason.FAILED, "exit status 0", "It printed nothing")


async def test_a_job_that_is_over_before_it_was_seen_to_run_is_told(world: World) -> None:
    await world.queued()
    world.scheduler.end("1", EndReason.FAILED, 127)
    await ended(world, EndReason.FAILED, "127")


async def test_a_job_that_never_gets_ready_is_ended_in_time(world: World) -> None:
    world.wait = 2
    await world.starting()
    world.transport.session(world.row).prints("still loading\n")
    await ended(
        world,
        EndReason.NEVER_READY,
        "not ready after 2 s",
        LINE,
        "still loading",
        error=NotReadyInTime,
    )
    assert set(world.scheduler.cancelled) == {"1"}  # maybe more than once


async def test_a_job_that_waits_too_long_is_cancelled(world: World) -> None:
    world.wait = 1.5
    await world.queued()
    world.scheduler.change("1", detail="Priority")
    await ended(
        world, EndReason.NEVER_READY, "still in the queue", "Priority", error=NotReadyInTime
    )


@pytest.mark.parametrize(("by", "wait"), [(7200, 300.0), (-7200, 1.5)])
async def test_a_launch_may_take_as_long_as_before_when_the_clock_is_set(
    world: World, monkeypatch: pytest.MonkeyPatch, by: int, wait: float
) -> None:
    world.wait, real, submit = wait, time.time, world.scheduler.submit

    async def meanwhile(request: JobRequest) -> str:
        monkeypatch.setattr(time, "time", lambda: real() + by)
        return await submit(request)

    monkeypatch.setattr(world.scheduler, "submit", meanwhile)
    if by > 0:
        await world.ready()
    else:
        await world.queued()
        await ended(world, EndReason.NEVER_READY, "still in the queue", error=NotReadyInTime)


async def test_an_application_that_does_not_listen_ends_the_session(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnels_module, "PROBE_TIME", 0.2)
    await world.starting()
    with contextlib.closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        world.become_ready(bound.getsockname()[1])
        await ended(world, EndReason.FAILED, "nothing accepts connections", error=TunnelError)


async def test_a_host_that_is_not_allowed_ends_the_session(world: World) -> None:
    await world.queued()
    world.scheduler.run("1", host="169.254.169.254")
    await until(lambda: world.row.state == State.STARTING)
    world.become_ready()
    await ended(world, EndReason.FAILED, "169.254.169.254", error=TunnelError)


async def test_a_front_end_that_cannot_be_told_ends_the_session(world: World) -> None:
    await world.starting()
    world.publisher.failing = 1
    world.become_ready()
    row = await world.over()
    assert row.reason == EndReason.FAILED
    assert "map cannot be written" in row.message
    nothing_is_left(world)


# -- how it can end later


@pytest.mark.parametrize("reason", [EndReason.FINISHED, EndReason.TIMED_OUT, EndReason.PREEMPTED])
async def test_a_ready_session_ends_with_its_job(world: World, reason: EndReason) -> None:
    await world.ready()
    world.scheduler.end("1", reason, 0)
    await ended(world, reason, "session is over")


async def test_a_ready_session_whose_job_vanished_is_over(world: World) -> None:
    await world.ready()
    del world.scheduler.jobs["1"]
    await ended(world, EndReason.FINISHED, "no longer knows")


@pytest.mark.parametrize("state", ["queued", "starting", "ready"])
async def test_an_outage_ends_nothing_and_is_shown(world: World, state: str) -> None:
    session = await getattr(world, state)()
    world.scheduler.down = ClusterUnreachable("down")
    world.transport.down = ClusterUnreachable("down")
    await until(lambda: session.watch and session.watch.unknown_since)
    await asyncio.sleep(0.1)
    assert session.row.state == State(state)
    world.scheduler.down = world.transport.down = None
    await until(lambda: session.watch and session.watch.unknown_since is None)
    assert session.row.state == State(state)


async def test_a_cluster_that_stays_silent_is_given_up_by_who_waits_but_cleaned_up(
    world: World,
) -> None:
    world.wait = 1.5
    await world.queued()
    world.scheduler.down = ClusterUnreachable("down")
    await until(lambda: world.row.state == State.ENDED)
    assert isinstance(world.session.error, NotReadyInTime)
    assert "does not answer" in str(world.session.error)
    assert not world.tasks[-1].done()
    world.scheduler.down = None
    await ended(world, EndReason.NEVER_READY, error=NotReadyInTime)


# -- stopping


@pytest.mark.parametrize("state", ["launch", "queued", "starting", "ready"])
async def test_a_session_can_be_stopped_in_every_state(world: World, state: str) -> None:
    session = await getattr(world, state)()
    session.stop()
    assert session.stopping
    await ended(world, EndReason.STOPPED, "was stopped")


async def test_stopping_twice_is_stopping(world: World) -> None:
    session = await world.ready()
    session.stop()
    session.stop()
    await ended(world, EndReason.STOPPED)


async def test_the_route_is_gone_before_the_job_is_cancelled(world: World) -> None:
    session = await world.ready()
    world.scheduler.down = ClusterUnreachable("down")
    session.stop()
    await until(lambda: session.row.state == State.ENDED and not world.publisher.routes)
    assert world.scheduler.living == ["1"]
    world.scheduler.down = None
    await ended(world, EndReason.STOPPED)


async def test_cancelling_is_repeated_until_the_job_is_over(world: World) -> None:
    session = await world.ready()
    world.scheduler.ignores_cancel = 3
    session.stop()
    await ended(world, EndReason.STOPPED)
    assert len(world.scheduler.cancelled) >= 4


async def test_a_directory_that_is_busy_is_removed_later(world: World) -> None:
    session = await world.ready()
    world.transport.remove_faults = 2
    session.stop()
    await ended(world, EndReason.STOPPED)


# -- a submission whose outcome is unknown


@pytest.mark.parametrize("fault", [OutcomeUnknown("timed out"), UnexpectedReply("too much")])
async def test_a_job_that_was_accepted_all_the_same_is_adopted(
    world: World, fault: ClusterError
) -> None:
    world.scheduler.submit_fault, world.scheduler.accepts = fault, True
    await world.queued()
    assert world.row.job_id == "1"
    assert len(world.scheduler.submitted) == 1


async def test_a_job_that_appears_late_is_adopted(world: World) -> None:
    world.scheduler.submit_fault, world.scheduler.accepts = OutcomeUnknown("timed out"), True
    world.scheduler.appears_after = 3
    world.has_grace(60)
    await world.queued()
    assert len(world.scheduler.submitted) == 1


async def test_a_job_that_never_appears_is_submitted_again_under_another_name(
    world: World,
) -> None:
    world.scheduler.submit_fault = OutcomeUnknown("timed out")
    began = time.monotonic()
    session = await world.queued()
    assert time.monotonic() - began >= world.cluster.settings.grace
    first, second = world.scheduler.submitted
    assert (first.name, second.name) == (session.row.job_name, f"{session.row.job_name}-1")
    assert session.row.directory == second.directory == f"{first.directory}-1"
    assert {path.rpartition("/")[0] for path in world.transport.files} == {second.directory}
    session.stop()
    await ended(world, EndReason.STOPPED)


async def test_jobs_that_never_appear_are_given_up_after_a_few_attempts(world: World) -> None:
    submit = world.scheduler.submit

    async def lost(request: JobRequest) -> str:
        world.scheduler.submit_fault = OutcomeUnknown("timed out")
        return await submit(request)

    world.scheduler.submit = lost  # type: ignore[method-assign]
    await world.launch()
    await ended(world, EndReason.REJECTED, "did not take the job")
    assert len({request.name for request in world.scheduler.submitted}) == ATTEMPTS


async def test_the_directory_of_an_attempt_is_gone_before_the_next_is_submitted(
    world: World,
) -> None:
    """A job that is born after all finds neither its script nor the secret."""
    world.scheduler.submit_fault = OutcomeUnknown("timed out")
    submit, seen = world.scheduler.submit, []

    async def look(request: JobRequest) -> str:
        seen.append({path.rpartition("/")[0] for path in world.transport.files})
        return await submit(request)

    world.scheduler.submit = look  # type: ignore[method-assign]
    await world.queued()
    assert seen == [{request.directory} for request in world.scheduler.submitted]


@pytest.mark.parametrize("error", [ClusterUnreachable("down"), UnexpectedReply("garbage")])
async def test_looking_it_up_goes_on_while_the_cluster_cannot_be_asked(
    world: World, error: ClusterError
) -> None:
    world.scheduler.submit_fault, world.scheduler.accepts = OutcomeUnknown("timed out"), True
    world.scheduler.down = error
    session = await world.launch()
    await asyncio.sleep(0.3)
    assert session.row.state == State.SUBMITTING
    world.scheduler.down = None
    await until(lambda: session.row.state == State.QUEUED)


async def test_who_waits_is_not_kept_for_ever_by_a_cluster_that_stays_silent(
    world: World,
) -> None:
    world.wait = 0.3
    world.scheduler.submit_fault, world.scheduler.accepts = OutcomeUnknown("timed out"), True
    world.scheduler.down = ClusterUnreachable("down")
    session = await world.launch()
    await until(lambda: session.row.state == State.ENDED)
    assert isinstance(session.error, NotReadyInTime)
    world.scheduler.down = None
    await ended(world, EndReason.NEVER_READY, error=NotReadyInTime)


async def test_a_job_that_appears_after_its_session_was_stopped_is_cancelled(world: World) -> None:
    world.scheduler.submit_fault, world.scheduler.accepts = OutcomeUnknown("timed out"), True
    world.scheduler.appears_after = 4
    world.has_grace(60)
    session = await world.launch()
    await until(lambda: world.scheduler.looks)
    session.stop()
    await ended(world, EndReason.STOPPED)
    assert set(world.scheduler.cancelled) == {"1"}  # maybe more than once


# -- the store fails


@pytest.mark.parametrize("state", [State.QUEUED, State.STARTING, State.READY])
async def test_a_step_waits_for_the_store_and_nothing_ends(world: World, state: State) -> None:
    update, away = world.store.update, True
    asked = 0

    async def selective(row: SessionRow, **changes: Any) -> bool:
        nonlocal asked
        if away and changes.get("state") == state:
            asked += 1
            raise StoreError("The database is locked.")
        return await update(row, **changes)

    world.store.update = selective  # type: ignore[method-assign]
    session = await world.launch()
    await until(lambda: world.scheduler.jobs)
    world.scheduler.run("1")
    await until(lambda: session.row.directory)
    world.become_ready()
    await until(lambda: asked > 2)
    assert session.row.state not in (state, State.ENDED)
    assert world.scheduler.cancelled == []
    away = False
    await until(lambda: session.row.state == State.READY)
    assert len(world.scheduler.submitted) == 1


async def test_a_door_that_cannot_be_written_down_ends_nothing_and_leads_nowhere(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_endpoint, asked, away = world.store.endpoints.put, 0, True

    async def selective(session_id: str, address: str) -> None:
        nonlocal asked
        if away:
            asked += 1
            raise StoreError("The database is locked.")
        await set_endpoint(session_id, address)

    monkeypatch.setattr(world.store.endpoints, "put", selective)
    session = await world.starting()
    world.become_ready()
    await until(lambda: asked > 2)
    assert session.row.state == State.STARTING
    assert world.publisher.routes == {}
    away = False
    await until(lambda: session.row.state == State.READY)
    assert world.publisher.routes == await world.store.endpoints.here()


async def test_a_session_can_be_stopped_while_a_step_waits_for_the_store(world: World) -> None:
    update = world.store.update

    async def selective(row: SessionRow, **changes: Any) -> bool:
        if changes.get("state") == State.QUEUED:
            raise StoreError("The database is locked.")
        return await update(row, **changes)

    world.store.update = selective  # type: ignore[method-assign]
    session = await world.launch()
    await until(lambda: world.scheduler.jobs)
    session.stop()
    await ended(world, EndReason.STOPPED)
    assert set(world.scheduler.cancelled) == {"1"}  # maybe more than once


async def test_an_end_that_cannot_be_written_is_told_and_written_later(world: World) -> None:
    session = await world.ready()
    world.store.failing = True
    session.stop()
    await until(lambda: session.row.state == State.ENDED)
    assert session.settled.is_set()
    await asyncio.sleep(0.1)
    assert not world.tasks[-1].done()
    world.store.failing = False
    await ended(world, EndReason.STOPPED)


async def test_the_true_reason_is_kept_although_the_store_failed_meanwhile(world: World) -> None:
    await world.starting()
    world.store.failing = True
    world.scheduler.end("1", EndReason.OUT_OF_MEMORY)
    await until(lambda: world.row.state == State.ENDED)
    world.store.failing = False
    await ended(world, EndReason.OUT_OF_MEMORY, "more memory")


# -- a new service takes it up


async def test_a_service_that_died_before_it_staged_begins_again(world: World) -> None:
    world.transport.stage_fault = None
    row = SessionRow(
        id=ID,
        application="cone",
        cluster="fake",
        job_name=job_name(ID, "0" * 8),
        submitting_at=time.time(),
    )
    await world.store.add(row)
    world.take(row)
    await until(lambda: row.state == State.QUEUED)
    assert len(world.scheduler.submitted) == 1


async def test_a_service_that_died_while_it_submitted_adopts_the_job(world: World) -> None:
    await world.queued()
    await world.store.update(world.row, state=State.SUBMITTING, job_id=None)
    session = await world.restart()
    await until(lambda: session.row.state == State.QUEUED)
    assert session.row.job_id == "1"
    assert len(world.scheduler.submitted) == 1


async def test_a_service_that_died_before_it_submitted_submits_again(world: World) -> None:
    await world.queued()
    await world.store.update(world.row, state=State.SUBMITTING, job_id=None)
    world.scheduler.jobs.clear()
    session = await world.restart()
    await until(lambda: session.row.state == State.QUEUED)
    assert [request.name for request in world.scheduler.submitted] == session.row.attempt_names


async def test_a_queued_session_keeps_waiting(world: World) -> None:
    await world.queued()
    session = await world.restart()
    world.scheduler.run("1")
    await until(lambda: session.row.state == State.STARTING)
    world.become_ready()
    await until(lambda: session.row.state == State.READY)
    assert len(world.scheduler.submitted) == 1


async def test_a_starting_session_is_followed_on(world: World) -> None:
    await world.starting()
    world.transport.session(world.row).prints("wslink: Starting fac")
    session = await world.restart()
    world.transport.session(world.row).prints("tory")
    world.transport.session(world.row).tells(f"port={world.port}\n")
    await until(lambda: session.row.state == State.READY)


@pytest.mark.parametrize("unix", [False, True])
async def test_a_ready_session_gets_its_tunnel_back_on_the_same_local_end(
    world: World, unix: bool
) -> None:
    world.unix = unix
    await world.ready()
    address = world.session.endpoint.address
    session = await world.restart()
    assert session.settled.is_set()
    await until(lambda: world.publisher.routes == {ID: address})
    assert session.endpoint.address == address


async def test_a_tunnel_that_cannot_be_reopened_is_tried_again(world: World) -> None:
    await world.ready()
    address = world.session.endpoint.address
    world.publisher.failing = 3
    session = await world.restart()
    await until(lambda: not world.publisher.failing and world.routes.lookup(ID))
    assert world.publisher.routes == {ID: address}
    assert session.row.state == State.READY
    session.stop()
    await ended(world, EndReason.STOPPED)


@pytest.mark.parametrize("state", ["queued", "starting", "ready"])
async def test_a_job_that_ended_while_the_service_was_away_ends_its_session(
    world: World, state: str
) -> None:
    await getattr(world, state)()
    world.scheduler.end("1", EndReason.TIMED_OUT)
    await world.restart()
    row = await world.over()
    assert row.reason == EndReason.TIMED_OUT
    nothing_is_left(world)


@pytest.mark.parametrize("state", ["queued", "starting", "ready"])
async def test_an_application_that_is_no_longer_configured_is_ended(
    world: World, state: str
) -> None:
    await getattr(world, state)()
    await world.restart(configured=False)
    await ended(world, EndReason.STOPPED, "no longer configured")


async def test_a_stop_that_the_service_did_not_finish_is_finished_by_the_next(
    world: World,
) -> None:
    session = await world.ready()
    world.scheduler.down = ClusterUnreachable("down")
    session.stop()
    await until(lambda: session.row.state == State.ENDED)
    world.scheduler.down = None
    await world.restart()
    row = await world.over()
    assert (row.reason, row.job_ended) == (EndReason.STOPPED, True)
    assert set(world.scheduler.cancelled) == {"1"}  # maybe more than once
    nothing_is_left(world)


async def test_an_end_without_a_job_id_still_looks_for_a_late_job(world: World) -> None:
    await world.queued()
    await world.store.update(world.row, state=State.SUBMITTING, job_id=None)
    await world.store.update(world.row, state=State.ENDED, reason=EndReason.STOPPED)
    world.has_grace(60)
    hidden = dict(world.scheduler.jobs)
    world.scheduler.jobs.clear()
    looks = world.scheduler.looks
    await world.restart()
    await until(lambda: world.scheduler.looks > looks)
    world.scheduler.jobs |= hidden
    row = await world.over()
    assert row.job_ended
    nothing_is_left(world)


async def test_a_record_that_is_not_complete_is_ended(world: World) -> None:
    await world.ready()
    await world.store.update(world.row, port=None)
    await world.restart()
    await ended(world, EndReason.FAILED, "not complete")


async def test_the_deadline_counts_from_the_launch_also_after_a_restart(world: World) -> None:
    await world.queued()
    await world.store.update(world.row, submitting_at=time.time() - 3600)
    await world.restart()
    await ended(world, EndReason.NEVER_READY, "still in the queue", error=NotReadyInTime)


async def test_a_released_session_leaves_its_job_running(world: World) -> None:
    session = await world.ready()
    world.tasks[-1].cancel()
    await asyncio.gather(*world.tasks, return_exceptions=True)
    await session.release()
    assert world.scheduler.jobs["1"].state == JobState.RUNNING
    assert session.row.state == State.READY


async def test_a_session_whose_port_was_taken_meanwhile_gets_another(world: World) -> None:
    await world.ready()
    host, _, port = (world.session.endpoint.address or "").rpartition(":")
    await world.session.release()
    loop = asyncio.get_running_loop()
    taker = await loop.create_server(asyncio.Protocol, host, int(port))
    session = await world.restart()
    await until(lambda: session.endpoint.address not in (f"{host}:{port}", f"{host}:0"))
    assert world.publisher.routes == {ID: session.endpoint.address}
    taker.close()
    await taker.wait_closed()


async def test_a_route_that_could_not_be_withdrawn_is_withdrawn_later(world: World) -> None:
    session = await world.ready()
    world.publisher.failing = 2
    session.stop()
    await ended(world, EndReason.STOPPED)


async def test_a_stop_while_the_tunnel_is_probed_ends_the_session_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnels_module, "PROBE_TIME", 60.0)
    session = await world.starting()
    with contextlib.closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        world.become_ready(bound.getsockname()[1])
        await asyncio.sleep(0.1)
        session.stop()
        await ended(world, EndReason.STOPPED)


async def test_a_secret_that_an_application_prints_is_not_kept(world: World) -> None:
    await world.starting()
    world.transport.session(world.row).prints("authKey is s3cret\n")
    world.scheduler.end("1", EndReason.FAILED, 1)
    await ended(world, EndReason.FAILED, "authKey is ********")
    assert "s3cret" not in world.row.log_tail


async def test_what_nobody_wants_any_more_is_cancelled_without_haste(world: World) -> None:
    """The time to keep it is over for good, and must not turn waiting into spinning."""
    world.timing = Timing(retry=0.1)
    await world.starting()
    world.scheduler.ignores_cancel = 1000
    world.session.keepalive._keep = 0
    world.session.keepalive.elsewhere(0)
    await until(lambda: world.row.state == State.ENDED)
    assert world.row.reason == EndReason.IDLE
    began, before = time.monotonic(), len(world.scheduler.cancelled)
    await until(lambda: len(world.scheduler.cancelled) > before + 5, "six more attempts")
    assert time.monotonic() - began > 0.4
    world.scheduler.ignores_cancel = 0
    await until(lambda: world.row.job_ended)


async def test_a_stop_is_not_forgotten_by_a_service_that_is_killed(world: World) -> None:
    session = await world.ready()
    await world.store.update(session.row, stopped=True)
    await world.restart()
    await ended(world, EndReason.STOPPED)


async def test_a_stop_that_came_before_the_job_was_submitted_submits_none(world: World) -> None:
    """The service was killed when the stop was written down."""
    world.transport.down = ClusterUnreachable("down")
    session = await world.launch()
    session.row.state, session.row.stopped = State.SUBMITTING, True
    await world.store.update(session.row, state=State.SUBMITTING, stopped=True, directory="")
    world.transport.down = None
    await world.restart()
    await ended(world, EndReason.STOPPED)
    assert world.scheduler.submitted == []


async def test_who_follows_the_progress_of_a_quiet_session_does_not_keep_it_busy(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for a session keeps it; that is no news of it, or one question would be the next."""
    monkeypatch.setattr(events_module, "LOOK", 60)
    session = await world.queued()
    await until(lambda: session.watch and session.watch.queued)
    described = 0

    async def describe() -> dict[str, Any]:
        nonlocal described
        described += 1
        session.keepalive.touch()  # as GET does
        return {"state": session.row.state}

    async def listen() -> None:
        async for _ in events_module.stream(describe, lambda: session.news, lambda: False):
            pass

    world.tasks.insert(0, asyncio.create_task(listen()))
    await until(lambda: described)
    for _ in range(200):
        await asyncio.sleep(0)
    assert described <= 2


async def test_a_route_that_is_published_when_nobody_wants_it_any_more_is_withdrawn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task is cancelled where another replica takes the session over."""
    publish, going_on = world.publisher.publish, asyncio.Event()
    writing = asyncio.Event()

    async def slow(routes: Routes) -> None:
        writing.set()
        await going_on.wait()
        await publish(routes)

    monkeypatch.setattr(world.publisher, "publish", slow)
    await world.starting()
    world.become_ready()
    await writing.wait()
    world.tasks[-1].cancel()
    going_on.set()
    await asyncio.wait(world.tasks)
    assert world.publisher.routes == {}


async def test_whoever_drives_a_session_that_another_ended_closes_its_door_and_tells(
    world: World,
) -> None:
    """A leader stood still, or a follower became the leader, when the session's end was written."""
    await world.ready()
    task = world.tasks[-1]
    task.cancel()
    await asyncio.wait({task})
    end = {"state": State.ENDED, "reason": EndReason.STOPPED, "message": "The session was stopped."}
    await world.store.update(world.row, **end, secret=None, ended_at=time.time())
    world.session.settled.clear()
    world.tasks.append(asyncio.create_task(drive(world.session)))
    await ended(world, EndReason.STOPPED)
    assert world.session.endpoint.state is None


@pytest.mark.parametrize(
    "fault",
    [ClusterUnreachable("No answer"), JobRejected("No such queue"), TemplateError("job.sh")],
)
async def test_a_replica_that_follows_and_a_service_that_begins_anew_tell_the_same_error(
    world: World, fault: BridgeError
) -> None:
    world.scheduler.submit_fault = fault
    session = await world.launch()
    await session.settled.wait()
    assert session.error is not None
    here = (type(session.error), str(session.error), session.error.status)
    written = await world.store.get(ID)
    assert written is not None
    for elsewhere in (follow, drive):
        other = Session(written, session.context, world.cluster, world.application())
        task = asyncio.create_task(elsewhere(other))
        await until(lambda other=other: other.error is not None)
        task.cancel()
        await asyncio.wait({task})
        assert other.error is not None
        assert (type(other.error), str(other.error), other.error.status) == here


@pytest.mark.parametrize("when", ["before it is ready", "when it has ended"])
async def test_a_fault_of_ours_is_told_and_the_session_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    early = when == "before it is ready"
    part, name = (Startup, "_advance") if early else (Teardown, "_end_job")
    whole, faults = getattr(part, name), [RuntimeError("can't start new thread")]

    async def broken(part: Any, *arguments: Any) -> Any:
        if faults:
            raise faults.pop()
        return await whole(part, *arguments)

    async def wait(session: Session) -> str:
        await session.settled.wait()
        return str(session.error)

    monkeypatch.setattr(part, name, broken)
    session = await world.launch()
    waiting = asyncio.create_task(wait(session))
    if when == "when it has ended":
        session.stop()
        await ended(world, EndReason.STOPPED)
        assert "was stopped" in await waiting
    else:
        assert "Internal error" in await waiting
        world.scheduler.run("1")
        world.become_ready()
        await until(lambda: session.row.state == State.READY)
        assert session.error is None
        assert len(world.cluster.watcher._watches) == 1


async def test_the_true_reason_is_told_although_the_output_cannot_be_understood(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(_: object) -> list[bytes | None]:
        raise UnexpectedReply("hpcbridge-files: not all was read")

    await world.starting()
    monkeypatch.setattr(world.transport, "read", read)
    world.scheduler.end("1", EndReason.OUT_OF_MEMORY, 137)
    await ended(world, EndReason.OUT_OF_MEMORY, "more memory")


async def test_a_follower_withdraws_a_route_until_no_front_end_has_it(world: World) -> None:
    session = await world.ready()
    world.tasks[-1].cancel()
    await asyncio.wait(world.tasks)
    following = asyncio.create_task(follow(session))
    end = {"state": State.ENDED, "reason": EndReason.STOPPED, "message": "The session was stopped."}
    world.publisher.failing = 2
    session.refresh(
        session.row.model_copy(update=end | {"version": session.row.version + 1}), driven=False
    )
    await asyncio.wait({following}, timeout=60)
    assert world.publisher.routes == {}


@pytest.mark.parametrize("fault", [TunnelError("Not now."), RuntimeError("can't start new thread")])
async def test_a_follower_goes_on_until_its_tunnel_is_open(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    session = await world.ready()
    world.tasks[-1].cancel()
    await asyncio.wait(world.tasks)
    whole, faults = session.endpoint.reopen, [fault, fault]

    async def reopen(host: str, port: int) -> None:
        if faults:
            raise faults.pop()
        await whole(host, port)

    monkeypatch.setattr(session.endpoint, "reopen", reopen)
    session.settled.clear()
    following = asyncio.create_task(follow(session))
    await until(session.settled.is_set)
    assert not following.done()
    assert not faults
    following.cancel()
    await asyncio.wait({following})
