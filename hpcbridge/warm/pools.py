"""The pools of warm sessions: kept filled by the replica that leads, handed out by any.

A session of a pool is a session like all others, with a job, a tunnel and a route, that is nobody's
yet. It counts as one session before and after it is handed out.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Generic, Protocol, TypeVar

from hpcbridge.clusters.announcements import Announcements
from hpcbridge.clusters.cluster import Cluster
from hpcbridge.config.fields import Primitive
from hpcbridge.config.settings import Settings
from hpcbridge.errors import (
    AccountRefused,
    BridgeError,
    LeadershipLost,
    StoreError,
)
from hpcbridge.store import Quota, SessionRow, Store
from hpcbridge.warm.plan import node_hours, plan
from hpcbridge.warm.pool import Pool, pools_of
from hpcbridge.warm.secret import replace_secret
from hpcbridge.warm.store import Asked, WarmStore

log = logging.getLogger(__name__)

INTERVAL = 5.0
"""Seconds between two looks at the pools; a handover here is a reason for one at once."""
RECORD = 26 * 3600.0
"""Seconds of the past that a plan knows: a day, also the one that summer time ends on."""
TRIES = 2
"""Warm sessions that may fail to take a new secret before a launch begins as ever."""
END_LIMIT = 20.0
"""Seconds that ending all warm sessions may take when the service stops."""


Launching = Callable[[Pool], Awaitable[tuple[SessionRow, Sequence[Quota]]]]


class PooledSession(Protocol):
    """What the pools need of a session that this service has."""

    row: SessionRow

    @property
    def tunnel_state(self) -> str | None:
        """``open`` while there is a tunnel that works."""
        ...

    def client_waits(self) -> AbstractContextManager[None]:
        """Somebody waits for it, inside the ``with`` block."""
        ...

    def cut(self) -> None:
        """Drop whoever is connected to it."""
        ...

    def stop(self) -> None:
        """Begin to end it."""
        ...


T = TypeVar("T")
S = TypeVar("S", bound=PooledSession)
S_co = TypeVar("S_co", bound=PooledSession, covariant=True)


class Registry(Protocol[S_co]):
    """What the pools need of the sessions of this service."""

    @property
    def leading(self) -> bool:
        """Whether this service drives the sessions."""
        ...

    @property
    def sessions(self) -> Collection[S_co]:
        """All that this service has."""
        ...

    def session(self, session_id: str) -> S_co | None:
        """One of them."""
        ...

    def task(self, session_id: str) -> asyncio.Task[None] | None:
        """What is at work for it."""
        ...

    def begin(self, row: SessionRow) -> S_co:
        """Have a session that was just launched, or changed."""
        ...


class Pools(Generic[S]):
    """``launching`` makes the rows of new sessions, and tells how many there may be."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        clusters: Mapping[str, Cluster],
        registry: Registry[S],
        launching: Launching,
        announcements: Announcements,
    ) -> None:
        self._pools = pools_of(settings)
        self._warm_store = WarmStore(store)
        self._clusters = clusters
        self._registry = registry
        self._launching = launching
        self._announcements = announcements
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # Whether there are no warm sessions left of pools that were configured before.
        self._tidy = False
        self._said: dict[str, str] = {}
        # What a client's hanging up, or the end of the service, must not cut short.
        self._uncut: set[asyncio.Task[Any]] = set()

    @property
    def there(self) -> bool:
        """Whether there is any pool."""
        return bool(self._pools)

    # -- handing out

    def pool(
        self, application: str, parameters: Mapping[str, Primitive], user: str | None
    ) -> Pool | None:
        """The pool whose sessions serve this launch; None where there is none."""
        for each in self._pools:
            same = each.application == application and each.parameters == parameters
            if same and each.user in (None, user):
                return each
        return None

    async def hand_over(self, pool: Pool, asked: Asked) -> S | None:
        """A ready session that is the user's from now on; None where a new one has to begin.

        It is done to its end also when who asked for it is cancelled. Raises
        :class:`~hpcbridge.errors.NoCapacity` for a user who has enough, and
        :class:`~hpcbridge.errors.StoreError`.
        """
        return await self._whole(self._hand_over(pool, asked))

    async def _whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Do this to its end, also when who waits for it is cancelled."""
        task = asyncio.create_task(work)
        self._uncut.add(task)
        task.add_done_callback(self._uncut.discard)
        return await asyncio.shield(task)

    async def _hand_over(self, pool: Pool, asked: Asked) -> S | None:
        personal = pool.warm.new_secret
        accounts = await self._accounts(pool, asked)
        for _ in range(TRIES):
            near = self._near(pool)
            if not near or not accounts:
                return None
            oldest = time.time() - pool.longest_age
            row = await self._warm_store.assign(
                pool.name, asked, oldest, accounts, among=near, wholly=not personal
            )
            if row is None:
                return None
            if session := await self._handed_over(row, asked, personal=personal):
                return session
        return None

    async def _handed_over(self, row: SessionRow, asked: Asked, *, personal: bool) -> S | None:
        session = self._registry.begin(row)
        try:
            with session.client_waits():
                if not personal or await self._made_personal(row, asked):
                    log.info("session %s: handed over", row.job_name)
                    session.cut()  # whoever came with the old secret
                    return self._registry.begin(row)
                await self._warm_store.throw_away(row)
                session.stop()
                return None
        finally:
            self._wake.set()  # only now: the next one's start would slow this one's end

    def ready(self, application: str, user: str | None) -> bool:
        """Whether this user's launch would get a session now, with the parameters of a pool."""
        return any(
            each.application == application and each.user in (None, user) and self._near(each)
            for each in self._pools
        )

    def _near(self, pool: Pool) -> list[str]:
        """The pool's sessions to which this replica has a tunnel that is open now."""
        return [
            session.row.id
            for session in self._registry.sessions
            if session.row.warm and session.row.pool == pool.name and session.tunnel_state == "open"
        ]

    async def _accounts(self, pool: Pool, asked: Asked) -> dict[str, str | None]:
        """The clusters that may serve the launch, and the user's account there."""
        found = {}
        for name in [asked.cluster] if asked.cluster else pool.settings.cluster:
            with contextlib.suppress(AccountRefused):
                if not self._drained(name):
                    found[name] = await self._clusters[name].account_of(asked.user)
        return found

    async def _made_personal(self, row: SessionRow, asked: Asked) -> bool:
        secret = secrets.token_hex(24)
        try:
            with self._clusters[row.cluster].held(row.account) as cluster:
                taken = await replace_secret(cluster.transport, row.directory, secret)
        except BridgeError as error:
            log.warning("session %s: no new secret: %s", row.job_name, error)
            return False
        if not taken:
            log.warning("session %s: the application takes no new secret", row.job_name)
            return False
        return await self._warm_store.give(row, asked, secret)

    # -- keeping them

    def reconfigure(self, pools: list[Pool]) -> None:
        """Keep these pools from now on; the sessions of others are ended."""
        self._pools, self._tidy = pools, False
        self._wake.set()

    def start(self) -> None:
        """Begin to look after the pools, whenever this replica leads."""
        self._task = asyncio.create_task(self._run(), name="keep warm sessions")

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            if self._registry.leading:
                try:
                    await self._tend()
                except LeadershipLost:
                    pass
                except StoreError as error:
                    log.warning("warm sessions: %s", error)
                except Exception:
                    log.exception("warm sessions: internal error")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await self._wake.wait()

    async def _tend(self) -> None:
        if not self._pools and self._tidy:
            return
        pools = self._pools
        for row in await self._warm_store.strays([each.name for each in pools]):
            await self._retire(row, "its pool is configured no more, or otherwise")
        self._tidy = pools is self._pools
        await self._announcements.look()
        for application in {each.application for each in pools}:
            record = await self._warm_store.rows(application, time.time() - RECORD)
            for pool in pools:
                if pool.application == application:
                    await self._keep(pool, record)

    async def _keep(self, pool: Pool, record: Sequence[SessionRow]) -> None:
        """Do what the plan says. ``record`` is that of the pool's application."""
        now, rows = time.time(), [row for row in record if row.pool == pool.name]
        made = plan(
            pool.warm,
            pool.settings.walltime or 0,
            rows,
            await self._warm_store.past(pool.name),
            now,
            spent=node_hours(record, pool.nodes, pool.warm.clock.midnight(now), now),
            drained=self._drained,
        )
        for row, why in made.end:
            await self._retire(row, why)
        there = sum(row.warm and not row.stopped for row in rows)
        fewer = made.why
        for number in range(made.begin):
            if fewer := await self._begin(pool, there + number + 1):
                break
        self._say(pool, fewer)

    async def _begin(self, pool: Pool, most: int) -> str:
        """One session more, of at most so many; why not, or ''."""
        try:
            row, quotas = await self._launching(pool)
            await self._whole(self._add(row, quotas, most))
        except StoreError:
            raise
        except BridgeError as error:
            return str(error)
        return ""

    async def _add(self, row: SessionRow, quotas: Sequence[Quota], most: int) -> None:
        if await self._warm_store.add(row, quotas, most):
            self._registry.begin(row)

    async def _retire(self, row: SessionRow, why: str) -> None:
        if await self._warm_store.retire(row):
            log.info("session %s: a warm session is ended: %s", row.job_name, why)
            if session := self._registry.session(row.id):
                session.stop()

    def _say(self, pool: Pool, why: str) -> None:
        """Say once why a pool is not full."""
        if why and self._said.get(pool.name) != why:
            whose = f" for {pool.user}" if pool.user else ""
            log.warning("warm sessions of '%s'%s: %s", pool.application, whose, why)
        self._said[pool.name] = why

    def _drained(self, cluster: str) -> bool:
        return bool(self._announcements.drained(cluster))

    # -- the end

    async def close(self) -> None:
        """Look after them no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await asyncio.gather(*self._uncut, return_exceptions=True)

    async def drain(self) -> None:
        """End all warm sessions, for nobody has them; the next service begins new ones."""
        sessions = []
        with contextlib.suppress(StoreError, LeadershipLost):
            for row in await self._warm_store.strays([]):
                await self._retire(row, "the service stops")
                sessions.append(row.id)
        tasks = [task for each in sessions if (task := self._registry.task(each))]
        if tasks:
            await asyncio.wait(tasks, timeout=END_LIMIT)
