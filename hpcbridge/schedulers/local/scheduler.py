"""The embedded batch runner as a scheduler."""

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from hpcbridge.config.batchsystems import LocalCluster
from hpcbridge.schedulers.base import (
    EndReason,
    Forecast,
    JobInfo,
    JobRequest,
    Kind,
    Listing,
    Outlook,
)
from hpcbridge.schedulers.local.job import told
from hpcbridge.schedulers.local.records import Records
from hpcbridge.schedulers.local.runner import Runner
from hpcbridge.schedulers.local.slots import latest_starts
from hpcbridge.transports.account import Account, account_named


class LocalScheduler:
    """Implements :class:`~hpcbridge.schedulers.base.Scheduler` on this machine."""

    def __init__(
        self,
        directory: Path,
        *,
        slots: int,
        queue: int,
        environment: Collection[str] = (),
        account: Account | None = None,
    ) -> None:
        more = {key: os.environ[key] for key in environment if key in os.environ}
        self._runner = Runner(
            Records(directory), slots=slots, queue=queue, environment=more, account=account
        )

    def notify(self, changed: Callable[[], None]) -> None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.notify`."""
        self._runner.changed = changed

    async def submit(self, request: JobRequest) -> str:
        """Queue a job, and start it if a slot is free.

        Raises :class:`~hpcbridge.errors.NoCapacity` when the queue is full.
        """
        await self._runner.load()
        return str((await self._runner.add(request)).job_id)

    async def list_jobs(self) -> Listing:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.list_jobs`."""
        await self._runner.load()
        return self._runner.jobs.listing

    async def outlook(self, job_ids: Collection[str]) -> Mapping[str, Outlook]:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.outlook`.

        ``start`` is the latest: a job that ends before its walltime lets others start earlier.
        """
        await self._runner.load()
        waiting = self._runner.jobs.queued
        starts = self._starts([job.walltime for job in waiting], time.time())
        return {
            str(job.job_id): Outlook(ahead=ahead, start=start, waits_for="a free slot")
            for ahead, (job, start) in enumerate(zip(waiting, starts, strict=True))
            if str(job.job_id) in job_ids
        }

    async def forecast(self, request: JobRequest) -> Forecast:
        """See :meth:`hpcbridge.schedulers.base.Forecaster.forecast`; ``wait`` is the longest."""
        await self._runner.load()
        if self._runner.full:
            return Forecast(closed="all its slots and places in the queue are taken")
        waiting = [job.walltime for job in self._runner.jobs.queued]
        now = time.time()
        start = self._starts([*waiting, request.walltime], now)[-1]
        room = max(0, self._runner.slots - self._runner.jobs.unfinished)
        return Forecast(None if start is None else start - now, room)

    def _starts(self, walltimes: Iterable[int | None], now: float) -> list[float | None]:
        ends = [job.latest_end for job in self._runner.jobs.running]
        return latest_starts(self._runner.slots, ends, walltimes, now)

    async def find(self, name: str) -> str | None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.find`."""
        await self._runner.load()
        job = self._runner.jobs.named(name)
        return None if job is None else str(job.job_id)

    async def describe_end(self, job_id: str) -> JobInfo | None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.describe_end`."""
        await self._runner.load()
        job = self._runner.jobs.get(int(job_id)) if job_id.isdecimal() else None
        return None if job is None else told(job)

    async def cancel(self, jobs: Mapping[str, str]) -> None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.cancel`."""
        await self._runner.load()
        for job_id, name in jobs.items():
            job = self._runner.jobs.get(int(job_id)) if job_id.isdecimal() else None
            if job is not None and job.name == name:
                await self._runner.end(job, EndReason.CANCELLED)

    async def close(self) -> None:
        """Stop looking after the jobs; they go on, and a later runner takes them up."""
        await self._runner.close()


KIND = Kind(
    LocalCluster,
    lambda site: LocalScheduler(
        site.directory,
        slots=site.settings.slots,
        queue=site.settings.queue,
        environment=site.settings.environment,
        account=site.settings.run_as
        and account_named(site.settings.run_as, f"clusters.{site.name}.run_as"),
    ),
)
