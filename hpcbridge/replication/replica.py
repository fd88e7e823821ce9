"""One of several services on a PostgreSQL database: its part, and what it tells and hears.

Notices tell of each change at once. They may be lost with their connection, so versions are
compared at a long interval as well.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Protocol

from hpcbridge.errors import StoreError
from hpcbridge.replication.leadership import FREED, Leadership
from hpcbridge.replication.notifications import Notifications
from hpcbridge.store import RemoteClients, SessionRow, Store

log = logging.getLogger(__name__)

INTERVAL = 3.0
"""Seconds between two reports of who wants sessions, and who is connected."""
POLL = 10.0
"""Seconds between two comparisons of versions."""


class SharedSession(Protocol):
    """What a replica tells and hears of a session."""

    row: SessionRow
    remote_clients: RemoteClients | None

    def wanted_here(self) -> bool:
        """Whether a client of this replica wants it, or has asked since this was last called."""
        ...

    async def report(self) -> None:
        """Tell the leader who is connected here, if that has changed."""
        ...


class Registry(Protocol):
    """The sessions of this service, which it leads or follows."""

    @property
    def sessions(self) -> Collection[SharedSession]:
        """All that this service has."""
        ...

    async def lead(self) -> None:
        """Drive all sessions."""
        ...

    async def follow(self) -> None:
        """Drive no session."""
        ...

    async def reread(self) -> None:
        """Take over everything from the database."""
        ...

    async def heard(self, names: Collection[str]) -> None:
        """Take the sessions with these job names over from the database."""
        ...


class Replica:
    """At work from :meth:`start` to :meth:`close`."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self._leadership = Leadership(store, registry.lead, registry.follow)
        self._notifications = Notifications(store, self._heard, registry.reread)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Join the others, and try to lead. Raises :class:`~hpcbridge.errors.StoreError`."""
        await self._store.replicas.announce()
        works = {
            "lead": self._leadership.run,
            "hear other replicas": self._notifications.run,
            "report to the leader": self._report,
            "compare with the database": self._compare,
        }
        self._tasks = [
            asyncio.create_task(_always(work), name=name) for name, work in works.items()
        ]

    async def _heard(self, names: set[str]) -> None:
        if FREED in names:
            self._leadership.freed()
        if sessions := names - {FREED}:
            await self._registry.heard(sessions)

    async def _report(self) -> None:
        while True:
            with contextlib.suppress(StoreError):  # the leadership tells of outages
                await self._store.replicas.announce()
                sessions = list(self._registry.sessions)
                if wanted := [session.row.id for session in sessions if session.wanted_here()]:
                    await self._store.wanted(wanted)
                for session in sessions:
                    await session.report()
                if self._store.term:
                    await self._count_remote_clients(sessions)
            await asyncio.sleep(INTERVAL)

    async def _count_remote_clients(self, sessions: Iterable[SharedSession]) -> None:
        remote_clients = await self._store.endpoints.remote_clients()
        for session in sessions:
            session.remote_clients = remote_clients.get(
                session.row.id, RemoteClients(0, float("inf"))
            )

    async def _compare(self) -> None:
        while True:
            await asyncio.sleep(POLL)
            with contextlib.suppress(StoreError):
                known = {session.row.id: session.row for session in self._registry.sessions}
                there = await self._store.versions()
                changed = {
                    name
                    for key, (name, version) in there.items()
                    if key not in known or known[key].version != version
                }
                gone = {row.job_name for key, row in known.items() if key not in there}
                if changed | gone:
                    await self._registry.heard(changed | gone)

    async def close(self) -> None:
        """Leave, and step down at once; the sessions must not be driven any more."""
        term = self._store.term
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._leadership.release(term)
        with contextlib.suppress(StoreError):
            await self._store.replicas.leave()


async def _always(work: Callable[[], Awaitable[None]]) -> None:
    """Whatever goes wrong in ``work``: it is begun again, for nobody else does it here."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("a replica's task failed and begins again")
        await asyncio.sleep(INTERVAL)
