"""The life of the runner's jobs: started in order as slots become free, watched, ended."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping

from hpcbridge.errors import ClusterError, NoCapacity
from hpcbridge.schedulers.base import EndReason, JobRequest, JobState
from hpcbridge.schedulers.local import cgroup, keeper, processes
from hpcbridge.schedulers.local.job import Job
from hpcbridge.schedulers.local.jobs import Jobs
from hpcbridge.schedulers.local.records import Records
from hpcbridge.transports.account import Account

log = logging.getLogger(__name__)

REMEMBER = 3600.0
"""Seconds for which an ended job is still listed."""


class Runner:
    """All jobs of a directory, ``slots`` of them at a time and ``queue`` more that wait."""

    def __init__(
        self,
        records: Records,
        *,
        slots: int,
        queue: int,
        environment: Mapping[str, str],
        account: Account | None = None,
    ) -> None:
        self.jobs = Jobs()
        self.slots = slots
        self.queue = queue
        self._environment = environment
        self._account = account
        self.changed: Callable[[], None] = lambda: None
        self._records = records
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._ending: dict[int, asyncio.Task[None]] = {}
        self._lock = asyncio.Lock()
        self._loaded = False

    @property
    def full(self) -> bool:
        """Neither a slot nor a place in the queue is left."""
        return self.jobs.unfinished >= self.slots + self.queue

    async def load(self) -> None:
        """Take up what is written down, once. Raises :class:`~hpcbridge.errors.ClusterError`."""
        if self._loaded:
            return
        async with self._lock:
            if self._loaded:
                return
            self.jobs = Jobs(await self._records.load())
            for job in list(self.jobs.running):
                await self._adopt(job)
            self._loaded = True
            await self._start_waiting()

    async def add(self, request: JobRequest) -> Job:
        """Queue a job, and start it if a slot is free.

        Raises :class:`~hpcbridge.errors.NoCapacity` when the queue is full.
        """
        async with self._lock:
            if self.full:
                raise NoCapacity(
                    f"All slots ({self.slots}) and places in the queue ({self.queue}) are taken. "
                    "Try again when a session has ended."
                )
            job = Job(
                self.jobs.next_id,
                request.name,
                request.directory,
                request.script,
                request.walltime,
            )
            await self._records.save(job)
            self.jobs.add(job)
            await self._start_waiting()
        return job

    async def end(self, job: Job, reason: EndReason) -> None:
        """Begin to end a job; a queued one ends at once."""
        async with self._lock:
            if job.state == JobState.ENDED or job.job_id in self._ending:
                return
            job.reason = reason
            if job.state == JobState.QUEUED:
                await self._record_end(job, reason)
                return
            await self._records.try_save(job)
            self._begin_to_kill(job)

    async def close(self) -> None:
        """Stop looking after the jobs; they go on, and a later runner takes them up."""
        for task in [*self._tasks.values(), *self._ending.values()]:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _start_waiting(self) -> None:
        while self.jobs.queued and len(self.jobs.running) < self.slots:
            await self._launch(next(iter(self.jobs.queued)))

    async def _launch(self, job: Job) -> None:
        job.started = time.time()
        self.jobs.move(job, JobState.RUNNING)
        try:
            job.boot = processes.boot_id()
            job.cgroup = await asyncio.to_thread(cgroup.make, job.name)
            await self._records.save(job)  # before its process exists: it is found after a crash
            exit_file = self._records.exit_file(job)
            job.pid = await keeper.start(job, exit_file, self._environment, self._account)
        except (OSError, ClusterError) as error:
            job.detail = f"it did not start: {getattr(error, 'strerror', None) or error}"
            log.warning("local job %s: %s", job.name, job.detail)
            await self._record_end(job, EndReason.FAILED)
            return
        job.ticks = processes.start_ticks(job.pid)
        await self._records.try_save(job)
        self._watch(job)
        self.changed()

    async def _adopt(self, job: Job) -> None:
        """Take up a job that an earlier service started."""
        if job.boot != processes.boot_id():
            await self._record_end(job, EndReason.NODE_FAILED)
            return
        if job.pid is None:  # the service died between starting the keeper and writing it down
            await keeper.find(job)
        elif processes.start_ticks(job.pid) != job.ticks:
            job.pid = job.ticks = None  # it has ended, and another process may have its pid
        self._watch(job)
        if job.reason is not None:  # the service died while it was being ended
            self._begin_to_kill(job)

    def _watch(self, job: Job) -> None:
        task = asyncio.create_task(self._look_after(job), name=f"local job {job.job_id}")
        self._tasks[job.job_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(job.job_id, None))

    async def _look_after(self, job: Job) -> None:
        left = None if job.walltime is None else job.started + job.walltime - time.time()
        try:
            async with asyncio.timeout(left):
                await keeper.gone(job)
        except TimeoutError:
            await self.end(job, EndReason.TIMED_OUT)
            await keeper.gone(job)
        await self._sweep(job)
        async with self._lock:
            await self._record_end(job, None)
            await self._start_waiting()

    def _begin_to_kill(self, job: Job) -> asyncio.Task[None]:
        task = asyncio.create_task(keeper.kill(job), name=f"end local job {job.job_id}")
        self._ending[job.job_id] = task
        task.add_done_callback(lambda _: self._ending.pop(job.job_id, None))
        return task

    async def _sweep(self, job: Job) -> None:
        """End whatever outlived the job's script."""
        async with self._lock:
            killing = self._ending.get(job.job_id)
            if killing is None and await keeper.living(job):
                killing = self._begin_to_kill(job)
        if killing is not None:
            await killing

    async def _record_end(self, job: Job, reason: EndReason | None) -> None:
        await asyncio.to_thread(cgroup.remove, job.cgroup)
        status = await self._records.exit_status(job)
        chosen = job.reason or reason
        if chosen is None:
            chosen = EndReason.FINISHED if status == 0 else EndReason.FAILED
        job.reason, job.exit_status, job.ended = chosen, status, time.time()
        self.jobs.move(job, JobState.ENDED)
        await self._records.try_save(job)
        await self._forget_old()
        self.changed()

    async def _forget_old(self) -> None:
        for job in self.jobs.forget(time.time() - REMEMBER):
            await self._records.remove(job)
