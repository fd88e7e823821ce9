"""What the suite needs of a batch system: jobs that it can steer, and faults made on command."""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from hpcbridge.conformance import patience
from hpcbridge.schedulers.base import JobInfo, JobRequest, JobState, Scheduler
from hpcbridge.transports.base import Completed, Slice, StagedFile, Transport

F = TypeVar("F", bound=Callable[..., Any])

# The job's only means are its directory and a shell: it ends, or says something, when the suite
# puts a file there. The scheduler's own output file may come late, so the job has its own.
SCRIPT = """#!/bin/sh
{directives}
exec >{directory}/output.log 2>&1
echo begun
until [ -s {directory}/end/status ]; do
    if [ -s {directory}/say/words ] && [ -z "$said" ]; then
        cat {directory}/say/words
        said=yes
    fi
    sleep 0.05
done
exit "$(cat {directory}/end/status)"
"""


class Ability(Enum):
    """What a bench may be able to do beyond running jobs; each has the method of its name.

    Of a bench that cannot do one, the test class says why.
    """

    FULL = "jobs can be made to wait"
    FORGET = "the batch system can be made to lose a job without a trace"
    OUTAGE = "the batch system can be taken down and up again"
    GARBLED = "its answers can be replaced by ones that cannot be read"
    LOST_ANSWER = "a job can be accepted without its id being told"
    CROWD = "a thousand jobs can wait at once"
    REFUSED = "the batch system refuses some jobs when they are submitted"
    WALLTIME = "a job's walltime is enforced within a minute"
    HISTORY = "jobs that ended can be asked for: how, and by their names"


def needs(*abilities: Ability) -> Callable[[F], F]:
    """Mark a test that only a bench with these abilities runs."""

    def mark(test: F) -> F:
        test.needs = abilities  # type: ignore[attr-defined]
        return test

    return mark


class Bench(ABC):
    """One adapter and the batch system behind it.

    ``patience`` (seconds) bounds how long the batch system may take to start or end a job.
    ``hosts`` are the names that a running job's host may have.
    """

    patience: float = 60
    hosts: frozenset[str] = frozenset({"localhost"})
    #: Lines for the script's head, such as the batch system's own directives.
    directives: str = ""
    #: The same, for a job that the batch system refuses at once.
    refused_directives: str = ""
    #: An id of the right form that no job has.
    unknown_id: str = "99999999"

    transport: Transport
    #: Absolute, on the cluster; job directories are made below it.
    root: str

    @abstractmethod
    def connect(self) -> Scheduler:
        """A new adapter to the same batch system, over :attr:`transport`."""

    def asked(self) -> int:
        """How many commands or requests the adapter has sent so far."""
        raise self._lacks(Ability.CROWD)

    def full(self) -> AbstractAsyncContextManager[None]:
        """Jobs that are submitted meanwhile have to wait; afterwards they may start."""
        raise self._lacks(Ability.FULL)

    async def forget(self, job_id: str) -> None:
        """The batch system knows nothing of this job any more."""
        raise self._lacks(Ability.FORGET)

    def outage(self) -> AbstractAsyncContextManager[None]:
        """The batch system cannot be asked meanwhile; its jobs go on."""
        raise self._lacks(Ability.OUTAGE)

    def garbled(self) -> AbstractAsyncContextManager[None]:
        """Every answer is one that cannot be read meanwhile, as from a wrong program or a proxy."""
        raise self._lacks(Ability.GARBLED)

    def lost_answer(self) -> AbstractAsyncContextManager[None]:
        """A job that is submitted meanwhile is accepted, and the answer gets lost."""
        raise self._lacks(Ability.LOST_ANSWER)

    async def crowd(self, names: Sequence[str]) -> None:
        """Have jobs of these names wait, of the account that the adapter uses."""
        raise self._lacks(Ability.CROWD)

    def _lacks(self, ability: Ability) -> NotImplementedError:
        return NotImplementedError(
            f"{type(self).__name__} does not say how {ability.value}. Give it the method, or say "
            f"why it cannot: class Test...(Conformance, cannot={{{ability}: ...}})"
        )


@dataclass
class Job:
    """A job of the suite; its script does what the suite tells it through the job's directory."""

    bench: Bench
    scheduler: Scheduler
    request: JobRequest
    job_id: str = ""

    @classmethod
    async def staged(cls, bench: Bench, scheduler: Scheduler, name: str = "", **more: Any) -> "Job":
        """A job that is ready to be submitted. ``directives`` replace the bench's."""
        directives = more.pop("directives", bench.directives)
        directory = f"{bench.root}/{secrets.token_hex(6)}"
        text = SCRIPT.format(directory=directory, directives=directives)
        await bench.transport.stage(directory, {"job.sh": StagedFile(text.encode(), 0o700)})
        name = name or f"hpcb-{secrets.token_hex(6)}"
        request = JobRequest(name, directory, f"{directory}/job.sh", text=text, **more)
        return cls(bench, scheduler, request)

    @classmethod
    async def submitted(
        cls, bench: Bench, scheduler: Scheduler, name: str = "", **more: Any
    ) -> "Job":
        """A job that the batch system has accepted."""
        job = await cls.staged(bench, scheduler, name, **more)
        job.job_id = await scheduler.submit(job.request)
        return job

    async def cancel(self) -> None:
        """Have the batch system end it."""
        await self.scheduler.cancel({self.job_id: self.request.name})

    async def say(self, words: str) -> None:
        """Have the running job print this, once."""
        await self._tell("say", "words", words)

    async def end(self, status: int = 0) -> None:
        """Have the job exit with this status when it runs."""
        await self._tell("end", "status", str(status))

    async def _tell(self, directory: str, name: str, text: str) -> None:
        place = f"{self.request.directory}/{directory}"
        await self.bench.transport.stage(place, {name: StagedFile(text.encode())})

    async def output(self, offset: int = 0) -> str:
        """What the job printed from this byte on, empty before it began."""
        wanted = Slice(f"{self.request.directory}/output.log", offset, 65536)
        return ((await self.bench.transport.read([wanted]))[0] or b"").decode()

    async def listed(self) -> JobInfo | None:
        """The job as one listing tells it."""
        return (await self.scheduler.list_jobs()).jobs.get(self.job_id)

    async def seen(self, state: JobState) -> JobInfo:
        """Wait until the listing tells this state."""

        async def look() -> JobInfo | None:
            info = await self.listed()
            return info if info and info.state == state else None

        found: JobInfo = await self.until(look, f"job {self.job_id} {state}")
        return found

    async def over(self) -> JobInfo | None:
        """Wait until the job has ended; how it did, as the listing or the accounting tells it."""

        async def look() -> bool:
            info = await self.listed()
            return info is None or info.state == JobState.ENDED

        await self.until(look, f"the end of job {self.job_id}")
        return await self.listed() or await self.scheduler.describe_end(self.job_id)

    async def known_end(self) -> JobInfo:
        """As :meth:`over`; waits until accounting, which may lag behind, has it."""

        async def look() -> JobInfo | None:
            return await self.over()

        found: JobInfo = await self.until(look, f"an account of job {self.job_id}")
        return found

    async def until(self, check: Callable[[], Any], what: str) -> Any:
        """Ask until the answer is true; fails after the bench's patience."""
        return await patience.until(check, what, self.bench.patience)


class CountingTransport:
    """A transport that counts its commands, for :meth:`Bench.asked` of adapters that run some."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.commands = 0
        self.follow_interval = inner.follow_interval

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float) -> Completed:  # noqa: ASYNC109
        """See :meth:`hpcbridge.transports.base.Transport.run`."""
        self.commands += 1
        return await self._inner.run(argv, stdin=stdin, timeout=timeout)

    async def home(self) -> str:
        """See :meth:`hpcbridge.transports.base.Transport.home`."""
        return await self._inner.home()

    async def stage(self, directory: str, files: Mapping[str, StagedFile]) -> None:
        """See :meth:`hpcbridge.transports.base.Transport.stage`."""
        await self._inner.stage(directory, files)

    async def read(self, wanted: Sequence[Slice]) -> list[bytes | None]:
        """See :meth:`hpcbridge.transports.base.Transport.read`."""
        return await self._inner.read(wanted)

    async def remove(self, directory: str) -> None:
        """See :meth:`hpcbridge.transports.base.Transport.remove`."""
        await self._inner.remove(directory)

    async def close(self) -> None:
        """See :meth:`hpcbridge.transports.base.Transport.close`."""
        await self._inner.close()
