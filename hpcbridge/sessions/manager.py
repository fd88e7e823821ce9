"""All sessions of this service: what the API asks for, and what a restart takes up again."""

import asyncio
import hashlib
import json
import logging
import secrets
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from hpcbridge.auth.identity import ANYBODY, Identity
from hpcbridge.auth.tokens import Tokens
from hpcbridge.clusters.cluster import Cluster
from hpcbridge.clusters.placement import Place, Placement
from hpcbridge.config.fields import Primitive
from hpcbridge.config.installation import job_name
from hpcbridge.config.parameters import check_parameters
from hpcbridge.config.settings import Settings
from hpcbridge.errors import (
    KeyInFlight,
    KeyReused,
    NoCapacity,
    SessionNotFound,
    StillStarting,
    StoreError,
    TunnelError,
    UnknownApplication,
)
from hpcbridge.frontends.base import SESSION_ID
from hpcbridge.network.addresses import Address
from hpcbridge.replication.replica import Replica
from hpcbridge.sessions.context import SessionContext
from hpcbridge.sessions.quotas import quotas
from hpcbridge.sessions.registry import SessionRegistry
from hpcbridge.sessions.session import Session
from hpcbridge.sessions.termination import recorded
from hpcbridge.store import Quota, SessionRow, State, Store
from hpcbridge.warm.pool import Pool
from hpcbridge.warm.pools import Pools
from hpcbridge.warm.store import Asked

log = logging.getLogger(__name__)

T = TypeVar("T")

PRUNE_INTERVAL = 3600.0
"""Seconds between two looks for sessions and tokens that ended long ago."""
END_LIMIT = 30.0
"""Seconds that ending all sessions may take when the service stops."""
COMING = 5.0
"""Seconds that a client waits for the tunnel of a session that is ready."""

_LEAVING = "The service is stopping. Launch again when it is back."


class Sessions:
    """The sessions that live, and the endpoint to the store for those that have ended."""

    def __init__(
        self, settings: Settings, context: SessionContext, clusters: Mapping[str, Cluster]
    ) -> None:
        self._settings = settings
        self._context = context
        self.placement = Placement(settings, clusters, context.store.waits)
        self.registry = SessionRegistry(settings, context, clusters)
        self.pools = Pools(settings, context.store, clusters, self.registry, self._warm)
        self._replica = Replica(context.store, self.registry) if context.store.shared else None
        self._pruning: asyncio.Task[None] | None = None
        self._leaving = asyncio.Event()
        # What a client's hanging up must not cut short.
        self._writes: set[asyncio.Task[Any]] = set()

    async def launch(
        self,
        application: str,
        posted: Mapping[str, Any],
        *,
        client: str = "",
        key: str | None = None,
        user: str | None = None,
    ) -> Session:
        """Write the intent down and begin; returns before the job is submitted.

        A request that is repeated joins the session that it began: with an Idempotency-Key ``key``
        always, without one where the same ``client`` asks again for what it waited for and left.
        ``user`` is whose session it becomes, and whose keys count; None without users.

        Raises :class:`~hpcbridge.errors.RequestError` for what the client got wrong,
        :class:`~hpcbridge.errors.NoCapacity` when the limit of sessions is reached, and
        :class:`~hpcbridge.errors.StoreError` when the intent cannot be written.
        """
        wanted = self._settings.applications.get(application)
        if wanted is None:
            names = ", ".join(self._settings.applications)
            raise UnknownApplication(
                f"There is no application '{application[:64]}'. Applications: {names}."
            )
        parameters = check_parameters(wanted.parameters, posted)
        asked = self.placement.asked_for(application, posted)
        what = [application, parameters, *([asked] if asked else [])]
        request = _digest(client if key is None else "", *what)
        if key is not None:  # one user's key opens no other's session
            key = _digest(key) if user is None else _digest(user, key)
        limits = quotas(self._settings.limits, application, wanted, user)
        pool = self.pools.pool(application, parameters, user)
        if pool is not None and not self.leaving:
            # All others stay as full, and it does not wait.
            own = [quota for quota in limits if "user" in quota.columns and not quota.waiting]
            wish = Asked(request, key, user, asked, own)
            if session := await self.pools.hand_over(pool, wish):
                return session
        place = await self.placement.place(application, asked, user)
        row = self._intent(application, place, parameters)
        row.request, row.idempotency_key, row.user = request, key, user
        if pool is not None:
            row.pool, row.taken_at = pool.name, time.time()
        if self._writes:  # whether a client left that now asks again
            await asyncio.wait(set(self._writes))
        if self._leaving.is_set():
            raise NoCapacity(_LEAVING)
        return await self._whole(self._begin(row, _unless_shut(place, limits)))

    async def _warm(self, pool: Pool) -> tuple[SessionRow, Sequence[Quota]]:
        """A further session of a pool, and how many there may be."""
        place = await self.placement.place(pool.application, None, pool.user)
        row = self._intent(pool.application, place, dict(pool.parameters))
        row.pool, row.claimed = pool.name, True  # the pool wants it
        limits = quotas(self._settings.limits, pool.application, pool.settings, None)
        return row, _unless_shut(place, limits)

    async def _begin(self, row: SessionRow, limits: Sequence[Quota]) -> Session:
        found = await self._context.store.launch(row, limits)
        if found is not row and found.request != row.request:
            raise _another_request(found)
        if found is not row and found.state == State.ENDED:
            raise recorded(found, "The session of this Idempotency-Key has ended: ")
        session = self.registry.begin(found)
        session.keepalive.elsewhere(0)
        return session

    def _intent(
        self, application: str, place: Place, parameters: dict[str, Primitive]
    ) -> SessionRow:
        session_id = secrets.token_hex(20)  # lower case: some clients lower the whole sessionURL
        return SessionRow(
            id=session_id,
            secret=secrets.token_hex(24),  # no "-" at its beginning: it becomes an argument
            application=application,
            cluster=place.cluster,
            account=place.account,
            parameters=parameters,
            job_name=job_name(session_id, self.registry.mark),
            message=f"Submitting the job to {place.cluster}.",
            submitting_at=time.time(),
        )

    async def _whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it to its end, also when who asked for it is cancelled."""
        task = asyncio.create_task(work)
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return await asyncio.shield(task)

    async def ready(self, session: Session) -> str:
        """Wait until the session is ready, and claim it for the caller; returns its secret.

        Raises what ended it, and :class:`~hpcbridge.errors.StillStarting` after the application's
        ``hold`` seconds.
        """
        application = self._settings.applications[session.row.application]
        waits = [asyncio.create_task(each.wait()) for each in (session.settled, self._leaving)]
        try:
            with session.keepalive.waiting():
                await asyncio.wait(
                    waits, return_when=asyncio.FIRST_COMPLETED, timeout=application.hold
                )
                if (
                    session.settled.is_set()
                    and session.row.state == State.READY
                    and session.row.secret
                ):
                    secret = session.row.secret
                    await session.claim()
                    return secret
        finally:
            for each in waits:
                each.cancel()
            await self._whole(self._forsake(session))
        if self._leaving.is_set():
            raise NoCapacity(_LEAVING)
        if session.error or session.row.state == State.ENDED:
            raise session.error or recorded(session.row)
        raise StillStarting(
            f"The session is not ready yet: {session.row.message} Send the same again.",
            session_id=session.row.id,
            state=session.row.state,
            reason=session.row.message,
        )

    async def _forsake(self, session: Session) -> None:
        """Whoever asks for the same from now on may have it, unless somebody waits or has it."""
        if (
            not session.keepalive.claimed
            and not session.keepalive.waited_for
            and not session.stopping
        ):
            try:
                await self._context.store.note(session.row, forsaken=True)
            except StoreError as error:
                log.warning("session %s: %s", session.row.job_name, error)

    async def get(self, session_id: str, who: Identity = ANYBODY) -> SessionRow:
        """A session, live or ended.

        Raises :class:`~hpcbridge.errors.SessionNotFound`, also for one that is not ``who``'s:
        nobody learns of another's session that it exists.
        """
        session = self.registry.session(session_id)
        row = session.row if session else await self._remembered(session_id)
        if row is None or not who.owns(row.user):
            raise SessionNotFound("There is no such session.")
        if session is None and self._context.store.shared and row.state != State.ENDED:
            await self.registry.heard([row.job_name])  # another replica has just begun it
            session = self.registry.session(session_id)
        if session is None:
            return row
        session.keepalive.touch()
        return session.row

    async def _remembered(self, session_id: str) -> SessionRow | None:
        """What cannot be an id is not looked for: PostgreSQL fails where it gets a NUL."""
        if not SESSION_ID.fullmatch(session_id):
            return None
        return await self._context.store.get(session_id)

    async def living(self, who: Identity) -> list[SessionRow]:
        """The sessions that are ``who``'s to see and have not ended, the newest first."""
        user = None if who.operates else who.user
        return [
            session.row if (session := self.registry.session(row.id)) else row
            for row in await self._context.store.living(user)
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
        session = self.registry.session(session_id)
        row = session.row if session else await self._remembered(session_id)
        over = row is None or row.state == State.ENDED or row.stopped
        if row is None or over or (session and session.stopping) or not who.owns(row.user):
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
            except StoreError as error:
                log.warning("old sessions and tokens cannot be forgotten: %s", error)
            await asyncio.sleep(PRUNE_INTERVAL)

    @property
    def store(self) -> Store:
        """The database that the sessions are in."""
        return self._context.store

    @property
    def leaving(self) -> bool:
        """Whether the service is stopping."""
        return self._leaving.is_set()

    def leave(self) -> None:
        """The service begins to stop: whoever waits for a session is told now."""
        self._leaving.set()

    async def close(self, *, end_sessions: bool = False) -> None:
        """Let go of all sessions: their jobs go on, unless they are to be ended as well."""
        self.leave()
        await asyncio.gather(*self._writes, return_exceptions=True)
        if self._pruning is not None:
            self._pruning.cancel()
            await asyncio.wait({self._pruning})
        await self.placement.close()
        await self.pools.close()
        alone = (end_sessions or self.pools.there) and await self._alone()
        if alone:
            await self.pools.drain()
        if end_sessions and alone and self.registry.tasks:
            for session in self.registry.sessions:
                session.stop()
            await asyncio.wait(self.registry.tasks, timeout=END_LIMIT)
        await self.registry.close()
        if self._replica is not None:
            await self._replica.close()

    async def _alone(self) -> bool:
        """Whether no other replica has these sessions too."""
        if self._replica is None:
            return True
        try:
            return await self._context.store.replicas.seen() == 0
        except StoreError:
            return False


def _unless_shut(place: Place, limits: Sequence[Quota]) -> Sequence[Quota]:
    """Where nothing new may begin, what was begun before can still be joined."""
    return [Quota(0, place.shut, {})] if place.shut else limits


def _another_request(found: SessionRow) -> KeyReused:
    """``found`` is what the Idempotency-Key's first request began."""
    if found.claimed or found.state == State.ENDED:
        return KeyReused("This Idempotency-Key was used for another request. Make a new one.")
    return KeyInFlight(
        "Another request was sent with this Idempotency-Key and still waits for its session. "
        "Make a new key."
    )


def _digest(*parts: Any) -> str:
    """Tells whether two things are the same without telling what they are."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
