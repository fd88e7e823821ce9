"""Which of several replicas drives the sessions: a lease in the database they share.

The leader renews it; one that could not stops before another can take it. Times are those of the
database's clock, and here the monotonic one, so that clocks need not agree. A replica that stands
still may still believe that it leads: therefore each term has a number, and what only the leader
may write is written in a transaction that holds the row of this number.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from hpcbridge.database.engine import APPLICATION, STUCK
from hpcbridge.errors import StoreError
from hpcbridge.store import CHANNEL, NOBODY, Store

log = logging.getLogger(__name__)

LEASE = 5.0
"""Seconds for which the leadership is held without being renewed."""
RENEW = 1.5
MARGIN = 1.5
"""Seconds before the end of its lease at which a leader that could not renew it stops."""
TRY = 0.5
"""Seconds between two attempts to take it."""
FREED = "leadership"
"""What is told to the other replicas when a leader steps down."""

_NOW = "extract(epoch from clock_timestamp())"
_TAKE = text(
    "INSERT INTO leadership AS held (id, holder, term, expires_at) "  # noqa: S608  # constants
    f"VALUES (1, :me, 1, {_NOW} + :lease) ON CONFLICT (id) DO UPDATE "
    f"SET holder = :me, term = held.term + 1, expires_at = {_NOW} + :lease "
    f"WHERE held.expires_at < {_NOW} RETURNING term"
)
_RENEW = text(
    f"UPDATE leadership SET expires_at = {_NOW} + :lease "  # noqa: S608
    "WHERE holder = :me AND term = :term RETURNING term"
)
_RELEASE = text("UPDATE leadership SET expires_at = 0 WHERE holder = :me AND term = :term")
_NOTIFY = text("SELECT pg_notify(:channel, :payload)")
# One that stands still between two messages of one statement counts as active to PostgreSQL, whose
# own idle_in_transaction_session_timeout therefore lets it keep its locks for ever.
_END_STUCK = text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE application_name = :application AND usename = current_user "
    "AND datname = current_database() AND state <> 'idle' AND wait_event = 'ClientRead' "
    "AND state_change < clock_timestamp() - make_interval(secs => :stuck)"
)
_IMPATIENT = text("SELECT set_config('lock_timeout', '1000', true)")


class Leadership:
    """Tries to lead for as long as :meth:`run` runs.

    ``lead`` is awaited when this replica has become the leader, and ``follow`` when it is no more.
    """

    def __init__(
        self,
        store: Store,
        lead: Callable[[], Awaitable[None]],
        follow: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._lead = lead
        self._follow = follow
        self._freed = asyncio.Event()

    def freed(self) -> None:
        """Another replica has stepped down: try at once."""
        self._freed.set()

    async def run(self) -> None:
        """Take the lease, hold it, lose it, and again."""
        while True:
            asked = time.monotonic()
            term = await self._acquire()
            if term is None:
                self._freed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TRY):
                        await self._freed.wait()
                continue
            log.info("this replica leads, term %d", term)
            self._store.term = term
            leading = asyncio.create_task(self._begin_to_lead(), name="take the sessions up")
            try:
                await self._keep(term, asked + LEASE - MARGIN)
                log.warning("this replica leads no more")
            finally:
                self._store.term = NOBODY
                leading.cancel()
                await asyncio.wait({leading})
                await self._follow()

    async def _begin_to_lead(self) -> None:
        while True:
            try:
                return await self._lead()
            except Exception as error:
                # Whatever went wrong: this replica leads, so the sessions are to be driven by it.
                expected = isinstance(error, StoreError)
                log.warning("the sessions cannot be taken up: %s", error, exc_info=not expected)
                await asyncio.sleep(TRY)

    async def _acquire(self) -> int | None:
        try:
            async with self._store.writing() as session:
                await self._end_stuck(session)
                await session.execute(_IMPATIENT)
                asked = {"me": self._store.token, "lease": LEASE}
                taken = (await session.execute(_TAKE, asked)).scalar()
        except StoreError as error:
            log.warning("nobody can be seen to lead: %s", error)
            return None
        return int(taken) if taken is not None else None

    async def _keep(self, term: int, until: float) -> None:
        """Return when the lease is another's, or could not be renewed in time."""
        pause = RENEW
        while True:
            await asyncio.sleep(min(pause, max(0.0, until - time.monotonic())))
            if time.monotonic() >= until:
                return
            asked = time.monotonic()
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + until - asked):
                    renewed = await self._renew(term)
            except (StoreError, TimeoutError) as error:
                log.warning("the leadership cannot be renewed: %s", error or "no answer")
                pause = TRY
                continue
            if not renewed:
                return
            until, pause = asked + LEASE - MARGIN, RENEW

    async def _end_stuck(self, session: AsyncSession) -> None:
        """Free what is locked by a replica that stands still, or that the network has cut off."""
        asked = {"application": APPLICATION, "stuck": STUCK}
        if ended := (await session.execute(_END_STUCK, asked)).scalar():
            log.warning("ended %d transactions of a replica that stands still", ended)

    async def _renew(self, term: int) -> bool:
        async with self._store.writing() as session:
            await self._end_stuck(session)
            asked = {"me": self._store.token, "term": term, "lease": LEASE}
            return (await session.execute(_RENEW, asked)).scalar() is not None

    async def release(self, term: int | None) -> None:
        """Step down at once, if this replica led in ``term``; nothing of it may be at work."""
        if not term:
            return
        try:
            async with self._store.writing() as session:
                await session.execute(_RELEASE, {"me": self._store.token, "term": term})
                told = {"channel": CHANNEL, "payload": f"{self._store.token} {FREED}"}
                await session.execute(_NOTIFY, told)
        except StoreError as error:  # the lease runs out
            log.warning("the leadership cannot be given back: %s", error)
