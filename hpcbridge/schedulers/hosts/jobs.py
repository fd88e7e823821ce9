"""What machines and the queue tell of jobs, and how that is told on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from hpcbridge.errors import UnexpectedReply
from hpcbridge.schedulers.base import EndReason, JobInfo, JobState


@dataclass(frozen=True)
class Job:
    """One job. ``host`` is None while it waits, and ``age`` for how many seconds it has run.

    ``trouble`` is why its machine could not start it yet.
    """

    job_id: str
    name: str
    walltime: float | None
    host: str | None = None
    age: float | None = None
    end: Mapping[str, Any] | None = None
    trouble: str = ""

    @classmethod
    def read(cls, told: Mapping[str, Any], host: str | None = None) -> Self:
        """As it stands in an answer."""
        return cls(
            str(told["id"]),
            str(told["name"]),
            told.get("walltime"),
            host,
            told.get("age"),
            told.get("end"),
            str(told.get("trouble") or ""),
        )

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.end is not None

    @property
    def left(self) -> float:
        """Seconds until its walltime is used up; infinity where it has none."""
        return math.inf if self.walltime is None else max(0.0, self.walltime - (self.age or 0.0))

    def info(self, waiting: str = "") -> JobInfo:
        """As the service takes it; ``waiting`` says why one waits that has no machine."""
        if self.end is not None:
            reason, status = str(self.end.get("reason")), self.end.get("status")
            known = reason in set(EndReason)
            return JobInfo(
                self.job_id,
                self.name,
                JobState.ENDED,
                self.host,
                str(self.end.get("detail") or ""),
                EndReason(reason) if known else EndReason.FAILED,
                status if isinstance(status, int) else None,
            )
        if self.host is not None and self.age is not None:
            return JobInfo(self.job_id, self.name, JobState.RUNNING, self.host)
        if self.host is not None:
            waiting = f"{self.host} could not start it yet: {self.trouble or 'it will try again'}"
        return JobInfo(self.job_id, self.name, JobState.QUEUED, None, waiting)


@dataclass(frozen=True)
class Queue:
    """What the shared directory tells.

    ``taken`` are the ids of the jobs that each machine has taken, and ``left`` the jobs of none of
    the machines: cancelled in the queue, or a machine's that is not configured any more.
    """

    token: str
    waiting: Sequence[Job] = ()
    taken: Mapping[str, Sequence[str]] = field(default_factory=dict)
    left: Sequence[Job] = ()

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Self:
        """As it stands in an answer. Raises :class:`~hpcbridge.errors.UnexpectedReply`."""
        try:
            waiting = [Job.read(each) for each in told["waiting"]]
            left = [_of_nobody(each) for each in told["left"]]
            return cls(str(told["token"]), waiting, dict(told["taken"]), left)
        except (KeyError, TypeError, ValueError) as error:
            raise UnexpectedReply(f"The queue's answer lacks something: {error!r}.") from error


def _of_nobody(told: Mapping[str, Any]) -> Job:
    host = str(told["host"])
    if host.startswith("."):
        return Job.read({**told, "end": {"reason": EndReason.CANCELLED}})
    end = told.get("end") or {
        "reason": EndReason.NODE_FAILED,
        "detail": f"{host} is not among the cluster's hosts any more",
    }
    return Job.read({**told, "end": end}, host)


def jobs_of(told: Mapping[str, Any], host: str) -> dict[str, Job]:
    """The jobs of one machine, by id. Raises :class:`~hpcbridge.errors.UnexpectedReply`."""
    try:
        jobs = [Job.read(each, host) for each in told["jobs"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UnexpectedReply(f"The answer of {host} lacks something: {error!r}.") from error
    return {job.job_id: job for job in jobs}
