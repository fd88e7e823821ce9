"""One of several services on a PostgreSQL database: its part, and what it tells and hears.

Notices tell of each change at once. They may be lost with their connection, so versions are
compared at a slow beat as well.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable

from hpcbridge.crew import Crew
from hpcbridge.errors import StoreError
from hpcbridge.leadership import FREED, Leadership
from hpcbridge.life import Life
from hpcbridge.notices import Notices
from hpcbridge.store import Store, Visitors

log = logging.getLogger(__name__)

BEAT = 3.0
"""Seconds between two reports of who wants sessions, and who is connected."""
POLL = 10.0
"""Seconds between two comparisons of versions."""


class Replica:
    """At work from :meth:`start` to :meth:`close`."""

    def __init__(self, store: Store, crew: Crew) -> None:
        self._store = store
        self._crew = crew
        self._leadership = Leadership(store, crew.lead, crew.follow)
        self._notices = Notices(store, self._heard, crew.reread)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Join the others, and try to lead. Raises :class:`~hpcbridge.errors.StoreError`."""
        await self._store.seen()
        works = {
            "lead": self._leadership.run,
            "hear other replicas": self._notices.run,
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
            await self._crew.heard(sessions)

    async def _report(self) -> None:
        while True:
            with contextlib.suppress(StoreError):  # the leadership tells of outages
                await self._store.seen()
                lives = list(self._crew.lives)
                if wanted := [life.row.id for life in lives if life.interest.here()]:
                    await self._store.wanted(wanted)
                for life in lives:
                    await life.door.report()
                if self._store.term:
                    await self._look_elsewhere(lives)
            await asyncio.sleep(BEAT)

    async def _look_elsewhere(self, lives: Iterable[Life]) -> None:
        visitors = await self._store.visitors()
        for life in lives:
            life.visitors = visitors.get(life.row.id, Visitors(0, float("inf")))

    async def _compare(self) -> None:
        while True:
            await asyncio.sleep(POLL)
            with contextlib.suppress(StoreError):
                known = {life.row.id: life.row for life in self._crew.lives}
                there = await self._store.versions()
                changed = {
                    name
                    for key, (name, version) in there.items()
                    if key not in known or known[key].version != version
                }
                gone = {row.job_name for key, row in known.items() if key not in there}
                if changed | gone:
                    await self._crew.heard(changed | gone)

    async def close(self) -> None:
        """Leave, and step down at once; the sessions must not be driven any more."""
        term = self._store.term
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._leadership.release(term)
        with contextlib.suppress(StoreError):
            await self._store.leave()


async def _always(work: Callable[[], Awaitable[None]]) -> None:
    """Whatever goes wrong in ``work``: it is begun again, for nobody else does it here."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("a replica's task failed and begins again")
        await asyncio.sleep(BEAT)
