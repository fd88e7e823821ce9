"""Task spooler, a batch system for one user on one machine: tsp(1).

All that an adapter is: settings, functions that turn requests into command lines and answers into
values, and a class that has the transport run the former and hands what comes back to the latter.
"""

import asyncio
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from hpcbridge.config.clusters import ClusterSettings
from hpcbridge.errors import ClusterError, JobRejected, OutcomeUnknown, UnexpectedReply
from hpcbridge.schedulers.base import (
    EndReason,
    JobInfo,
    JobRequest,
    JobState,
    Kind,
    Listing,
    Outlook,
    Site,
)
from hpcbridge.transports.base import Completed, Transport

TIMEOUT = 10.0
"""Seconds that a command may take."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
LINE = re.compile(
    r"(?P<number>\d+) +(?P<state>[a-z]+) +\S+ +"
    r"(?:(?P<status>-?\d+) +[\d./]+ +)?\[(?P<name>[^]]*)\].*"
)
STATES = {
    "queued": JobState.QUEUED,
    "running": JobState.RUNNING,
    "finished": JobState.ENDED,
    "skipped": JobState.ENDED,
}
TIMED_OUT = 124  # timeout(1)
# argv: directory, script. What tsp itself would keep of the output goes to the directory as well.
RUN = 'cd "$1" && exec "$2" > scheduler.out 2>&1'


class TaskSpoolerCluster(ClusterSettings):
    """Task spooler on this machine."""

    scheduler: Literal["taskspooler"] = Field(description="Task spooler, by tsp.")
    slots: int = Field(2, ge=1, le=100, description="Jobs that may run at once.")


def submit_argv(request: JobRequest) -> list[str]:
    """The command line that queues a job. tsp has no limit of time, but timeout(1) has one."""
    if not NAME.fullmatch(request.name):
        raise JobRejected("A job's name has letters, digits, '_', '.' and '-' for task spooler.")
    limit = ["timeout", "-k", "5", str(request.walltime)] if request.walltime else []
    run = ["/bin/sh", "-c", RUN, "hpcbridge-job", request.directory, request.script]
    return ["-L", request.name, *limit, *run]


def parse_submit(done: Completed, name: str) -> str:
    """The job's id: its number, and its name since a new server counts from 0 again."""
    number = done.out.strip()
    if done.exit_status == 0 and number.isdecimal():
        return f"{number}:{name}"
    raise OutcomeUnknown(f"tsp printed no job id: {done.err.strip()[:200] or 'no message'}")


def parse_list(done: Completed) -> Listing:
    """All jobs. The header is the proof that an empty list is one."""
    header, *lines = done.out.splitlines() or [""]
    if done.exit_status != 0 or not header.startswith("ID "):
        raise UnexpectedReply(f"tsp printed no list: {done.err.strip()[:200] or header[:200]!r}")
    jobs = [_job(line) for line in lines]
    return Listing({job.job_id: job for job in jobs})


def _job(line: str) -> JobInfo:
    match = LINE.fullmatch(line)
    if match is None:
        raise UnexpectedReply(f"tsp printed a line that cannot be read: {line[:80]!r}")
    job_id, name = f"{match['number']}:{match['name']}", match["name"]
    state = STATES.get(match["state"], JobState.UNKNOWN)
    if state == JobState.QUEUED:
        return JobInfo(job_id, name, state, detail="waiting for a free slot")
    if state != JobState.ENDED:
        return JobInfo(job_id, name, state, host="localhost", detail=match["state"])
    status = int(match["status"]) if match["status"] else None
    return JobInfo(job_id, name, state, reason=_reason(status), exit_status=status)


def _reason(status: int | None) -> EndReason:
    if status == 0:
        return EndReason.FINISHED
    return EndReason.TIMED_OUT if status == TIMED_OUT else EndReason.FAILED


class TaskSpooler:
    """Implements :class:`hpcbridge.schedulers.base.Scheduler`.

    The queue is one of its own (TS_SOCKET), so all that it lists are hpcbridge's jobs.
    """

    def __init__(self, transport: Transport, directory: Path, slots: int) -> None:
        self._transport = transport
        self._directory = directory
        self._slots = slots

    async def _tsp(self, *arguments: str) -> Completed:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = [f"TS_SOCKET={self._directory}/socket", f"TS_SLOTS={self._slots}"]
        argv = ["env", *settings, f"TMPDIR={self._directory}", "tsp", *arguments]
        return await self._transport.run(argv, timeout=TIMEOUT)

    async def submit(self, request: JobRequest) -> str:
        """Queue a job."""
        return parse_submit(await self._tsp(*submit_argv(request)), request.name)

    async def list_jobs(self) -> Listing:
        """All jobs, and up to 1,000 that have ended."""
        return parse_list(await self._tsp("-l"))

    async def outlook(self, job_ids: Collection[str]) -> Mapping[str, Outlook]:
        """Jobs start in the order of their numbers."""
        jobs = (await self.list_jobs()).jobs.values() if job_ids else ()
        waiting = sorted((job.job_id for job in jobs if job.state == JobState.QUEUED), key=_number)
        return {
            job_id: Outlook(ahead=place, waits_for="a free slot")
            for place, job_id in enumerate(waiting)
            if job_id in job_ids
        }

    async def find(self, name: str) -> str | None:
        """The newest job with this name."""
        jobs = (await self.list_jobs()).jobs.values()
        return max((job.job_id for job in jobs if job.name == name), key=_number, default=None)

    async def describe_end(self, job_id: str) -> JobInfo | None:
        """The list has the jobs that ended, too."""
        return (await self.list_jobs()).jobs.get(job_id)

    async def cancel(self, jobs: Mapping[str, str]) -> None:
        """Take waiting jobs off the list, and end running ones, if they have the names given."""
        listed = (await self.list_jobs()).jobs if jobs else {}
        for job in (listed[job_id] for job_id in jobs if job_id in listed):
            if job.name != jobs[job.job_id]:
                continue
            if job.state == JobState.QUEUED:
                removed = await self._tsp("-r", str(_number(job.job_id)))
                if removed.exit_status == 0:
                    continue  # else it has just started
            if job.state != JobState.ENDED:
                await self._kill(job.job_id)

    async def _kill(self, job_id: str) -> None:
        for _ in range(50):
            done = await self._tsp("-k", str(_number(job_id)))
            if done.exit_status == 0 or "not finished or not running" in done.err:
                return
            if "strange PID" not in done.err:  # the process is being started
                break
            await asyncio.sleep(0.02)
        raise ClusterError(f"tsp -k failed: {done.err.strip()[:200] or 'no message'}")

    def notify(self, changed: Callable[[], None]) -> None:
        """tsp tells nothing by itself."""

    async def close(self) -> None:
        """Nothing to release."""


def _number(job_id: str) -> int:
    return int(job_id.partition(":")[0])


def _scheduler(site: Site[TaskSpoolerCluster]) -> TaskSpooler:
    return TaskSpooler(site.transport, site.directory, site.settings.slots)


KIND = Kind(TaskSpoolerCluster, _scheduler)
