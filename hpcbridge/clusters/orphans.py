"""Jobs with this installation's mark that no session knows: they are ended.

Such a job is left where a database was lost, or where a scheduler gave birth to a job long after
it seemed to have refused it. One sighting may be a coincidence, so it takes two, a grace apart.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection
from dataclasses import dataclass

from hpcbridge.clusters.cluster import Cluster
from hpcbridge.config.installation import is_marked
from hpcbridge.errors import BridgeError, ClusterError, ClusterUnreachable
from hpcbridge.schedulers.base import JobInfo, JobState, Listing
from hpcbridge.store import Store

log = logging.getLogger(__name__)

INTERVAL = 300.0
"""Seconds between two looks at a cluster on which nothing is watched."""


@dataclass
class _Suspect:
    job: JobInfo
    since: float
    cancelled: bool = False


class Orphans:
    """Looks at each listing of one cluster for such jobs; makes no query of its own for that."""

    def __init__(self, cluster: Cluster, store: Store, mark: str) -> None:
        self._cluster = cluster
        self._store = store
        self._mark = mark
        self._suspects: dict[str, _Suspect] = {}  # by job id
        self._task: asyncio.Task[None] | None = None

    @property
    def interval(self) -> float:
        """Seconds until it wants to see the next listing, if nobody else needs one."""
        return self._cluster.settings.grace if self._suspects or self._busy else INTERVAL

    @property
    def _busy(self) -> bool:
        return self._task is not None and not self._task.done()

    def listed(self, listing: Listing, watched: Collection[str]) -> None:
        """A complete listing came in; jobs with the names ``watched`` have their session."""
        if self._busy:  # still, with an earlier one
            return
        jobs = [
            job
            for job in listing.jobs.values()
            if job.state not in (JobState.COMPLETING, JobState.ENDED)
            and job.name not in watched
            and is_marked(job.name, self._mark)
        ]
        if jobs or self._suspects:
            self._task = asyncio.create_task(self._consider(jobs), name="end orphans")

    async def _consider(self, jobs: list[JobInfo]) -> None:
        try:
            known = await self._store.known([job.name for job in jobs])
            unknown = [job for job in jobs if job.name not in known]
            grace, now = self._cluster.settings.grace, time.monotonic()
            due = [each for each in map(self._sighted, unknown) if now - each.since >= grace]
            if due:
                await self._cancel(due)
            await self._sweep({job.job_id for job in unknown})
        except BridgeError as error:  # the next listing comes
            log.warning("jobs without a session on %s: %s", self._cluster.name, error)

    def _sighted(self, job: JobInfo) -> _Suspect:
        suspect = self._suspects.get(job.job_id)
        if suspect is None or suspect.job.name != job.name:
            suspect = self._suspects[job.job_id] = _Suspect(job, time.monotonic())
            log.warning(
                "job %s (%s) on %s is of this installation, but no session knows it; if that is "
                "still so after %g s, it is cancelled",
                job.job_id,
                job.name,
                self._cluster.name,
                self._cluster.settings.grace,
            )
        return suspect

    async def _cancel(self, due: list[_Suspect]) -> None:
        names = ", ".join(f"{each.job.job_id} ({each.job.name})" for each in due)
        log.warning("cancelled on %s, since no session knows them: %s", self._cluster.name, names)
        for each in due:
            each.since, each.cancelled = time.monotonic(), True  # asked again after a grace
        for account in {each.job.account for each in due}:
            theirs = {each.job.job_id: each.job.name for each in due if each.job.account == account}
            try:
                with self._cluster.held(account) as cluster:
                    await cluster.scheduler.cancel(theirs)
            except BridgeError as error:  # and go on with those of other accounts
                log.warning("jobs without a session on %s: %s", self._cluster.name, error)

    async def _sweep(self, living: set[str]) -> None:
        """Forget suspects that are gone, and remove what those that were cancelled have left."""
        for job_id in self._suspects.keys() - living:
            suspect = self._suspects[job_id]
            if suspect.cancelled and not await self._store.known([suspect.job.name]):
                try:
                    with self._cluster.held(suspect.job.account) as cluster:
                        directory = f"{await cluster.session_root()}/{suspect.job.name}"
                        await cluster.transport.remove(directory)
                except ClusterUnreachable:
                    raise  # tried again after the next listing
                except ClusterError as error:
                    log.warning("left for its owner to remove: %s", error)
            del self._suspects[job_id]

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
