"""The embedded batch runner: jobs of this machine, a few at a time, the others in a queue.

Each job is a file in the runner's directory and a process session of its own, so jobs outlive the
service: a new one reads the files, finds the processes and goes on. What a job started is known by
an environment variable that all its processes inherit, so that nothing is orphaned, whatever
process groups or sessions it made (``xvfb-run`` leaves its children behind on SIGTERM).
"""

import asyncio
import contextlib
import json
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcbridge.config.batchsystems import LocalCluster
from hpcbridge.errors import ClusterError, NoCapacity
from hpcbridge.schedulers import processes
from hpcbridge.schedulers.base import (
    EndReason,
    Forecast,
    JobInfo,
    JobRequest,
    JobState,
    Kind,
    Listing,
    Outlook,
)
from hpcbridge.schedulers.slots import latest_starts
from hpcbridge.transports.environment import clean_environment

log = logging.getLogger(__name__)

KILL_WAIT = 5.0
"""Seconds between SIGTERM and SIGKILL."""
REMEMBER = 3600.0
"""Seconds for which an ended job is still listed."""

# The keeper stays while the job runs and writes down how it ended, with or without a service to
# see it. The trap is a handler, not "ignore": children would inherit an ignored signal.
KEEPER = """
trap : TERM INT HUP
cd "$3" || exit
"$2"
status=$?
printf '%s' "$status" > "$1.new" && mv "$1.new" "$1"
exit "$status"
"""


@dataclass
class _Job:
    """One job as its file holds it. ``pid`` and ``ticks`` name the keeper."""

    job_id: int
    name: str
    directory: str
    script: str
    walltime: int | None
    state: str = JobState.QUEUED
    boot: str = ""
    pid: int | None = None
    ticks: int | None = None
    started: float = 0.0
    ended: float = 0.0
    reason: str | None = None
    exit_status: int | None = None
    detail: str = ""


class LocalScheduler:
    """Implements :class:`~hpcbridge.schedulers.base.Scheduler` on this machine."""

    def __init__(
        self, directory: Path, *, slots: int, queue: int, environment: Collection[str] = ()
    ) -> None:
        self._directory = directory
        self._environment = {key: os.environ[key] for key in environment if key in os.environ}
        self._slots = slots
        self._queue = queue
        self._jobs: dict[int, _Job] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._ending: dict[int, asyncio.Task[None]] = {}
        self._changed: Callable[[], None] = lambda: None
        self._lock = asyncio.Lock()
        self._loaded = False

    def notify(self, changed: Callable[[], None]) -> None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.notify`."""
        self._changed = changed

    async def submit(self, request: JobRequest) -> str:
        """Queue a job, and start it if a slot is free.

        Raises :class:`~hpcbridge.errors.NoCapacity` when the queue is full.
        """
        await self._load()
        async with self._lock:
            waiting = sum(job.state != JobState.ENDED for job in self._jobs.values())
            if waiting >= self._slots + self._queue:
                raise NoCapacity(
                    f"All slots ({self._slots}) and places in the queue ({self._queue}) are taken. "
                    "Try again when a session has ended."
                )
            job = _Job(
                max(self._jobs, default=0) + 1,
                request.name,
                request.directory,
                request.script,
                request.walltime,
            )
            await self._save(job)
            self._jobs[job.job_id] = job
            await self._start_waiting()
        return str(job.job_id)

    async def list_jobs(self) -> Listing:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.list_jobs`."""
        await self._load()
        waiting = [job.job_id for job in self._jobs.values() if job.state == JobState.QUEUED]
        return Listing({str(job.job_id): _info(job, waiting) for job in self._jobs.values()})

    async def outlook(self, job_ids: Collection[str]) -> Mapping[str, Outlook]:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.outlook`.

        ``start`` is the latest: a job that ends before its walltime lets others start earlier.
        """
        await self._load()
        jobs = sorted(self._jobs.values(), key=lambda each: each.job_id)
        running = [job for job in jobs if job.state == JobState.RUNNING]
        waiting = [job for job in jobs if job.state == JobState.QUEUED]
        ends = [job.started + (job.walltime or math.inf) for job in running]
        starts = latest_starts(self._slots, ends, [job.walltime for job in waiting], time.time())
        return {
            str(job.job_id): Outlook(ahead=ahead, start=start, waits_for="a free slot")
            for ahead, (job, start) in enumerate(zip(waiting, starts, strict=True))
            if str(job.job_id) in job_ids
        }

    async def forecast(self, request: JobRequest) -> Forecast:
        """See :meth:`hpcbridge.schedulers.base.Forecaster.forecast`; ``wait`` is the longest."""
        await self._load()
        jobs = [job for job in self._jobs.values() if job.state != JobState.ENDED]
        if len(jobs) >= self._slots + self._queue:
            return Forecast(closed="all its slots and places in the queue are taken")
        running = [job for job in jobs if job.state == JobState.RUNNING]
        waiting = [job.walltime for job in jobs if job.state == JobState.QUEUED]
        ends = [job.started + (job.walltime or math.inf) for job in running]
        now = time.time()
        start = latest_starts(self._slots, ends, [*waiting, request.walltime], now)[-1]
        room = max(0, self._slots - len(jobs))
        return Forecast(None if start is None else start - now, room)

    async def find(self, name: str) -> str | None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.find`."""
        await self._load()
        ids = [job.job_id for job in self._jobs.values() if job.name == name]
        return str(max(ids)) if ids else None

    async def describe_end(self, job_id: str) -> JobInfo | None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.describe_end`."""
        return (await self.list_jobs()).jobs.get(job_id)

    async def cancel(self, job_ids: Iterable[str]) -> None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.cancel`."""
        await self._load()
        for job_id in job_ids:
            job = self._jobs.get(int(job_id)) if job_id.isdecimal() else None
            if job is not None:
                await self._end(job, EndReason.CANCELLED)

    async def close(self) -> None:
        """Stop looking after the jobs; they go on, and a later runner takes them up."""
        for task in [*self._tasks.values(), *self._ending.values()]:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    # -- the life of a job

    async def _start_waiting(self) -> None:
        running = sum(job.state == JobState.RUNNING for job in self._jobs.values())
        for job in sorted(self._jobs.values(), key=lambda each: each.job_id):
            if running >= self._slots:
                return
            if job.state == JobState.QUEUED:
                await self._launch(job)
                running += job.state == JobState.RUNNING

    async def _launch(self, job: _Job) -> None:
        job.state, job.started = JobState.RUNNING, time.time()
        try:
            job.boot = processes.boot_id()
            await self._save(job)  # before the process exists: it is looked for after a crash
            job.pid = await asyncio.to_thread(_start, job, self._exit_file(job), self._environment)
        except (OSError, ClusterError) as error:
            job.detail = f"it did not start: {getattr(error, 'strerror', None) or error}"
            log.warning("local job %s: %s", job.name, job.detail)
            await self._record_end(job, EndReason.FAILED)
            return
        job.ticks = processes.start_ticks(job.pid)
        await self._try_save(job)
        self._watch(job)

    def _watch(self, job: _Job) -> None:
        task = asyncio.create_task(self._look_after(job), name=f"local job {job.job_id}")
        self._tasks[job.job_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(job.job_id, None))

    async def _look_after(self, job: _Job) -> None:
        left = None if job.walltime is None else job.started + job.walltime - time.time()
        try:
            async with asyncio.timeout(left):
                await self._gone(job)
        except TimeoutError:
            await self._end(job, EndReason.TIMED_OUT)
            await self._gone(job)
        await self._sweep(job)
        async with self._lock:
            await self._record_end(job, None)
            await self._start_waiting()

    async def _gone(self, job: _Job) -> None:
        if job.pid is not None:
            await processes.gone(job.pid, job.ticks)

    async def _end(self, job: _Job, reason: EndReason) -> None:
        """Begin to end a job; a queued one ends at once."""
        async with self._lock:
            if job.state == JobState.ENDED or job.job_id in self._ending:
                return
            job.reason = reason
            if job.state == JobState.QUEUED:
                await self._record_end(job, reason)
                return
            await self._try_save(job)
            self._begin_to_kill(job)

    def _begin_to_kill(self, job: _Job) -> asyncio.Task[None]:
        task = asyncio.create_task(self._kill(job), name=f"end local job {job.job_id}")
        self._ending[job.job_id] = task
        task.add_done_callback(lambda _: self._ending.pop(job.job_id, None))
        return task

    async def _kill(self, job: _Job) -> None:
        deadline = time.monotonic() + KILL_WAIT
        asked: set[int] = set()  # a second SIGTERM means "at once" to many programs
        # A process that is just being replaced (execve(2)) has no environment for a moment.
        while (found := await self._processes(job)) or _keeper_lives(job):
            if time.monotonic() > deadline:
                processes.send(signal.SIGKILL, found)
            processes.send(signal.SIGTERM, [pid for pid in found if pid not in asked])
            asked.update(found)
            await asyncio.sleep(0.05)

    async def _sweep(self, job: _Job) -> None:
        """End whatever outlived the job's script."""
        async with self._lock:
            killing = self._ending.get(job.job_id)
            if killing is None and await self._processes(job):
                killing = self._begin_to_kill(job)
        if killing is not None:
            await killing

    async def _processes(self, job: _Job) -> list[int]:
        return await asyncio.to_thread(processes.with_cookie, job.name)

    async def _record_end(self, job: _Job, reason: EndReason | None) -> None:
        status = await asyncio.to_thread(_read_status, Path(self._exit_file(job)))
        chosen = job.reason or reason
        if chosen is None:
            chosen = EndReason.FINISHED if status == 0 else EndReason.FAILED
        job.state, job.reason, job.ended = JobState.ENDED, chosen, time.time()
        job.exit_status = status
        await self._try_save(job)
        await self._forget_old()
        self._changed()

    # -- what is kept on disk

    def _exit_file(self, job: _Job) -> str:
        return str(self._directory / f"{job.job_id}.exit")

    async def _save(self, job: _Job) -> None:
        try:
            await asyncio.to_thread(
                _write_json, self._directory / f"{job.job_id}.json", asdict(job)
            )
        except OSError as error:
            raise ClusterError(
                f"The batch runner cannot write to {self._directory}: {error.strerror}. "
                "Check its owner, its mode and the free space."
            ) from error

    async def _try_save(self, job: _Job) -> None:
        """For what happens to a job whether it can be written down or not."""
        try:
            await self._save(job)
        except ClusterError as error:
            log.warning("local job %s: %s", job.name, error)

    async def _load(self) -> None:
        if self._loaded:
            return
        async with self._lock:
            if self._loaded:
                return
            try:
                jobs = await asyncio.to_thread(_read_all, self._directory)
            except OSError as error:
                raise ClusterError(
                    f"The batch runner cannot read {self._directory}: {error.strerror}."
                ) from error
            self._jobs = {job.job_id: job for job in jobs}
            for job in jobs:
                if job.state == JobState.RUNNING:
                    await self._adopt(job)
            self._loaded = True
            await self._start_waiting()

    async def _adopt(self, job: _Job) -> None:
        """Take up a job that an earlier service started."""
        if job.boot != processes.boot_id():
            await self._record_end(job, EndReason.NODE_FAILED)
            return
        if job.pid is None:  # the service died between starting the keeper and writing it down
            started = {pid: processes.start_ticks(pid) for pid in await self._processes(job)}
            live = [(ticks, pid) for pid, ticks in started.items() if ticks is not None]
            job.ticks, job.pid = min(live, default=(None, None))  # the keeper was the first
        self._watch(job)
        if job.reason is not None:  # the service died while it was being ended
            self._begin_to_kill(job)

    async def _forget_old(self) -> None:
        limit = time.time() - REMEMBER
        # The newest stays: the next id is counted from it.
        for job in sorted(self._jobs.values(), key=lambda each: each.job_id)[:-1]:
            if job.state == JobState.ENDED and job.ended < limit:
                del self._jobs[job.job_id]
                for suffix in ("json", "exit"):
                    path = self._directory / f"{job.job_id}.{suffix}"
                    with contextlib.suppress(OSError):  # the next service forgets it
                        await asyncio.to_thread(path.unlink, missing_ok=True)


def _keeper_lives(job: _Job) -> bool:
    if job.pid is None or job.ticks is None:
        return False
    return processes.start_ticks(job.pid) == job.ticks


def recorded(directory: Path) -> Listing:
    """What a runner's files tell of its jobs, read beside the service that runs them.

    Raises :class:`~hpcbridge.errors.ClusterError`.
    """
    try:
        jobs = _read_all(directory)
    except OSError as error:
        raise ClusterError(
            f"The batch runner's directory {directory} cannot be read: {error.strerror}. "
            "Check its owner and mode."
        ) from error
    waiting = [job.job_id for job in jobs if job.state == JobState.QUEUED]
    return Listing({str(job.job_id): _info(job, waiting) for job in jobs})


def _info(job: _Job, waiting: list[int]) -> JobInfo:
    detail = job.detail
    if job.state == JobState.QUEUED:
        ahead = sum(each < job.job_id for each in waiting)
        detail = "waiting for a free slot" + (f", {ahead} ahead" if ahead else "")
    return JobInfo(
        str(job.job_id),
        job.name,
        JobState(job.state),
        None if job.state == JobState.QUEUED else "localhost",
        detail,
        EndReason(job.reason) if job.state == JobState.ENDED and job.reason else None,
        job.exit_status,
    )


def _start(job: _Job, exit_file: str, more: Mapping[str, str]) -> int:
    """Start the keeper of a job, with ``more`` in its environment; its pid."""
    Path(exit_file).unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    output = os.open(Path(job.directory) / "scheduler.out", flags, 0o600)
    try:
        os.set_blocking(output, True)
        argv = ["/bin/sh", "-c", KEEPER, "hpcbridge-job", exit_file, job.script, job.directory]
        environment = {**more, **clean_environment(), processes.COOKIE: job.name}
        return processes.spawn(argv, environment, output)
    finally:
        os.close(output)


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(data))
    new.replace(path)


def _read_all(directory: Path) -> list[_Job]:
    found = []
    for path in sorted(directory.glob("*.json")):
        try:
            found.append(_Job(**json.loads(path.read_text())))
        except (ValueError, TypeError):
            log.warning("%s is not a job file of this runner; left alone", path)
    return found


def _read_status(path: Path) -> int | None:
    """The exit status that the keeper wrote; a shell's 128 + n is told as signal -n."""
    try:
        status = int(path.read_text())
    except (OSError, ValueError):
        return None
    return 128 - status if status > 128 else status


KIND = Kind(
    LocalCluster,
    lambda site: LocalScheduler(
        site.directory,
        slots=site.settings.slots,
        queue=site.settings.queue,
        environment=site.settings.environment,
    ),
)
