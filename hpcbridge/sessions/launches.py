"""Launches: written down first, joined with the sessions that they repeat, and waited for."""

import asyncio
import hashlib
import json
import logging
import secrets
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from hpcbridge.clusters.cluster import Cluster
from hpcbridge.clusters.placement import Place, Placement
from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.config.fields import Primitive
from hpcbridge.config.installation import job_name
from hpcbridge.config.parameters import check_parameters
from hpcbridge.config.settings import Settings
from hpcbridge.errors import (
    AccountsUnknown,
    BridgeError,
    KeyInFlight,
    KeyReused,
    NoCapacity,
    RequestError,
    StillStarting,
    StoreError,
    UnknownApplication,
)
from hpcbridge.sessions.context import SessionContext
from hpcbridge.sessions.logs import SECRET_DIGITS
from hpcbridge.sessions.quotas import quotas
from hpcbridge.sessions.registry import SessionRegistry
from hpcbridge.sessions.session import Session
from hpcbridge.sessions.termination import recorded
from hpcbridge.store import Quota, SessionRow, State
from hpcbridge.warm.pool import Pool
from hpcbridge.warm.pools import Pools
from hpcbridge.warm.store import Asked

log = logging.getLogger(__name__)

T = TypeVar("T")

_LEAVING = "The service is stopping. Launch again when it is back."


class Launches:
    """Begins sessions, hands warm ones out, and gives them to the clients that wait for them."""

    def __init__(
        self,
        settings: Settings,
        context: SessionContext,
        clusters: Mapping[str, Cluster],
        placement: Placement,
        registry: SessionRegistry,
    ) -> None:
        self._settings = settings
        self._store = context.store
        self._instruments = context.instruments
        self._uploads = context.uploads
        self._placement = placement
        self._registry = registry
        self.pools = Pools(
            settings, context.store, clusters, registry, self._warm, placement.announcements
        )
        self._leaving = asyncio.Event()
        # What a client's hanging up must not cut short.
        self._writes: set[asyncio.Task[Any]] = set()

    @property
    def leaving(self) -> bool:
        """Whether the service is stopping."""
        return self._leaving.is_set()

    def leave(self) -> None:
        """The service begins to stop: whoever waits for a session is told now."""
        self._leaving.set()

    async def close(self) -> None:
        """Return when what was begun is written."""
        self.leave()
        await asyncio.gather(*self._writes, return_exceptions=True)

    async def begin(
        self,
        application: str,
        posted: Mapping[str, Any],
        *,
        client: str = "",
        key: str | None = None,
        user: str | None = None,
        visitor: str | None = None,
    ) -> Session:
        """Write the intent down and begin; returns before the job is submitted.

        A request that is repeated joins the session that it began: with an Idempotency-Key ``key``
        always, without one where the same ``client`` asks again for what it waited for and left.
        ``user`` is whose session it becomes, and whose keys count; None without users, where
        ``visitor`` tells whose browser finds it again.

        Raises :class:`~hpcbridge.errors.RequestError` for what the client got wrong,
        :class:`~hpcbridge.errors.NoCapacity` when the limit of sessions is reached, and
        :class:`~hpcbridge.errors.StoreError` when the intent cannot be written.
        """
        known = application if application in self._settings.applications else ""
        count = self._instruments.launches
        try:
            session, result = await self._launch(application, posted, client, key, user, visitor)
        except BridgeError as error:
            count.labels(known, _result(error)).inc()
            raise
        count.labels(known, result).inc()
        return session

    async def _launch(
        self,
        application: str,
        posted: Mapping[str, Any],
        client: str,
        key: str | None,
        user: str | None,
        visitor: str | None,
    ) -> tuple[Session, str]:
        """The session, and how it was got."""
        wanted = self._configured(application)
        parameters = check_parameters(wanted.parameters, posted)
        if self._uploads is not None:
            parameters = await self._uploads.paths(wanted.parameters, parameters, user)
        asked = self._placement.asked_for(application, posted)
        what = [application, parameters, *([asked] if asked else [])]
        request = _digest(client if key is None else "", *what)
        if key is not None:  # one user's key opens no other's session
            key = _digest(key) if user is None else _digest(user, key)
        limits = quotas(self._settings.limits, application, wanted, user)
        pool = self.pools.pool(application, parameters, user)
        await self._placement.announcements.look()
        shut = self._placement.announcements.shut(application)
        if pool is not None and not self.leaving and not shut:
            wish = Asked(request, key, user, asked, _own(limits), visitor)
            if session := await self.pools.hand_over(pool, wish):
                return session, "warm"
        place = await self._placement.place(application, asked, user)
        row = self._intent(application, place, parameters)
        row.request, row.idempotency_key = request, key
        row.user, row.visitor = user, visitor
        if pool is not None:
            row.pool, row.taken_at = pool.name, time.time()
        if self._writes:  # whether a client left that now asks again
            await asyncio.wait(set(self._writes))
        if self._leaving.is_set():
            raise NoCapacity(_LEAVING)
        session = await self._whole(self._begin(row, _unless_shut(place, limits)))
        return session, "begun" if session.row.id == row.id else "joined"

    def _configured(self, application: str) -> ApplicationSettings:
        if application not in self._settings.applications:
            names = ", ".join(self._settings.applications)
            raise UnknownApplication(
                f"There is no application '{application[:64]}'. Applications: {names}."
            )
        return self._settings.applications[application]

    async def _warm(self, pool: Pool) -> tuple[SessionRow, Sequence[Quota]]:
        """A further session of a pool, and how many there may be."""
        place = await self._placement.place(pool.application, None, pool.user)
        row = self._intent(pool.application, place, dict(pool.parameters))
        row.pool, row.claimed = pool.name, True  # the pool wants it
        limits = quotas(self._settings.limits, pool.application, pool.settings, None)
        return row, _unless_shut(place, limits)

    async def _begin(self, row: SessionRow, limits: Sequence[Quota]) -> Session:
        found = await self._store.launch(row, limits)
        if found is not row and found.request != row.request:
            raise _another_request(found)
        if found is not row and found.state == State.ENDED:
            raise recorded(found, "The session of this Idempotency-Key has ended: ")
        session = self._registry.begin(found)
        session.keepalive.elsewhere(0)
        return session

    def _intent(
        self, application: str, place: Place, parameters: dict[str, Primitive]
    ) -> SessionRow:
        session_id = secrets.token_hex(20)  # lower case: some clients lower the whole sessionURL
        return SessionRow(
            id=session_id,
            # No "-" at its beginning: it becomes an argument.
            secret=secrets.token_hex(SECRET_DIGITS // 2),
            application=application,
            cluster=place.cluster,
            account=place.account,
            parameters=parameters,
            job_name=job_name(session_id, self._registry.mark),
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
        hold = session.application.hold if session.application else None
        waits = [asyncio.create_task(each.wait()) for each in (session.settled, self._leaving)]
        try:
            with session.keepalive.client_waits():
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED, timeout=hold)
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
            and not session.keepalive.has_clients
            and not session.stopping
        ):
            try:
                await self._store.note(session.row, forsaken=True)
            except StoreError as error:
                log.warning("session %s: %s", session.row.job_name, error)


def _result(error: BridgeError) -> str:
    """What came of a launch that began no session."""
    if isinstance(error, NoCapacity):
        return "no_capacity"
    if isinstance(error, RequestError):
        return "invalid"
    return "unavailable" if isinstance(error, StoreError | AccountsUnknown) else "failed"


def _own(limits: Sequence[Quota]) -> Sequence[Quota]:
    """Those that a warm session counts for: all others stay as full, and it does not wait."""
    return [quota for quota in limits if "user" in quota.columns and not quota.queued]


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
