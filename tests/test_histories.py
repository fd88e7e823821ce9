"""Random histories of launches, ends, outages, lost answers and kills; what must hold after each.

Hypothesis makes the histories. The sessions, their lives, the watcher and the database are real;
the cluster is one in memory, which lives on when the service is killed.
"""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from sqlmodel import select

from hpcbridge.clusters import orphans as orphans_module
from hpcbridge.clusters import watcher as watcher_module
from hpcbridge.clusters.cluster import Cluster
from hpcbridge.clusters.readiness import Follower
from hpcbridge.clusters.watcher import Watcher
from hpcbridge.config.batchsystems import LocalCluster
from hpcbridge.config.settings import Settings
from hpcbridge.database.engine import make_engine
from hpcbridge.database.transactions import TASK
from hpcbridge.errors import (
    BridgeError,
    ClusterUnreachable,
    JobRejected,
    OutcomeUnknown,
    UnexpectedReply,
)
from hpcbridge.frontends.table import RouteTable
from hpcbridge.schedulers.base import EndReason, JobRequest, JobState, Listing
from hpcbridge.sessions.context import SessionContext, Timing
from hpcbridge.sessions.manager import Sessions
from hpcbridge.sessions.session import Session
from hpcbridge.store import Quota, SessionRow, State, Store
from hpcbridge.tunnels import Tunnels
from tests.fakes import FakeFiles, FakePublisher, FakeScheduler, FakeTransport
from tests.randomhistories import live_through

T = TypeVar("T")

GRACE = 0.05
PATIENCE = 60.0
"""Seconds after which a cluster without faults must have brought everything to rest."""

DEATHS = (
    EndReason.FAILED,
    EndReason.FINISHED,
    EndReason.OUT_OF_MEMORY,
    EndReason.TIMED_OUT,
    EndReason.NODE_FAILED,
    EndReason.CANCELLED,
)
POINTS = (
    "before add",
    "after add",
    "before update",
    "after update",
    "before sbatch",
    "after sbatch",
)
OUTAGES = (
    ClusterUnreachable("The controller does not answer."),
    OutcomeUnknown("squeue did not answer within 8 s."),
    UnexpectedReply("squeue's listing was cut off."),
)


class Gate:
    """Where the service stands still until it is killed: between any two of its steps."""

    def __init__(self) -> None:
        self.point = ""
        self.left = 0
        self.reached = False
        self.killed = False

    def set(self, point: str, passes: int) -> None:
        self.point, self.left = point, passes

    def open(self) -> None:
        self.point, self.reached, self.killed = "", False, False

    async def passing(self, point: str) -> None:
        if self.killed:  # what a task does when it is cancelled, no killed process does
            raise asyncio.CancelledError
        if point != self.point:
            return
        self.left -= 1
        if self.left < 0:
            self.reached = True
            await asyncio.Event().wait()


class GatedStore(Store):
    """The real store; the service may be killed before and after each thing written.

    What the database has begun it finishes, whatever becomes of who asked.
    """

    gate: Gate
    working: set[asyncio.Future[Any]]

    def _whole(self, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        task = asyncio.ensure_future(work)
        self.working.add(task)
        task.add_done_callback(self.working.discard)
        return asyncio.shield(task)

    async def launch(self, row: SessionRow, quotas: Sequence[Quota]) -> SessionRow:
        await self.gate.passing("before add")
        found = await self._whole(super().launch(row, quotas))
        await self.gate.passing("after add")
        return found

    async def update(self, row: SessionRow, *, unchanged: bool = False, **changes: Any) -> bool:
        await self.gate.passing("before update")
        done = await self._whole(super().update(row, unchanged=unchanged, **changes))
        await self.gate.passing("after update")
        return done

    async def note(self, row: SessionRow, **changes: Any) -> bool:
        await self.gate.passing("before update")
        done = await self._whole(super().note(row, **changes))
        await self.gate.passing("after update")
        return done

    async def get(self, session_id: str) -> SessionRow | None:
        return await self._whole(super().get(session_id))

    async def unfinished(self) -> Sequence[SessionRow]:
        return await self._whole(super().unfinished())

    async def known(self, job_names: Collection[str]) -> set[str]:
        return await self._whole(super().known(job_names))

    async def prune(self, age: float) -> None:
        await self._whole(super().prune(age))

    async def close(self) -> None:
        while self.working:
            await asyncio.gather(*self.working, return_exceptions=True)
        await super().close()

    async def everything(self) -> Sequence[SessionRow]:
        async with self.reading() as session:
            return (await session.execute(select(SessionRow))).scalars().all()


class GatedScheduler(FakeScheduler):
    """A batch system that outlives the service, and remembers what the test must know."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate
        #: Names of all jobs that were ever accepted.
        self.accepted: list[str] = []
        #: How the world, and not the service, ended jobs.
        self.deaths: dict[str, EndReason] = {}
        self.cancelled_names: set[str] = set()
        #: Names of jobs that were listed so late that the grace may have been over.
        self.late: set[str] = set()
        #: Names of jobs of whose end the controller told nothing any more, maybe to nobody.
        self.forgotten: set[str] = set()
        # When a job was accepted that is not listed yet.
        self._since: dict[str, float] = {}

    def add(self, name: str, state: JobState = JobState.QUEUED, **more: Any) -> str:
        self.accepted.append(name)
        return super().add(name, state, **more)

    async def submit(self, request: JobRequest) -> str:
        await self.gate.passing("before sbatch")
        try:
            return await super().submit(request)
        finally:
            for job in self._hidden.values():
                self._since.setdefault(job.name, time.monotonic())
            await self.gate.passing("after sbatch")

    async def list_jobs(self) -> Listing:
        listing = await super().list_jobs()
        for name in {job.name for job in listing.jobs.values()} & self._since.keys():
            if time.monotonic() - self._since.pop(name) >= GRACE:
                self.late.add(name)
        return listing

    async def cancel(self, job_ids: Any) -> None:
        wanted = list(job_ids)
        self.cancelled_names |= {self.jobs[each].name for each in wanted if each in self.jobs}
        await super().cancel(wanted)

    def dies(self, job_id: str, reason: EndReason) -> None:
        self.deaths[self.jobs[job_id].name] = reason
        self.end(job_id, reason)

    def forgets_everything(self) -> None:
        for job_id in self.living:
            job = self.jobs.get(job_id) or self._hidden[job_id]
            self.deaths[job.name] = EndReason.FINISHED
        self.forgotten |= {job.name for job in self.jobs.values()}
        self.jobs, self._hidden, self._next = {}, {}, 1


class Service:
    """What is lost when the service is killed."""

    def __init__(self, world: "Histories") -> None:
        transport, scheduler = world.transport, world.scheduler
        self.watcher = Watcher(scheduler)
        self.follower = Follower(transport, self.watcher.wake)
        self.cluster = Cluster(
            name="fake",
            settings=cast(LocalCluster, world.settings.clusters["fake"]),
            transport=transport,
            scheduler=scheduler,
            tunnels=Tunnels(None, None, None),
            watcher=self.watcher,
            follower=self.follower,
        )
        self.store = GatedStore(make_engine(world.url))
        self.store.gate, self.store.working = world.gate, set()
        self.routes = RouteTable([world.publisher])
        context = SessionContext(
            self.store,
            self.routes,
            cast(Any, FakeFiles()),
            timing=Timing(retry=0.01, retry_limit=0.02),
        )
        self.sessions = Sessions(world.settings, context, {"fake": self.cluster})

    async def start(self) -> None:
        await self.routes.start()
        await self.sessions.start()

    async def close(self, *, end_sessions: bool = False) -> None:
        """In the order of :func:`hpcbridge.service.running`."""
        await self.sessions.close(end_sessions=end_sessions)
        await self.routes.close()
        await self.cluster.close()
        await self.store.close()

    async def kill(self) -> None:
        """As near to SIGKILL as one process can come: nothing is written any more."""
        sessions, this = list(self.sessions.registry.sessions), asyncio.current_task()
        self.store.gate.killed = True
        while tasks := {each for each in asyncio.all_tasks() if each.get_name() != TASK} - {
            this,
            *self.store.working,
        }:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=0.01)  # some clean up first
        for session in sessions:  # the kernel closes their sockets
            await session.release()
        await self.store.close()


class Histories(RuleBasedStateMachine):
    """What can happen, to whom, and in which order."""

    directory: Path
    number = 0

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.gate = Gate()
        self.stopped: set[str] = set()
        self.claimed: set[str] = set()
        self.clients: set[asyncio.Task[None]] = set()
        self.launching: set[asyncio.Future[Session]] = set()

    def run(self, work: Awaitable[Any]) -> None:
        async def running() -> None:
            await work
            await asyncio.sleep(0.004)

        self.runner.run(running())

    # -- the world

    @initialize()
    def a_new_world(self) -> None:
        Histories.number += 1
        database = self.directory / f"{self.number}.sqlite"
        shutil.copy(self.directory / "empty.sqlite", database)
        self.url = f"sqlite+aiosqlite:///{database}"
        self.settings = Settings(
            server={"state_dir": self.directory / "state"},  # type: ignore[arg-type]
            clusters={"fake": {"scheduler": "local", "session_root": "/s", "grace": GRACE}},  # type: ignore[dict-item]
            applications={
                "kept": {"cluster": "fake", "template": "t", "wait": 60, "hold": 0.02},  # type: ignore[dict-item]
                "brief": {"cluster": "fake", "template": "t", "hold": 0.02, "keep": 0.05},  # type: ignore[dict-item]
            },
        )
        self.scheduler = GatedScheduler(self.gate)
        self.transport = FakeTransport()
        self.publisher = FakePublisher()

        async def begin() -> None:
            loop = asyncio.get_running_loop()
            self.server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            self.port = self.server.sockets[0].getsockname()[1]
            await self.begin()

        self.run(begin())
        self.somebody_launches("kept", "carol", None)

    async def begin(self) -> None:
        self.service = Service(self)
        await self.service.start()

    @property
    def sessions(self) -> list[Session]:
        return list(self.service.sessions.registry.sessions)

    # -- what users do

    @rule(
        application=st.sampled_from(["kept", "brief"]),
        client=st.sampled_from(["alice", "bob"]),
        key=st.sampled_from([None, None, "one key", "another key"]),
    )
    def somebody_launches(self, application: str, client: str, key: str | None) -> None:
        async def ask() -> None:
            sessions = self.service.sessions
            with contextlib.suppress(BridgeError):
                # As the API does it: a hang-up cuts the waiting short, not the launch itself.
                work = sessions.launches.begin(application, {}, client=client, key=key)
                launching = asyncio.ensure_future(work)
                self.launching.add(launching)
                launching.add_done_callback(self.launched)
                session = await asyncio.shield(launching)
                await sessions.launches.ready(session)
                self.claimed.add(session.row.id)

        async def post() -> None:
            task = asyncio.create_task(ask())
            self.clients.add(task)
            task.add_done_callback(self.clients.discard)

        self.run(post())

    def launched(self, launching: asyncio.Future[Session]) -> None:
        self.launching.discard(launching)
        if not launching.cancelled():
            launching.exception()  # told to the client, if there still is one

    @rule(placement=st.integers(0, 9))
    def somebody_hangs_up(self, placement: int) -> None:
        async def hang_up() -> None:
            clients = sorted(self.clients, key=lambda task: task.get_name())
            if clients:
                clients[placement % len(clients)].cancel()

        self.run(hang_up())

    @rule(placement=st.integers(0, 9))
    def somebody_stops_a_session(self, placement: int) -> None:
        async def stop(session_id: str) -> None:
            with contextlib.suppress(BridgeError):
                await self.service.sessions.stop(session_id)

        async def ask() -> None:
            if self.sessions:
                session_id = self.sessions[placement % len(self.sessions)].row.id
                self.stopped.add(session_id)
                stopping = asyncio.create_task(stop(session_id))
                while not stopping.done() and not self.gate.reached:
                    await asyncio.sleep(0.001)

        self.run(ask())

    # -- what jobs do

    @rule()
    def jobs_start(self) -> None:
        for job_id, job in self.scheduler.jobs.items():
            if job.state == JobState.QUEUED:
                self.scheduler.run(job_id)

    @rule()
    def applications_become_ready(self) -> None:
        for job in self.scheduler.jobs.values():
            directory = f"/s/{job.name}"
            staged = f"{directory}/job.sh" in self.transport.files
            if job.state == JobState.RUNNING and staged:
                self.transport.files[f"{directory}/status"] = f"port={self.port}\n".encode()
                self.transport.files[f"{directory}/output.log"] = b"wslink: Starting factory"

    @rule(placement=st.integers(0, 9), reason=st.sampled_from(DEATHS))
    def a_job_dies(self, placement: int, reason: EndReason) -> None:
        living = [each for each in self.scheduler.living if each in self.scheduler.jobs]
        if living:
            self.scheduler.dies(living[placement % len(living)], reason)

    # -- what clusters do

    @rule(error=st.sampled_from(OUTAGES))
    def the_scheduler_goes_away(self, error: BridgeError) -> None:
        self.scheduler.down = error

    @rule()
    def the_login_host_goes_away(self) -> None:
        self.scheduler.down = self.transport.down = ClusterUnreachable("No route to host.")

    @rule()
    def everything_is_back(self) -> None:
        self.scheduler.down = self.transport.down = None

    @rule()
    def the_controller_forgets_everything_and_begins_at_its_first_id(self) -> None:
        """It is away meanwhile, for longer than the service waits between two questions."""

        async def begin_again() -> None:
            down, self.scheduler.down = self.scheduler.down, OUTAGES[0]
            self.scheduler.forgets_everything()
            asked = self.scheduler.looks
            deadline = time.monotonic() + PATIENCE
            while self.scheduler.looks < asked + 1 and not self.gate.reached:
                assert time.monotonic() < deadline, "nobody asks the controller"
                self.service.watcher.wake()
                await asyncio.sleep(0.002)
            self.scheduler.down = down

        self.run(begin_again())

    @rule(accepted=st.booleans(), appears_after=st.sampled_from([0, 2, 20]))
    def a_submission_has_no_answer(self, accepted: bool, appears_after: int) -> None:
        self.scheduler.submit_fault = OutcomeUnknown("sbatch did not answer within 16 s.")
        self.scheduler.accepts = accepted
        looks = self.scheduler.looks + appears_after if appears_after else 0
        self.scheduler.appears_after = looks
        self.somebody_launches("kept", "carol", None)

    @rule()
    def the_next_submission_is_refused(self) -> None:
        self.scheduler.submit_fault = JobRejected("Invalid partition.")
        self.scheduler.accepts = False

    @rule(times=st.integers(1, 3))
    def cancelling_has_no_effect_for_a_while(self, times: int) -> None:
        self.scheduler.ignores_cancel = times

    # -- what befalls the service

    @rule()
    def the_service_is_killed(self) -> None:
        self.run(self.restart(self.service.kill))

    @rule()
    def the_service_is_restarted(self) -> None:
        if not self.gate.reached:
            self.gate.open()  # a clean end gets as far as it wants
        self.run(self.restart(self.service.close))

    @rule(point=st.sampled_from(POINTS), passes=st.integers(0, 3))
    def the_service_will_be_killed(self, point: str, passes: int) -> None:
        self.gate.set(point, passes)

    async def restart(self, end: Callable[[], Awaitable[None]]) -> None:
        for task in list(self.clients):
            task.cancel()
        if not self.gate.point:  # where they may stand still
            await asyncio.gather(*self.clients, return_exceptions=True)
        await (self.service.kill() if self.gate.reached else end())
        self.gate.open()
        await self.begin()

    @rule(seconds=st.sampled_from([0.002, 0.01, 0.03]))
    def time_passes(self, seconds: float) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            if self.gate.reached:
                await self.restart(self.service.kill)

        self.run(wait())

    # -- the end of a history

    def teardown(self) -> None:
        if not hasattr(self, "service"):
            self.runner.close()
            return
        try:
            self.run(self.drain())
            self.run(self.check())
            self.run(self.close())
        except BaseException:
            self.run(self.service.kill())
            self.server.close()
            raise
        finally:
            self.runner.close()

    async def drain(self) -> None:
        """The cluster has no faults any more; everything comes to rest."""
        if self.gate.reached:
            await self.restart(self.service.kill)
        self.gate.open()
        self.everything_is_back()
        self.scheduler.submit_fault, self.scheduler.ignores_cancel = None, 0
        self.scheduler.appears_after = 0
        await asyncio.gather(*self.clients, *self.launching, return_exceptions=True)
        await self.until(self.at_rest)

    async def until(self, check: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not check():
            self.jobs_start()
            self.applications_become_ready()
            told = [(session.row.state, session.row.message) for session in self.sessions]
            assert time.monotonic() < deadline, (told, self.scheduler.jobs, self.publisher.routes)
            await asyncio.sleep(0.003)

    def at_rest(self) -> bool:
        names = {session.row.attempt_name for session in self.sessions}
        jobs = self.scheduler.jobs | self.scheduler._hidden
        living = [jobs[each].name for each in self.scheduler.living]
        return (
            all(session.row.state == State.READY for session in self.sessions)
            and not any(
                session.row.application == "brief" and session.keepalive.free
                for session in self.sessions
            )
            and sorted(living) == sorted(names)
            and self.publisher.routes
            == {session.row.id: session.endpoint.address for session in self.sessions}
            and {path.split("/")[2] for path in self.transport.files} == names
        )

    async def check(self) -> None:
        names = self.scheduler.accepted
        assert len(set(names)) == len(names), "an attempt was submitted twice"
        rows = await self.service.store.everything()
        known = {name for row in rows for name in row.attempt_names}
        assert set(names) <= known, "a job has no session"
        for row in rows:
            # Only what nobody could find for all of the grace had a successor.
            lost = self.scheduler.late | self.scheduler.deaths.keys()
            assert set(row.attempt_names[:-1]) & set(names) <= lost, "a session had two jobs"
        for row in rows:
            if row.state == State.ENDED:
                self.check_end(row)
            else:
                assert row.id in {session.row.id for session in self.sessions}, (
                    "nobody drives a session"
                )
                assert row.attempt_name not in self.scheduler.cancelled_names
        assert len(self.service.watcher._watches) == len(self.sessions)
        assert self.service.follower._followed == set()

    def check_end(self, row: SessionRow) -> None:
        """The session has ended for a reason, which the world has given, and without a trace."""
        assert row.reason is not None
        assert row.message
        assert row.ended_at is not None
        assert row.secret is None
        assert row.job_ended
        death = self.scheduler.deaths.get(row.attempt_name)
        match row.reason:
            case EndReason.STOPPED:
                assert row.id in self.stopped
            case EndReason.IDLE:
                assert row.application == "brief"
                assert row.id not in self.claimed
            case EndReason.REJECTED:
                late = self.scheduler.late
                gone = row.attempt_name not in self.scheduler.accepted or row.attempt_name in late
                assert gone or death is not None
            case EndReason.FAILED:
                assert death is not None
            case EndReason.FINISHED if row.attempt_name in self.scheduler.forgotten:
                assert death is not None
            case _:
                assert row.reason == death

    async def close(self) -> None:
        """The service ends, and all sessions with it."""
        self.clients.clear()
        await self.service.close(end_sessions=True)
        assert self.scheduler.living == []
        assert self.transport.files == {}
        assert self.publisher.routes == {}
        self.server.close()
        await self.server.wait_closed()
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert {
            task.get_name() for task in left if not task.get_name().startswith("Task-")
        } == set()


def test_whatever_happens_nothing_is_lost_doubled_or_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans_module, "INTERVAL", 0.02)
    monkeypatch.setattr(watcher_module, "LEAST", 0.001)
    for name in ("STARTING", "WAITING", "QUIET", "FAILING"):
        monkeypatch.setattr(watcher_module, f"INTERVAL_{name}", 0.004)
    monkeypatch.setattr(Histories, "directory", tmp_path, raising=False)

    async def make() -> None:
        await (await Store.open(f"sqlite+aiosqlite:///{tmp_path}/empty.sqlite")).close()

    asyncio.run(make())
    live_through(Histories, examples=25, steps=20)
