"""All sessions of this service: what the API asks for, and what a restart takes up again."""

import asyncio
import logging
import time
from collections.abc import Mapping

from hpcbridge.auth.identity import ANYBODY, Identity
from hpcbridge.auth.tokens import Tokens
from hpcbridge.clusters.announcements import Announcements
from hpcbridge.clusters.cluster import Cluster
from hpcbridge.clusters.placement import Placement
from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.config.settings import Settings
from hpcbridge.errors import SessionNotFound, SessionsLeft, StoreError, TunnelError
from hpcbridge.frontends.base import SESSION_ID
from hpcbridge.frontends.table import RouteTable
from hpcbridge.instruments import Instruments
from hpcbridge.network.addresses import Address
from hpcbridge.replication.replica import Replica
from hpcbridge.sessions.census import Census
from hpcbridge.sessions.context import SessionContext
from hpcbridge.sessions.launches import Launches
from hpcbridge.sessions.logs import Logs
from hpcbridge.sessions.registry import SessionRegistry
from hpcbridge.sessions.session import Session
from hpcbridge.sessions.uploads import Uploads
from hpcbridge.store import FIRST, Place, Selection, SessionRow, State, Store
from hpcbridge.warm.pool import pools_of

log = logging.getLogger(__name__)

PRUNE_INTERVAL = 3600.0
"""Seconds between two looks for sessions and tokens that ended long ago."""
END_LIMIT = 30.0
"""Seconds that ending all sessions may take when the service stops."""
COMING = 5.0
"""Seconds that a client waits for the tunnel of a session that is ready."""


class Sessions:
    """The sessions that live, and the endpoint to the store for those that have ended."""

    def __init__(
        self, settings: Settings, context: SessionContext, clusters: Mapping[str, Cluster]
    ) -> None:
        #: When this service began, in seconds since the epoch.
        self.started_at = time.time()
        self._settings = settings
        self._context = context
        announcements = Announcements(settings, context.store.announcements.all)
        self.placement = Placement(settings, clusters, context.store.waits, announcements)
        self.registry = SessionRegistry(settings, context, clusters)
        self.launches = Launches(settings, context, clusters, self.placement, self.registry)
        self.pools = self.launches.pools
        self._replica = Replica(context.store, self.registry) if context.store.shared else None
        self._pruning: asyncio.Task[None] | None = None

    async def get(self, session_id: str, who: Identity = ANYBODY) -> SessionRow:
        """A session, live or ended.

        Raises :class:`~hpcbridge.errors.SessionNotFound`, also for one that is not ``who``'s:
        nobody learns of another's session that it exists.
        """
        session, row = await self._found(session_id, who)
        if row is None:
            raise SessionNotFound("There is no such session.")
        if session is None and self._context.store.shared and row.state != State.ENDED:
            await self.registry.heard([row.job_name])  # another replica has just begun it
            session = self.registry.session(session_id)
        if session is None:
            return row
        session.keepalive.touch()
        return session.row

    async def _found(
        self, session_id: str, who: Identity
    ) -> tuple[Session | None, SessionRow | None]:
        """A session, if it is ``who``'s.

        Of others' sessions the database is asked like of unknown ones, in the same words: else the
        time that the answer takes would tell that there is one.
        """
        session = self.registry.session(session_id)
        if session is not None and who.owns(session.row.user):
            return session, session.row
        if not SESSION_ID.fullmatch(session_id):  # PostgreSQL fails where it gets a NUL
            return None, None
        row = await self._context.store.get(session_id, None if who.owns(None) else who.user)
        return None, row if row is not None and who.owns(row.user) else None

    async def known(self, session_id: str) -> SessionRow | None:
        """A session, whoever asks; None where there is none. Raises StoreError."""
        return (await self._found(session_id, ANYBODY))[1]

    async def asked_in_vain(self, session_id: str) -> None:
        """Take as long for a session that :meth:`known` found here as for an unknown one."""
        if self.registry.session(session_id) is not None:
            await self._context.store.get(session_id)

    async def page(
        self, selection: Selection, limit: int, before: Place = FIRST
    ) -> list[SessionRow]:
        """At most ``limit`` sessions behind a place in the order of the list, the newest first."""
        return [
            session.row if (session := self.registry.session(row.id)) else row
            for row in await self._context.store.page(selection, limit, before)
        ]

    def session(self, session_id: str) -> Session | None:
        """A session in this service's hands; None where it is over or unknown."""
        return self.registry.session(session_id)

    async def coming(self, session_id: str) -> Address | None:
        """Where a session leads that has no route here: None if it is not ready, or not known.

        A ready one has just become so at another replica, or was taken up a moment ago: its route
        is waited for. Raises :class:`~hpcbridge.errors.StoreError`, and
        :class:`~hpcbridge.errors.TunnelError` after 5 s.
        """
        row = await self._context.store.get(session_id)
        if row is None or row.state != State.READY:
            return None
        if self._context.store.shared:
            await self.registry.heard([row.job_name])  # the notice is under way, or was lost
        address = await self._context.routes.awaited(session_id, COMING)
        if address is None:
            raise TunnelError("The session's tunnel is not open here yet. Try again.")
        return address

    async def stop(self, session_id: str, who: Identity = ANYBODY) -> SessionRow:
        """Begin to end a session; when this returns, no crash can make it forgotten.

        Raises :class:`~hpcbridge.errors.SessionNotFound`, as :meth:`get` does, and
        :class:`~hpcbridge.errors.StoreError`; where no other replica can take the session over, it
        then ends all the same, if it can.
        """
        session, row = await self._found(session_id, who)
        over = row is None or row.state == State.ENDED or row.stopped
        if row is None or over or (session and session.stopping):
            raise SessionNotFound("There is no such session, or it has ended.")
        try:
            await self._context.store.note(row, stopped=True)
        except StoreError:
            if session and not self._context.store.shared:
                session.stop()
            raise
        if session:
            session.stop()
        return row

    async def start(self) -> None:
        """Take up what an earlier service left: live sessions, and jobs that are still to end.

        Where other replicas may be at work, one of them drives the sessions, or this one soon will.
        """
        await self.registry.start()
        if self._replica is not None:
            await self._replica.start()
        else:
            await self._context.store.forsake()
            await self.registry.lead()
        self.placement.start()
        self.pools.start()
        self._pruning = asyncio.create_task(self._prune(), name="forget old sessions")

    async def _prune(self) -> None:
        while True:
            try:
                await self._context.store.prune(self._settings.store.keep_ended)
                await Tokens(self._context.store).prune(self._settings.store.keep_ended)
                if self._context.logs is not None:
                    await self._context.logs.prune()
            except StoreError as error:
                log.warning("old sessions and tokens cannot be forgotten: %s", error)
            await asyncio.sleep(PRUNE_INTERVAL)

    @property
    def logs(self) -> Logs | None:
        """The output of the sessions, where it is kept."""
        return self._context.logs

    @property
    def uploads(self) -> Uploads | None:
        """The files that users sent, where they may."""
        return self._context.uploads

    @property
    def store(self) -> Store:
        """The database that the sessions are in."""
        return self._context.store

    def application(self, row: SessionRow) -> ApplicationSettings | None:
        """What a session is of: as it was configured when it began, if it is in our hands."""
        session = self.registry.session(row.id)
        return session.application if session else self._settings.applications.get(row.application)

    def reconfigure(self, fresh: Settings) -> None:
        """Have other applications from now on; sessions that are there keep theirs.

        Raises :class:`~hpcbridge.errors.ConfigError`, and changes nothing then.
        """
        pools = pools_of(fresh)
        self._settings.take_over(fresh)
        self.placement.reconfigure()
        self.pools.reconfigure(pools)

    @property
    def census(self) -> Census:
        """How many sessions there are."""
        return self._context.census

    @property
    def instruments(self) -> Instruments:
        """What is counted while they live."""
        return self._context.instruments

    @property
    def routes(self) -> RouteTable:
        """Where those lead that are ready."""
        return self._context.routes

    @property
    def leaving(self) -> bool:
        """Whether the service is stopping."""
        return self.launches.leaving

    def leave(self) -> None:
        """The service begins to stop: whoever waits for a session is told now."""
        self.launches.leave()

    async def close(self, *, end_sessions: bool = False) -> None:
        """Let go of all sessions: their jobs go on, unless they are to be ended as well.

        Raises :class:`~hpcbridge.errors.SessionsLeft` where some could not be ended.
        """
        await self.launches.close()
        if self._pruning is not None:
            self._pruning.cancel()
            await asyncio.wait({self._pruning})
        await self.placement.close()
        await self.pools.close()
        alone = (end_sessions or self.pools.there) and await self._alone()
        if alone:
            await self.pools.drain()
        begun = self._pruning is not None
        left = await self._end_all() if end_sessions and alone and begun else []
        await self.registry.close()
        if self._replica is not None:
            await self._replica.close()
        if left:
            raise SessionsLeft(
                f"Sessions that could not be ended within {END_LIMIT:g} s: {'; '.join(left)}. The "
                "next service with the same database ends them."
            )

    async def _end_all(self) -> list[str]:
        """End all sessions; those that could not be ended, and why as far as it is known."""
        for session in self.registry.sessions:
            session.stop()
        if self.registry.tasks:
            await asyncio.wait(self.registry.tasks, timeout=END_LIMIT)
        try:
            rows = await self._context.store.unfinished()
        except StoreError as error:
            return [f"nobody knows which, {error}"]
        left = [self._why_left(row) for row in rows]
        for each in left:
            log.error("not ended: %s", each)
        return left

    def _why_left(self, row: SessionRow) -> str:
        job = f"job {row.job_id}" if row.job_id else "its job may be about to appear"
        session = self.registry.session(row.id)
        if row.cluster not in self._settings.clusters:
            why = "no such cluster is configured"
        elif session is None:
            why = "it was not looked after here"
        else:
            watcher = session.cluster.watcher
            why = watcher.trouble or "there is no proof yet that its job is over"
        return f"{row.job_name} on {row.cluster} ({job}): {why.rstrip('.')}"

    async def _alone(self) -> bool:
        """Whether no other replica has these sessions too."""
        if self._replica is None:
            return True
        try:
            return await self._context.store.replicas.announce() == 0
        except StoreError:
            return False
