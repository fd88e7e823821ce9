"""The lives of all sessions, and the part that this service has in them: to lead or to follow."""

import asyncio
import contextlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence

from hpcbridge.clusters.cluster import Cluster
from hpcbridge.clusters.orphans import Orphans
from hpcbridge.config.installation import mark
from hpcbridge.config.settings import Settings
from hpcbridge.notifier import Notifier
from hpcbridge.sessions.context import SessionContext
from hpcbridge.sessions.following import follow
from hpcbridge.sessions.lifecycle import drive
from hpcbridge.sessions.session import REMOTE_CLIENT_LIFE, Session
from hpcbridge.states import State
from hpcbridge.store import SessionRow

log = logging.getLogger(__name__)


class Subscription:
    """The sessions of which there may be something new to tell."""

    def __init__(self) -> None:
        self._changed: dict[str, Session] = {}
        self._some = Notifier()

    def add(self, session: Session) -> None:
        """There may be something new of this one."""
        self._changed[session.row.id] = session
        self._some.notify()

    async def wait(self, timeout: float) -> Collection[Session]:  # noqa: ASYNC109  # it is the pace
        """Those that have changed since this was asked last; none after ``timeout`` seconds."""
        if not self._changed:
            await self._some.wait(timeout)
        changed, self._changed = self._changed, {}
        return changed.values()


class SessionRegistry:
    """One life for each session that has not ended; a leader also has those that clean up."""

    def __init__(
        self, settings: Settings, context: SessionContext, clusters: Mapping[str, Cluster]
    ) -> None:
        self._settings = settings
        self._context = context
        self._clusters = clusters
        self._sessions: dict[str, Session] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._endpoints: dict[str, str] = {}
        self._subscriptions: set[Subscription] = set()
        self._leading = False
        self._closed = False
        #: By which the jobs of this installation are known.
        self.mark = mark(settings)

    @property
    def sessions(self) -> Collection[Session]:
        """All that are in this service's hands."""
        return list(self._sessions.values())

    @property
    def tasks(self) -> Collection[asyncio.Task[None]]:
        """What is at work for them."""
        return list(self._tasks.values())

    @property
    def leading(self) -> bool:
        """Whether this service drives the sessions."""
        return self._leading

    def task(self, session_id: str) -> asyncio.Task[None] | None:
        """What is at work for a session."""
        return self._tasks.get(session_id)

    def session(self, session_id: str) -> Session | None:
        """A session in this service's hands; None where it is over or unknown."""
        return self._sessions.get(session_id)

    async def start(self) -> None:
        """Learn what this service had before. Raises :class:`~hpcbridge.errors.StoreError`."""
        self.mark = await self._context.store.replicas.mark(self.mark)
        self._endpoints = await self._context.store.endpoints.here()

    def begin(self, row: SessionRow) -> Session:
        """A session that a client of this service has just asked for."""
        session = self._sessions.get(row.id)
        if session is None:
            session = self._adopt(row)
            self._drive(session)
        else:
            session.refresh(row, driven=self._leading)
        return session

    async def lead(self) -> None:
        """Drive all sessions, and end jobs of ours that no session knows.

        Raises :class:`~hpcbridge.errors.StoreError`; it may then be tried again.
        """
        await self._stand_still()
        self._leading = True
        await self.reread()
        for session in self.sessions:
            if session.row.id not in self._tasks:
                self._drive(session)
        for each in self._clusters.values():
            each.watcher.observe(Orphans(each, self._context.store, self.mark))

    async def follow(self) -> None:
        """Drive no session; have tunnels and routes for those that are ready."""
        self._leading = False
        for each in self._clusters.values():
            await each.watcher.stop_observing()
        await self._stand_still()
        for session in self.sessions:
            session.let_go()
            if not self._closed:
                self._drive(session)

    async def _stand_still(self) -> None:
        tasks, self._tasks = self.tasks, {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def reread(self) -> None:
        """Take over everything from the database."""
        rows = await self._context.store.unfinished()
        there = {row.id for row in rows}
        gone = {session.row.job_name for session in self.sessions if session.row.id not in there}
        if gone:
            rows = [*rows, *await self._context.store.named(gone)]
        self._merge(rows)

    async def heard(self, names: Collection[str]) -> None:
        """Take these sessions over from the database."""
        self._merge(await self._context.store.named(names))

    def _merge(self, rows: Sequence[SessionRow]) -> None:
        for row in rows:
            session = self._sessions.get(row.id)
            if session is not None:
                session.refresh(row, driven=self._leading and row.id in self._tasks)
            elif row.cluster not in self._clusters:
                log.warning("session %s: no cluster '%s' any more", row.job_name, row.cluster)
            elif row.state != State.ENDED or (self._leading and not row.job_ended):
                session = self._adopt(row)
                if self._context.store.shared:
                    session.keepalive.elsewhere(REMOTE_CLIENT_LIFE)
                self._drive(session)

    def _adopt(self, row: SessionRow) -> Session:
        application = self._settings.applications.get(row.application)
        if row.warm and application is not None and application.warm is not None:
            application = application.model_copy(update={"wait": application.warm.wait})
        address = self._endpoints.pop(row.id, None)
        cluster = self._clusters[row.cluster].hold(row.account)
        session = Session(row, self._context, cluster, application, address=address)
        self._sessions[row.id] = session
        session.news.then = lambda: self._tell(session)
        self._tell(session)
        return session

    @contextlib.contextmanager
    def subscribed(self) -> Iterator["Subscription"]:
        """All that changes inside of the ``with`` block."""
        subscription = Subscription()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def _tell(self, session: Session) -> None:
        for each in self._subscriptions:
            each.add(session)

    def _drive(self, session: Session) -> None:
        key = session.row.id
        work = drive(session) if self._leading else follow(session)
        task = asyncio.create_task(work, name=f"session {session.row.job_name}")
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._forget(key, task))

    def _forget(self, session_id: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(session_id) is task:  # and not one whose part another has taken over
            del self._tasks[session_id]
            if session := self._sessions.pop(session_id, None):
                self._clusters[session.row.cluster].release(session.row.account)

    async def close(self) -> None:
        """Let go of all sessions: their jobs go on."""
        self._closed = True
        await self._stand_still()
        await asyncio.gather(*(session.release() for session in self.sessions))
