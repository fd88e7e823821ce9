"""PBS and Torque on the bench of :mod:`hpcbridge.conformance`, fake or real."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from hpcbridge.conformance import Bench, CountingTransport, Job
from hpcbridge.conformance.bench import until
from hpcbridge.errors import OutcomeUnknown
from hpcbridge.schedulers.pbs import PBSScheduler, TorqueScheduler
from hpcbridge.schedulers.pbs.commands import Commands
from hpcbridge.transports.base import Completed, Transport
from hpcbridge.transports.local import LocalTransport
from tests.fakepbs import FakePBS
from tests.pbs import site

# What happens to all commands while a fault lasts.
NO_SERVER = ["env", "PBS_SERVER=nosuch.invalid", "PBS_DEFAULT=nosuch.invalid"]
GARBAGE = ["echo", "<html>502 Bad Gateway</html>"]


class Faulty(CountingTransport):
    """The way to the commands, with faults that neither a fake nor a real server has to make."""

    def __init__(self, inner: Transport) -> None:
        super().__init__(inner)
        self.prefix: list[str] = []
        self.instead: list[str] = []
        self.loses_answers = False
        #: Ids of the jobs that were accepted: no others are ever released or ended.
        self.submitted: list[str] = []

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float) -> Completed:
        tools = argv[0] != "id"
        wanted = (self.instead or [*self.prefix, *argv]) if tools else argv
        done = await super().run(wanted, stdin=stdin, timeout=timeout)
        if done.exit_status == 0 and any(word.split("/")[-1] == "qsub" for word in wanted):
            self.submitted += done.out.split()[-1:]
        if self.loses_answers and tools:
            raise OutcomeUnknown(f"{argv[0]} did not answer in time.")
        return done


class PBSBench(Bench):
    """What both have in common: faults on the way."""

    transport: Faulty
    commands: str | None = None
    refused_directives = "#PBS -q nosuchqueue"

    def connect(self) -> PBSScheduler:
        return PBSScheduler(self.transport, timeout=20, commands=self.made)

    @property
    def made(self) -> Commands:
        """The commands as the adapter is given them."""
        return Commands(self.commands)

    def asked(self) -> int:
        return self.transport.commands

    @contextlib.contextmanager
    def _while(self, **fault: object) -> Iterator[None]:
        before = {key: getattr(self.transport, key) for key in fault}
        vars(self.transport).update(fault)
        yield
        vars(self.transport).update(before)

    @contextlib.asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        with self._while(prefix=NO_SERVER):
            yield

    @contextlib.asynccontextmanager
    async def garbled(self) -> AsyncIterator[None]:
        with self._while(instead=GARBAGE):
            yield

    @contextlib.asynccontextmanager
    async def lost_answer(self) -> AsyncIterator[None]:
        with self._while(loses_answers=True):
            yield


class FakeBench(PBSBench):
    """The server of tests/fakepbs, in a directory of its own."""

    def __init__(self, directory: Path, flavour: str = "pbs") -> None:
        self.fake = FakePBS(directory / "pbs", flavour=flavour)
        self.flavour = flavour
        self.commands = str(self.fake.bin)
        self.transport = Faulty(LocalTransport())
        self.root = str(directory / "sessions")

    def connect(self) -> PBSScheduler:
        adapter = TorqueScheduler if self.flavour == "torque" else PBSScheduler
        return adapter(self.transport, timeout=20, commands=self.made)

    @contextlib.asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        self.fake.hold()
        yield
        self.fake.hold(False)

    async def forget(self, job_id: str) -> None:
        self.fake.forget(job_id)

    async def crowd(self, names: Sequence[str]) -> None:
        self.fake.add_all(names)

    async def close(self) -> None:
        self.fake.close()


class RealBench(PBSBench):
    """A site's PBS. Jobs are this account's own; those that are left are ended."""

    patience = 90

    def __init__(self, facts: site.Facts) -> None:
        inner, self._login = site.connect()
        self.transport = Faulty(inner)
        self.hosts = facts.hosts
        self.commands = site.GIVEN.get("commands")
        queue = site.GIVEN.get("queue")
        self.directives = f"#PBS -q {queue}" if queue else ""
        self.root = ""

    async def open(self) -> "RealBench":
        shared = site.GIVEN.get("directory") or await self.transport.home()
        self.root = f"{shared}/hpcbridge-test-{secrets.token_hex(6)}"
        return self

    @contextlib.asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        """Jobs are held by their owner, since a real cluster is not ours to fill."""
        before, self.directives = self.directives, f"{self.directives}\n#PBS -h"
        count = len(self.transport.submitted)
        yield
        self.directives = before
        for job_id in self.transport.submitted[count:]:
            await self.transport.run([site.command("qrls"), job_id], timeout=20)

    async def crowd(self, names: Sequence[str]) -> None:
        job = await Job.staged(self, self.connect(), directives=f"{self.directives}\n#PBS -h")
        qsub = [site.command("qsub"), "-f", "-o", f"{job.request.directory}/out"]
        few = asyncio.Semaphore(8)

        async def submit(name: str) -> None:
            async with few:
                done = await self.transport.run([*qsub, "-N", name, job.request.script], timeout=60)
            assert done.exit_status == 0, done.err

        await asyncio.gather(*map(submit, names))

    async def close(self) -> None:
        adapter, ours = self.connect(), set(self.transport.submitted)

        async def clean() -> bool:
            jobs = (await adapter.list_jobs()).jobs.values()
            return not [each for each in jobs if each.job_id in ours and not each.reason]

        await adapter.cancel(ours)
        await until(clean, "the end of what the test left", self.patience)
        await self.transport.remove(self.root)
        await self.transport.close()
        if self._login is not None:
            await self._login.close()


@contextlib.asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[PBSBench]:
    """The PBS that HPCBRIDGE_TEST_PBS names, or else the fake one."""
    bench = await RealBench(site.FACTS).open() if site.FACTS else FakeBench(directory)
    try:
        yield bench
    finally:
        await bench.close()
