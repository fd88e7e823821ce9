"""Grid Engine's commands pass the suite on the real Grid Engine, over SSH."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from hpcbridge.config.batchsystems import GridEngineCluster
from hpcbridge.config.clusters import SSHSettings
from hpcbridge.conformance import Ability, Bench, Conformance, CountingTransport
from hpcbridge.schedulers.gridengine import GridEngineScheduler
from hpcbridge.transports.connection import SSHHost
from hpcbridge.transports.ssh import SSHTransport
from testbed.gridengine import GridEngine

pytestmark = pytest.mark.timeout(180)  # a thousand calls of qsub


class GridEngineBench(Bench):
    """The machine as its user sees it through SSH."""

    hosts = frozenset({"hpcb-ge"})
    refused_directives = "#$ -q no-such.q"

    def __init__(self, ge: GridEngine) -> None:
        self.ge = ge
        self.host = SSHHost(SSHSettings(host=ge.host, config=ge.ssh_config))
        self.transport = CountingTransport(SSHTransport(self.host))
        self.root = "/home/alice/bench"

    def connect(self) -> GridEngineScheduler:
        settings = GridEngineCluster(scheduler="gridengine", command_timeout=20)
        return GridEngineScheduler(self.transport, settings)

    def asked(self) -> int:
        return self.transport.commands

    @contextlib.asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        everything = ["-terse", "-b", "y", "-pe", "smp", str(self.ge.slots), "-cwd"]
        done = await asyncio.to_thread(
            self.ge.run, "bob", ["qsub", *everything, "/bin/sleep", "1000"]
        )
        job_id = done.stdout.strip()
        while f"@{self.ge.host}" not in self.ge.run("bob", ["qstat", "-s", "r"]).stdout:
            await asyncio.sleep(0.1)
        yield
        await asyncio.to_thread(self.ge.call, "qdel", "-f", job_id)

    async def forget(self, job_id: str) -> None:
        # The master strikes it off its list, whatever the node does.
        await asyncio.to_thread(self.ge.call, "qdel", "-f", job_id)

    @contextlib.asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        with contextlib.ExitStack() as stack:
            await asyncio.to_thread(stack.enter_context, self.ge.down())
            yield
            await asyncio.to_thread(stack.close)

    async def crowd(self, names: Sequence[str]) -> None:
        loop = 'while read -r name; do qsub -h -N "$name" -b y true; done'
        text = "".join(f"{name}\n" for name in names)
        await asyncio.to_thread(self.ge.run, "alice", ["sh", "-c", loop], text=text, timeout=120)

    async def close(self) -> None:
        await self.transport.remove(self.root)
        await self.transport.close()
        await self.host.close()


class TestGridEngine(
    Conformance,
    cannot={
        Ability.GARBLED: "a real master's answers can be read; recordings are spoilt elsewhere",
        Ability.LOST_ANSWER: "a real answer cannot be lost on command; a recording tells of one",
    },
):
    @pytest_asyncio.fixture
    async def bench(self, ge: GridEngine) -> AsyncIterator[GridEngineBench]:
        bench = GridEngineBench(ge)
        yield bench
        await bench.close()
