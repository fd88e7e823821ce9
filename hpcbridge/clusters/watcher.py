"""One loop a cluster: ask once for all jobs, and tell every session what is new of its job.

"Could not ask" is never news of a job: it only sets ``unknown_since``. A job counts as ended when
the scheduler says so, or when two complete listings in a row lack it after its grace period.
"""

import asyncio
import contextlib
import dataclasses
import logging
import math
import random
import time
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from hpcbridge.clusters.health import Health
from hpcbridge.clusters.queuestatus import QueueStatusPoller
from hpcbridge.errors import ClusterError
from hpcbridge.schedulers.base import EndReason, JobInfo, JobState, Listing, Outlook, Scheduler

log = logging.getLogger(__name__)

# Seconds between two queries.
INTERVAL_STARTING = 1.0
INTERVAL_WAITING = 5.0
INTERVAL_QUIET = 15.0
INTERVAL_FAILING = 30.0
HOPELESS = 10.0
"""Seconds for which a job must be called hopeless to be so: an admin's changes come in steps."""
LEAST = 0.05
"""Seconds between two queries, however many hints come in."""
YOUNG = 60.0
"""Seconds for which a job is looked at as one that may start any moment."""
SIGHTINGS = 2
ENDS_AT_ONCE = 8
"""How many ended jobs are asked about at the same time."""
AT_A_STRETCH = 500
"""Jobs of a listing that are looked at before whatever else waits gets its turn."""
REST = 4.0
"""How many times as long as a round took the watcher rests, however many hints come in."""
_OVER = (JobState.COMPLETING, JobState.ENDED)


class Watch:
    """What is known of one job. ``changed`` is called after each change of these fields."""

    def __init__(
        self,
        job_id: str,
        name: str,
        grace: float,
        changed: Callable[[], None],
        account: str | None = None,
    ) -> None:
        self.job_id = job_id
        self.name = name
        #: Whose it is, where jobs of several accounts are watched.
        self.account = account
        self.job: JobInfo | None = None
        #: What the job may expect while it is queued; None until that was asked for.
        self.outlook: Outlook | None = None
        #: A sentence that says why the job can never start, once that is certain.
        self.hopeless = ""
        #: Seconds since the epoch since which the scheduler could not be asked.
        self.unknown_since: float | None = None
        #: Whether the session is past its start, so that slow rounds will do.
        self.quiet = False
        self.changed = changed
        self.since = time.monotonic()
        self.grace = grace
        self.missing = 0
        self.ending = False
        self.hopeless_since: float | None = None
        #: When the last listing was asked for, and whether it, or a second question, has this job
        #: under its id.
        self.asked = 0.0
        self.listed = False

    @property
    def ended(self) -> bool:
        """Whether there is proof that the job is over."""
        return self.job is not None and self.job.state == JobState.ENDED

    @property
    def over(self) -> bool:
        """Whether there is proof that the job's application is over, if not the job itself."""
        return self.job is not None and self.job.state in _OVER

    @property
    def queued(self) -> bool:
        """Whether the job waits, as far as is known."""
        return self.job is not None and self.job.state == JobState.QUEUED

    @property
    def ours(self) -> bool:
        """Whether the id means this job, by a listing asked for after :meth:`hurry`.

        A job that the listing lacks may have lost its id: a controller without its state begins
        at its first id again.
        """
        return self.asked >= self.since and self.unknown_since is None and self.listed

    def judge(self) -> None:
        """See whether the job was called hopeless for long enough."""
        said = self.job.hopeless if self.job is not None and self.queued else ""
        if not said:
            self.hopeless_since = None
        elif self.hopeless_since is None:
            self.hopeless_since = time.monotonic()
        certain = time.monotonic() - (self.hopeless_since or math.inf) >= HOPELESS
        self.hopeless = said if certain else ""

    def not_asked(self) -> None:
        """The scheduler could not be asked for it in this round."""
        if self.unknown_since is None:
            self.unknown_since = time.time()
            self.changed()

    def hurry(self, *, ending: bool = True) -> None:
        """Look at the job often again: it is being ended, or has gone back to the queue.

        One that is being ended, and is not listed, is asked for by its id at once.
        """
        self.quiet, self.since, self.ending = False, time.monotonic(), ending

    @property
    def interval(self) -> float:
        """How soon this job wants to be asked for again, in seconds."""
        if self.quiet:
            return INTERVAL_QUIET
        young = time.monotonic() - self.since < YOUNG
        running = self.job is not None and self.job.state == JobState.RUNNING
        return INTERVAL_STARTING if young or running else INTERVAL_WAITING


class ListingObserver(Protocol):
    """Somebody who looks at whole listings, also while no job is watched."""

    @property
    def interval(self) -> float:
        """How soon the next listing is wanted, in seconds."""
        ...

    def listed(self, listing: Listing, watched: Collection[str]) -> None:
        """A complete listing came in; ``watched`` are the names of the jobs that are watched."""
        ...

    async def close(self) -> None:
        """No further listing will come."""
        ...


class Watcher:
    """Watches all jobs of one cluster with one query a round."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._watches: set[Watch] = set()
        self._woken = asyncio.Event()
        self._failures = 0
        self._observer: ListingObserver | None = None
        self._task: asyncio.Task[None] | None = None
        self._asking = asyncio.Semaphore(ENDS_AT_ONCE)
        #: Seconds that the last listing took to be looked at.
        self._spent = 0.0
        self._queue_status = QueueStatusPoller(scheduler)
        #: Whether the scheduler answers; whoever asks it something else may tell that here too.
        self.health = Health()
        #: Why the scheduler could not be asked the last time; "" where it could.
        self.trouble = ""
        scheduler.notify(self.wake)

    def watch(
        self,
        job_id: str,
        name: str,
        grace: float,
        changed: Callable[[], None],
        account: str | None = None,
    ) -> Watch:
        """Begin to watch a job, of ``account`` if it is not ours; ``grace`` in seconds from now."""
        watch = Watch(job_id, name, grace, changed, account)
        self._watches.add(watch)
        self._begin()
        return watch

    def observe(self, observer: ListingObserver) -> None:
        """Show every listing to ``observer``, the first one now."""
        self._observer = observer
        self._begin()

    async def stop_observing(self) -> None:
        """Show it no listing any more."""
        observer, self._observer = self._observer, None
        if observer is not None:
            await observer.close()

    def _begin(self) -> None:
        self.wake()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="watch jobs")

    def drop(self, watch: Watch) -> None:
        """Watch no longer."""
        self._watches.discard(watch)

    def wake(self) -> None:
        """Ask soon: there is a hint that a job moved."""
        self._woken.set()

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            if self._watches or self._observer:
                try:
                    await self._round()
                except Exception:
                    # Such as an adapter's answer that is no listing: the loop goes on.
                    log.exception("jobs cannot be looked after in this round")
                    self._failures += 1
            await asyncio.sleep(max(LEAST, self._spent * REST))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._woken.wait()

    def _pause(self) -> float | None:
        """Seconds until the next round, or None while there is nothing to watch."""
        intervals = [watch.interval for watch in self._watches]
        interval = min(
            [*intervals, self._observer.interval] if self._observer else intervals, default=None
        )
        if interval is None:
            return None
        if self._failures:
            interval = max(interval, min(INTERVAL_FAILING, 2.0 ** min(self._failures, 10) / 2))
        return interval * random.uniform(0.9, 1.1)  # noqa: S311  # jitter, not a secret

    async def _round(self) -> None:
        watches, asked = list(self._watches), time.monotonic()
        try:
            listing = await self._scheduler.list_jobs()
        except Exception as error:
            # Whatever went wrong: the loop goes on, and no job is over because of it.
            expected = isinstance(error, ClusterError)
            log.warning("jobs cannot be asked for: %s", error, exc_info=not expected)
            self._failures += 1
            self.trouble = str(error) if expected else ""
            self.health.failed(str(error) if expected else "Internal error.")
            for watch in watches:
                watch.not_asked()
            return
        self._failures = 0
        self.trouble = ""
        self.health.answered(time.monotonic() - asked)
        if self._observer:
            self._observer.listed(listing, {watch.name for watch in self._watches})
        await self._tell(watches, listing, asked)
        self._queue_status.poll(self._watches)

    async def _tell(self, watches: Sequence[Watch], listing: Listing, asked: float) -> None:
        """What the listing tells, at once; what takes a second question, for all together."""
        questions = []
        self._spent = 0.0
        for start in range(0, len(watches), AT_A_STRETCH):
            began = time.monotonic()
            for watch in watches[start : start + AT_A_STRETCH]:
                job = listing.jobs.get(watch.job_id)
                if job is not None and _told(watch, job):
                    _take(watch, job, asked)
                else:
                    questions.append(watch)
            self._spent += time.monotonic() - began
            await asyncio.sleep(0)
        await asyncio.gather(*(self._look_up(watch, listing, asked) for watch in questions))

    async def _look_up(self, watch: Watch, listing: Listing, asked: float) -> None:
        job = listing.jobs.get(watch.job_id)
        if job is None and watch.account in listing.unknown:  # removed while its jobs run, maybe
            try:
                async with self._asking:
                    job = await self._scheduler.describe_end(watch.job_id)
            except Exception as error:
                log.warning("job %s cannot be asked for: %s", watch.job_id, error)
                watch.not_asked()
                return
        if job is None and watch.job_id in listing.untold:
            watch.not_asked()
            return
        await self._update(watch, job, asked)

    async def _update(self, watch: Watch, job: JobInfo | None, asked: float) -> None:
        if job is not None and _told(watch, job):
            return _take(watch, job, asked)
        news, watch.asked = watch.asked < watch.since, asked
        watch.listed = job is not None and job.name == watch.name
        if not watch.listed:
            job = None  # schedulers use ids again
        if job is None:
            try:
                job = await self._missing(watch)
            except Exception as error:  # a question that failed is no answer
                _log_failure(watch.job_id, error)
                watch.not_asked()
                return
        else:
            watch.missing = 0
            job = await self._with_details(job)
        _note(watch, job, news)

    async def _missing(self, watch: Watch) -> JobInfo | None:
        """How a job ended that the listing lacks, or what was known while that may mean nothing.

        A second question tells, and may tell that the job is not over at all. Raises what the
        scheduler raises for it.
        """
        watch.missing += 1
        young = time.monotonic() - watch.since < watch.grace
        unsure = young or watch.missing < SIGHTINGS
        if watch.ended or (unsure and not watch.ending):
            return watch.job
        async with self._asking:
            details = await self._scheduler.describe_end(watch.job_id)
        if details is not None and details.name == watch.name:
            watch.listed = details.state != JobState.ENDED
            return details
        if unsure:
            return watch.job
        return JobInfo(
            watch.job_id,
            watch.name,
            JobState.ENDED,
            detail="the scheduler no longer knows the job",
            reason=EndReason.FINISHED,
        )

    async def _with_details(self, job: JobInfo) -> JobInfo:
        """An end that the listing tells, with what a second question tells of it, if anything.

        That may be that the job is not over at all; then it is not.
        """
        try:
            async with self._asking:
                details = await self._scheduler.describe_end(job.job_id)
        except Exception as error:
            _log_failure(job.job_id, error)
            return job
        if details is None or details.name != job.name:
            return job
        return dataclasses.replace(details, host=details.host or job.host)

    async def close(self) -> None:
        """Watch nothing any more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._queue_status.close()
        await self.stop_observing()


def _told(watch: Watch, job: JobInfo) -> bool:
    """Whether the listing alone tells all of the job: it has not just ended."""
    if job.name != watch.name:
        return False
    known = watch.ended or (watch.job is not None and watch.job.state == job.state)
    return known or job.state not in _OVER


def _take(watch: Watch, job: JobInfo, asked: float) -> None:
    """All that the listing tells of a job; of an end, what is known of it already."""
    news, watch.asked = watch.asked < watch.since, asked
    watch.listed, watch.missing = True, 0
    _note(watch, watch.job if job.state in _OVER else job, news)


def _note(watch: Watch, job: JobInfo | None, news: bool) -> None:
    """What is known of a job by now, told where it is new."""
    before = watch.job, watch.hopeless
    watch.job = job
    watch.judge()
    if not watch.queued:
        watch.outlook = None
    if news or before != (job, watch.hopeless) or watch.unknown_since is not None:
        watch.unknown_since = None
        watch.changed()


def _log_failure(job_id: str, error: Exception) -> None:
    expected = isinstance(error, ClusterError)
    log.warning("the end of job %s cannot be asked for: %s", job_id, error, exc_info=not expected)
