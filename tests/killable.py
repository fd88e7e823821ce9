"""A service in this process that can be killed between any two steps, and its cluster."""

import asyncio
import time
from collections.abc import Collection, Coroutine, Mapping, Sequence
from typing import Any, TypeVar, cast

from sqlmodel import select

from hpcbridge.clusters.cluster import Cluster
from hpcbridge.clusters.readiness import Follower
from hpcbridge.clusters.watcher import Watcher
from hpcbridge.config.batchsystems import LocalCluster
from hpcbridge.database.engine import make_engine
from hpcbridge.database.transactions import TASK
from hpcbridge.frontends.table import RouteTable
from hpcbridge.schedulers.base import EndReason, JobRequest, JobState, Listing
from hpcbridge.sessions.context import SessionContext, Timing
from hpcbridge.sessions.manager import Sessions
from hpcbridge.store import Quota, SessionRow, Store
from hpcbridge.tunnels import Tunnels
from tests.fakes import FakeFiles, FakeScheduler

T = TypeVar("T")
GRACE = 0.05
"""Seconds for which the cluster may list a job late."""


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

    async def cancel(self, jobs: Mapping[str, str]) -> None:
        self.cancelled_names |= {self.jobs[each].name for each in jobs if each in self.jobs}
        await super().cancel(jobs)

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

    def __init__(self, world: Any) -> None:
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
