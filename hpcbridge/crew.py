"""The lives of all sessions, and the part that this service has in them: to lead or to follow."""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence

from hpcbridge.clusters import Cluster
from hpcbridge.config import Settings
from hpcbridge.installation import mark
from hpcbridge.life import Life
from hpcbridge.means import Means
from hpcbridge.orphans import Orphans
from hpcbridge.presence import HELD
from hpcbridge.store import SessionRow, State

log = logging.getLogger(__name__)


class Crew:
    """One life for each session that has not ended; a leader also has those that clean up."""

    def __init__(self, settings: Settings, means: Means, clusters: Mapping[str, Cluster]) -> None:
        self._settings = settings
        self._means = means
        self._clusters = clusters
        self._lives: dict[str, Life] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._doors: dict[str, str] = {}
        self._leading = False
        self._closed = False
        #: By which the jobs of this installation are known.
        self.mark = mark(settings)

    @property
    def lives(self) -> Collection[Life]:
        """All that are in this service's hands."""
        return list(self._lives.values())

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

    def life(self, session_id: str) -> Life | None:
        """A session in this service's hands; None where it is over or unknown."""
        return self._lives.get(session_id)

    async def start(self) -> None:
        """Learn what this service had before. Raises :class:`~hpcbridge.errors.StoreError`."""
        self.mark = await self._means.store.mark(self.mark)
        self._doors = await self._means.store.doors()

    def begin(self, row: SessionRow) -> Life:
        """A session that a client of this service has just asked for."""
        life = self._lives.get(row.id)
        if life is None:
            life = self._take(row)
            self._drive(life)
        else:
            life.seen(row, driven=self._leading)
        return life

    async def lead(self) -> None:
        """Drive all sessions, and end jobs of ours that no session knows.

        Raises :class:`~hpcbridge.errors.StoreError`; it may then be tried again.
        """
        await self._stand_still()
        self._leading = True
        await self.reread()
        for life in self.lives:
            if life.row.id not in self._tasks:
                self._drive(life)
        for each in self._clusters.values():
            each.watcher.patrol(Orphans(each, self._means.store, self.mark))

    async def follow(self) -> None:
        """Drive no session; have tunnels and routes for those that are ready."""
        self._leading = False
        for each in self._clusters.values():
            await each.watcher.dismiss()
        await self._stand_still()
        for life in self.lives:
            life.let_go()
            if not self._closed:
                self._drive(life)

    async def _stand_still(self) -> None:
        tasks, self._tasks = self.tasks, {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def reread(self) -> None:
        """Take over everything from the database."""
        rows = await self._means.store.unfinished()
        there = {row.id for row in rows}
        gone = {life.row.job_name for life in self.lives if life.row.id not in there}
        if gone:
            rows = [*rows, *await self._means.store.named(gone)]
        self._take_over(rows)

    async def heard(self, names: Collection[str]) -> None:
        """Take these sessions over from the database."""
        self._take_over(await self._means.store.named(names))

    def _take_over(self, rows: Sequence[SessionRow]) -> None:
        for row in rows:
            life = self._lives.get(row.id)
            if life is not None:
                life.seen(row, driven=self._leading and row.id in self._tasks)
            elif row.cluster not in self._clusters:
                log.warning("session %s: no cluster '%s' any more", row.job_name, row.cluster)
            elif row.state != State.ENDED or (self._leading and not row.job_ended):
                life = self._take(row)
                if self._means.store.shared:
                    life.interest.elsewhere(HELD)
                self._drive(life)

    def _take(self, row: SessionRow) -> Life:
        application = self._settings.applications.get(row.application)
        if row.warm and application is not None and application.warm is not None:
            application = application.model_copy(update={"wait": application.warm.wait})
        address = self._doors.pop(row.id, None)
        cluster = self._clusters[row.cluster].hold(row.account)
        life = Life(row, self._means, cluster, application, address=address)
        self._lives[row.id] = life
        return life

    def _drive(self, life: Life) -> None:
        key = life.row.id
        work = life.run() if self._leading else life.follow()
        task = asyncio.create_task(work, name=f"session {life.row.job_name}")
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._forget(key, task))

    def _forget(self, session_id: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(session_id) is task:  # and not one whose part another has taken over
            del self._tasks[session_id]
            if life := self._lives.pop(session_id, None):
                self._clusters[life.row.cluster].release(life.row.account)

    async def close(self) -> None:
        """Let go of all sessions: their jobs go on."""
        self._closed = True
        await self._stand_still()
        await asyncio.gather(*(life.release() for life in self.lives))
