"""What the rest of hpcbridge knows of a batch system: a protocol and three value types.

An adapter is pure translation. It turns a request into a command line and a reply into a typed
answer; a :class:`~hpcbridge.transports.base.Transport` runs the command.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class JobState(StrEnum):
    """Where a job stands. "Could not ask" is an exception, never a state.

    UNKNOWN is a state that the scheduler told and this version does not know; it ends nothing.
    """

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"
    UNKNOWN = "unknown"


class EndReason(StrEnum):
    """Why a session ended; the vocabulary of ``docs/architecture.md``."""

    STOPPED = "stopped"
    FINISHED = "finished"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    NODE_FAILED = "node_failed"
    PREEMPTED = "preempted"
    CANCELLED = "cancelled"
    NEVER_READY = "never_ready"
    IDLE = "idle"
    REJECTED = "rejected"


@dataclass(frozen=True)
class JobRequest:
    """A rendered job, staged on the cluster and ready to be submitted.

    ``name`` is unique to the session and safe in any command line. ``directory`` and ``script`` are
    absolute paths on the cluster. ``walltime`` is in seconds, or None for the scheduler's default.
    """

    name: str
    directory: str
    script: str
    walltime: int | None = None


@dataclass(frozen=True)
class JobInfo:
    """One job as the scheduler tells it in one round.

    ``host`` is the node that runs the batch script (None until it runs). ``detail`` is the
    scheduler's own word for why the job waits or how it ended. ``exit_status`` is the script's exit
    status where known, or the negated number of the signal that ended it.
    """

    job_id: str
    name: str
    state: JobState
    host: str | None = None
    detail: str = ""
    reason: EndReason | None = None
    exit_status: int | None = None


@dataclass(frozen=True)
class Listing:
    """A complete, successful answer: a job that is missing here is not in the queue."""

    jobs: Mapping[str, JobInfo] = field(default_factory=dict)


class Scheduler(Protocol):
    """One batch system.

    Every method raises :class:`~hpcbridge.errors.ClusterUnreachable` when it could not ask and
    :class:`~hpcbridge.errors.UnexpectedReply` when the answer could not be read.
    """

    async def submit(self, request: JobRequest) -> str:
        """Submit and return the job id.

        Raises :class:`~hpcbridge.errors.JobRejected` when the scheduler said no, and
        :class:`~hpcbridge.errors.OutcomeUnknown` when the job may have been accepted all the same.
        """
        ...

    async def list_jobs(self) -> Listing:
        """All jobs of this account that the scheduler still knows, in one query."""
        ...

    async def find(self, name: str) -> str | None:
        """The id of the newest job with this name, ended ones included, or None."""
        ...

    async def describe_end(self, job_id: str) -> JobInfo | None:
        """How a job that left the listing ended, from accounting; None where nobody knows."""
        ...

    async def cancel(self, job_ids: Iterable[str]) -> None:
        """End these jobs. Ids that are unknown or have ended are no error."""
        ...

    def notify(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever a job is known to have moved, where the scheduler can tell."""
        ...

    async def close(self) -> None:
        """Release what the adapter holds; jobs go on."""
        ...
