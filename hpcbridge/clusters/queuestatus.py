"""What waiting jobs may expect, asked for at a long interval.

It never matters: when the question fails or hangs, nothing else is later or different for it.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection
from typing import Protocol

from hpcbridge.errors import ClusterError
from hpcbridge.schedulers.base import Outlook, Scheduler

log = logging.getLogger(__name__)

# Seconds between two questions, and between two when a job has begun to wait in the meantime.
INTERVAL = 15.0
SOON = 5.0
SHARE = 20
"""How many times as long as it took a question rests: a long queue costs the controller dear."""
AT_A_STRETCH = 100
"""Jobs that are told before whatever else waits gets its turn."""
PATIENCE = 2.0
"""Seconds for which a job must have waited: those that start at once are not asked for."""


class QueuedJob(Protocol):
    """A job that may wait in its queue."""

    job_id: str
    outlook: Outlook | None
    changed: Callable[[], None]
    #: When it began to be watched, in monotonic seconds.
    since: float

    @property
    def queued(self) -> bool:
        """Whether it waits, as far as is known."""
        ...


class QueueStatusPoller:
    """Keeps ``outlook`` of all waiting jobs of one cluster, with one question for all of them."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._task: asyncio.Task[None] | None = None
        # When to ask, and when at the earliest for the sake of a new job, in monotonic seconds.
        self._due = self._soonest = 0.0

    def poll(self, jobs: Collection[QueuedJob]) -> None:
        """Ask, if some of these jobs wait and it is time; the answer is not waited for."""
        now = time.monotonic()
        queued = [job for job in jobs if job.queued and now - job.since >= PATIENCE]
        due = self._soonest if any(job.outlook is None for job in queued) else self._due
        busy = self._task is not None and not self._task.done()
        if queued and not busy and now >= due:
            self._task = asyncio.create_task(self._ask(queued), name="outlook of waiting jobs")

    async def _ask(self, queued: Collection[QueuedJob]) -> None:
        began, answer = time.monotonic(), None
        try:
            answer = await self._scheduler.outlook({job.job_id for job in queued})
        except Exception as error:
            expected = isinstance(error, ClusterError)
            log.warning("waiting jobs: no outlook: %s", error, exc_info=not expected)
        ended = time.monotonic()
        rest = SHARE * (ended - began)
        self._due = ended + max(INTERVAL, rest)
        self._soonest = self._due if answer is None else ended + max(SOON, rest)
        if answer is None:
            return
        for number, job in enumerate(queued, 1):
            outlook, before = answer.get(job.job_id, Outlook()), job.outlook or Outlook()
            if job.queued:
                job.outlook = outlook
                if outlook != before:
                    job.changed()
            if number % AT_A_STRETCH == 0:
                await asyncio.sleep(0)

    async def close(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
