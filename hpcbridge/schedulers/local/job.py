"""One job of the runner, and how it is told."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from hpcbridge.schedulers.base import EndReason, JobInfo, JobState, Listing


@dataclass
class Job:
    """One job as its file holds it. ``pid`` and ``ticks`` name the keeper, of whose process
    session the pid is the name, too."""

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
    #: Its control group; "" where there is none.
    cgroup: str = ""

    @property
    def latest_end(self) -> float:
        """When its walltime is used up, in seconds since the epoch; infinity where it has none."""
        return self.started + (self.walltime or math.inf)


def listing(jobs: Iterable[Job]) -> Listing:
    """These jobs, all that a runner has, as the service takes them."""
    return Listing({str(job.job_id): told(job) for job in jobs})


def told(job: Job) -> JobInfo:
    """One job as the service takes it."""
    return JobInfo(
        str(job.job_id),
        job.name,
        JobState(job.state),
        None if job.state == JobState.QUEUED else "localhost",
        "waiting for a free slot" if job.state == JobState.QUEUED else job.detail,
        EndReason(job.reason) if job.state == JobState.ENDED and job.reason else None,
        job.exit_status,
    )
