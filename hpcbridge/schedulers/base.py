"""What the rest of hpcbridge knows of a batch system: a protocol and three value types.

An adapter is pure translation. It turns a request into a command line and a reply into a typed
answer; a :class:`~hpcbridge.transports.base.Transport` runs the command. How adapters are found,
also those of other packages: :mod:`hpcbridge.schedulers.kinds`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from hpcbridge.config.clusters import ClusterSettings
from hpcbridge.states import EndReason as EndReason
from hpcbridge.transports.base import Transport

S = TypeVar("S", bound=ClusterSettings)


class JobState(StrEnum):
    """Where a job stands. "Could not ask" is an exception, never a state.

    QUEUED is also one that is held, suspended or requeued: whatever it was before, its application
    does not run now. COMPLETING has no application any more, but is not over for the scheduler: an
    epilogue runs, or files are copied. UNKNOWN is a state that the scheduler told and this version
    does not know; it ends nothing.
    """

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETING = "completing"
    ENDED = "ended"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class JobRequest:
    """A rendered job, staged on the cluster and ready to be submitted.

    ``name`` is unique to the session and safe in any command line. ``directory`` and ``script`` are
    absolute paths on the cluster, and ``text`` is what the script says, its directives included.
    ``walltime`` is in seconds, or None for the scheduler's default.
    """

    name: str
    directory: str
    script: str
    walltime: int | None = None
    text: str = ""


@dataclass(frozen=True)
class JobInfo:
    """One job as the scheduler tells it in one round.

    ``host`` is the node that runs the batch script (None until it runs). ``detail`` says why the
    job waits ("waiting for ...", or the scheduler's own word), or how it ended. ``exit_status`` is
    the script's exit status where known, or the negated number of the signal that ended it.
    ``hopeless`` is a sentence for the user where the scheduler says that the job can never run as
    it was asked for. ``account`` is whose job it is, in a listing of several accounts. ``run``
    tells the runs of a job apart that is started again, where the scheduler tells: any text, which
    changes with each start. ``suspended`` is a job that waits in the middle of a run, and goes on.
    """

    job_id: str
    name: str
    state: JobState
    host: str | None = None
    detail: str = ""
    reason: EndReason | None = None
    exit_status: int | None = None
    hopeless: str = ""
    account: str = ""
    run: str = ""
    suspended: bool = False


@dataclass(frozen=True)
class Outlook:
    """What a job that waits may expect, as far as the scheduler tells.

    ``queue`` is the name of its queue, and ``kind`` the scheduler's word for one. ``ahead`` counts
    the waiting jobs, of all users, that the scheduler looks at before it in that queue. ``start``
    is the scheduler's own estimate, in seconds since the epoch. ``waits_for`` says in plain words
    what is missing ("2 GPUs").
    """

    queue: str = ""
    ahead: int | None = None
    start: float | None = None
    waits_for: str = ""
    kind: str = "queue"


@dataclass(frozen=True)
class Forecast:
    """What a job may expect that is submitted now, as far as the scheduler tells.

    ``wait`` is in seconds, from now. ``room`` is how many such jobs would start at once, at most.
    ``closed`` is a phrase where the queue takes or starts no jobs: "partition viz is down".
    """

    wait: float | None = None
    room: int | None = None
    closed: str = ""


@dataclass(frozen=True)
class Listing:
    """A complete, successful answer: a job that is missing here is not in the queue.

    Of the jobs of the accounts ``unknown`` it says nothing: the scheduler does not know these
    accounts (any more). Nor does it of the jobs ``untold``, ids for which the scheduler was asked,
    and which its answer left out without a word: they count as not asked for.
    """

    jobs: Mapping[str, JobInfo] = field(default_factory=dict)
    unknown: Collection[str] = ()
    untold: Collection[str] = ()


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

    async def outlook(self, job_ids: Collection[str]) -> Mapping[str, Outlook]:
        """What these waiting jobs may expect, asked seldom, in one or two queries for all.

        A job that is missing in the answer is one of which the scheduler tells nothing.
        """
        ...

    async def find(self, name: str) -> str | None:
        """The id of the newest job with this name, ended ones included, or None."""
        ...

    async def describe_end(self, job_id: str) -> JobInfo | None:
        """How a job that left the listing ended, from accounting; None where nobody knows.

        None is an answer: the scheduler was asked for this id and says that it knows none. One that
        it still knows is told with its state, whatever that is. A question that failed raises.
        """
        ...

    async def cancel(self, jobs: Mapping[str, str]) -> None:
        """End these jobs: their names by their ids. Whoever goes through it gets the ids.

        A job that has another name is another one, which has got the id, and goes on. That one, and
        ids that are unknown or have ended, are no error.
        """
        ...

    def notify(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever a job is known to have moved, where the scheduler can tell."""
        ...

    async def close(self) -> None:
        """Release what the adapter holds; jobs go on."""
        ...


@runtime_checkable
class Forecaster(Protocol):
    """A :class:`Scheduler` that can say when a job would start which nobody submits."""

    async def forecast(self, request: JobRequest) -> Forecast:
        """When a job such as ``request``, of which nothing is staged, would start.

        Asked at a long interval. Raises what every method of :class:`Scheduler` raises, and
        :class:`~hpcbridge.errors.JobRejected` where the scheduler would refuse such a job.
        """
        ...


@dataclass(frozen=True)
class Site(Generic[S]):
    """What an adapter is made from: a cluster's settings, and the transport to its commands.

    ``directory`` is on this machine, for files of the adapter's own; it need not exist yet.

    ``accounts`` is given where each user's jobs are the user's own, but are listed by one account
    for all: :meth:`Scheduler.list_jobs` then has to list the jobs of these accounts as well, in the
    same query, and is the only method that is called for others' jobs beside
    :meth:`Scheduler.describe_end` and :meth:`Scheduler.outlook`. An adapter that cannot do so
    leaves :attr:`Kind.lists_others` False. ``account`` is the one that the transport's commands run
    as, where it is a user's and not the service's own.

    ``machines`` are the transports to machines that the settings name
    (:class:`~hpcbridge.config.hosts.HostsCluster`).
    """

    name: str
    settings: S
    transport: Transport
    directory: Path
    accounts: Callable[[], Collection[str]] | None = None
    account: str | None = None
    machines: Mapping[str, Transport] = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """A batch system that can be configured.

    ``settings`` has a field ``scheduler`` of the type ``Literal["NAME"]``, by which a section
    ``[clusters.X]`` chooses it. Where it derives from
    :class:`~hpcbridge.config.clusters.RemoteCluster`, jobs run on other machines, and the transport
    and the tunnels follow that class's fields; else jobs run on this one.
    """

    settings: type[ClusterSettings]
    scheduler: Callable[[Site[Any]], Scheduler]
    #: The programs that it runs as the job's owner; what sudo would have to allow.
    commands: tuple[str, ...] = ()
    #: Whether it can list other accounts' jobs (:attr:`Site.accounts`).
    lists_others: bool = False
    #: The settings with which an account's jobs are its own, where the transport does not decide
    #: that; the settings see to it that they can be made so.
    as_user: Callable[[Any, str], ClusterSettings] | None = None
