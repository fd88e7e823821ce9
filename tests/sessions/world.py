"""A service with one session on a cluster of fakes, and what must hold when it has ended."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from hpcbridge.clusters.cluster import Cluster
from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.config.installation import job_name
from hpcbridge.errors import BridgeError, SessionFailed
from hpcbridge.frontends.table import RouteTable
from hpcbridge.schedulers.base import EndReason
from hpcbridge.sessions.context import SessionContext, Timing
from hpcbridge.sessions.lifecycle import drive
from hpcbridge.sessions.session import Session
from hpcbridge.store import SessionRow, State
from tests.fakes import FakeFiles, FakePublisher, FakeScheduler, FakeTransport, FlakyStore
from tests.waiting import until

ID = "A" * 32
LINE = "Starting factory"
FAST = Timing(retry=0.02, retry_limit=0.05, reopen=0.02)


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
    more: dict[str, Any] = field(default_factory=dict)
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
        return ApplicationSettings(cluster="fake", template="t", wait=self.wait, **self.more)

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
