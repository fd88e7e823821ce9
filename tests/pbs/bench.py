"""PBS and Torque on the bench of :mod:`hpcbridge.conformance`, fake or real."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from hpcbridge.conformance import Bench, CountingTransport, Job
from hpcbridge.errors import OutcomeUnknown
from hpcbridge.schedulers.pbs import PBSScheduler, TorqueScheduler
from hpcbridge.schedulers.pbs.commands import Commands
from hpcbridge.transports.base import Completed, Transport
from hpcbridge.transports.local import LocalTransport
from tests.fakepbs import FakePBS
from tests.pbs import site
from tests.waiting import until

# What happens to all commands while a fault lasts. No other PBS_SERVER would do: a job's whole id
# leads to its own (get_server.c of OpenPBS), and so does PBS_SERVER_HOST_NAME of /etc/pbs.conf.
NO_SERVER = ["env", "PBS_BATCH_SERVICE_PORT=1"]
GARBAGE = ["echo", "<html>502 Bad Gateway</html>"]

# Keeps 1,000 jobs from taking 2,000 privileged ports: without -f, qsub leaves a process behind for
# a minute, over whose connection the next ones submit.
SUBMIT_ALL = """
qsub=$1 output=$2 script=$3; shift 3
for name; do "$qsub" -h -j oe -o "$output" -N "$name" "$script" || exit; done
"""


class Faulty(CountingTransport):
    """The way to the commands, with faults that neither a fake nor a real server has to make."""

    def __init__(self, inner: Transport, interval: float = 0) -> None:
        super().__init__(inner)
        self._interval = interval
        self.prefix: list[str] = []
        self.instead: list[str] = []
        self.loses_answers = False
        #: Names of the jobs that were submitted: no others are ever released or ended.
        self.names: set[str] = set()
        self._next = 0.0

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float) -> Completed:
        tools = argv[0] != "id"
        if tools:
            await self._wait()
        if "-N" in argv and argv[0].endswith("qsub"):
            self.names.add(argv[argv.index("-N") + 1])
        wanted = (self.instead or [*self.prefix, *argv]) if tools else argv
        done = await super().run(wanted, stdin=stdin, timeout=timeout)
        if self.loses_answers and tools:
            raise OutcomeUnknown(f"{argv[0]} did not answer in time.")
        return done

    async def _wait(self) -> None:
        now = asyncio.get_running_loop().time()
        self._next = max(now, self._next + self._interval)
        await asyncio.sleep(self._next - now)


class PBSBench(Bench):
    """What both have in common: faults on the way."""

    transport: Faulty
    commands: str | None = None
    refused_directives = "#PBS -q nosuchqueue"

    def connect(self) -> PBSScheduler:
        return PBSScheduler(self.transport, timeout=60, commands=self.made)

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
        try:
            yield
        finally:
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
        return adapter(self.transport, timeout=60, commands=self.made)

    @contextlib.asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        self.fake.hold()
        try:
            yield
        finally:
            self.fake.hold(False)

    async def forget(self, job_id: str) -> None:
        self.fake.forget(job_id)

    async def crowd(self, names: Sequence[str]) -> None:
        self.fake.add_all(names)

    async def close(self) -> None:
        self.fake.close()


class RealBench(PBSBench):
    """A site's PBS. Jobs are this account's own; those that are left are ended."""

    patience = site.PATIENCE

    def __init__(self, facts: site.Facts) -> None:
        inner, self._login = site.connect()
        self.transport = Faulty(inner, site.INTERVAL)
        self.hosts = facts.hosts
        self.commands = facts.commands
        self.directives = facts.directives
        self.root = ""

    async def open(self) -> "RealBench":
        shared = site.GIVEN.get("directory") or await self.transport.home()
        self.root = f"{shared.rstrip('/')}/hpcbridge-test-{secrets.token_hex(6)}"
        return self

    @contextlib.asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        """Jobs are held by their owner, since a real cluster is not ours to fill."""
        before, self.directives = self.directives, f"{self.directives}\n#PBS -h"
        try:
            yield
        finally:
            self.directives = before
        for job_id in await self._living():
            done = await self.transport.run(self.made.argv("qrls", job_id), timeout=60)
            assert done.exit_status == 0, done.err

    async def crowd(self, names: Sequence[str]) -> None:
        self.transport.names.update(names)
        job = await Job.staged(self, self.connect())
        (qsub,) = self.made.argv("qsub")
        words = [qsub, f"{job.request.directory}/out", job.request.script, *names]
        done = await self.transport.run(["/bin/sh", "-c", SUBMIT_ALL, "crowd", *words], timeout=900)
        assert done.exit_status == 0, f"qsub refused one of {len(names)} jobs: {done.err}"

    async def close(self) -> None:
        async def ended() -> bool:
            return not await self._living()

        try:
            await self.connect().cancel(await self._living())
            await until(ended, "the end of what the test left", self.patience)
            await self.transport.remove(self.root)
        finally:
            await self.transport.close()
            if self._login is not None:
                await self._login.close()

    async def _living(self) -> dict[str, str]:
        """The names of the jobs of the test that have not ended, by their ids."""
        jobs = (await self.connect().list_jobs()).jobs.values()
        ours = [each for each in jobs if each.name in self.transport.names]
        return {each.job_id: each.name for each in ours if not each.reason}


@contextlib.asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[PBSBench]:
    """The PBS that HPCBRIDGE_TEST_PBS names, or else the fake one."""
    facts = site.facts()
    bench = await RealBench(facts).open() if facts else FakeBench(directory)
    try:
        yield bench
    finally:
        await bench.close()
