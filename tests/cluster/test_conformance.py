"""Slurm's commands pass the suite on the real Slurm, over SSH."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from hpcbridge.config.clusters import SSHSettings
from hpcbridge.conformance import Ability, Bench, Conformance, CountingTransport
from hpcbridge.schedulers.slurm import SlurmScheduler
from hpcbridge.transports.connection import SSHHost
from hpcbridge.transports.ssh import SSHTransport
from testbed.handle import Testbed

# A thousand calls of sbatch, each in a tenth of a second at worst.
pytestmark = pytest.mark.timeout(240)


class SlurmBench(Bench):
    """The test cluster as its user sees it from the head's SSH."""

    refused_directives = "#SBATCH --partition=no-such-partition"

    def __init__(self, site: Testbed) -> None:
        self.site = site
        self.hosts = frozenset(site.nodes)
        self.host = SSHHost(SSHSettings(host=site.head, config=site.ssh_config))
        self.transport = CountingTransport(SSHTransport(self.host))
        self.root = "/home/alice/.hpcbridge/bench"

    def connect(self) -> SlurmScheduler:
        return SlurmScheduler(self.transport, timeout=20)

    def asked(self) -> int:
        return self.transport.commands

    @contextlib.asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        everything = ["sbatch", "--parsable", f"--nodes={len(self.site.nodes)}", "--exclusive"]
        done = await asyncio.to_thread(
            self.site.run, "head", "bob", [*everything, "--wrap", "srun sleep 1000"]
        )
        job_id = done.stdout.strip()

        def runs() -> bool:
            return self.site.call("squeue", "-h", "-o", "%T", "-j", job_id).strip() == "RUNNING"

        while not await asyncio.to_thread(runs):
            await asyncio.sleep(0.1)
        yield
        await asyncio.to_thread(self.site.call, "scancel", job_id)

    @contextlib.asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        await asyncio.to_thread(self.site.stop, "slurmctld")
        try:
            yield
        finally:
            await asyncio.to_thread(self.site.start, "slurmctld")

    async def crowd(self, names: Sequence[str]) -> None:
        loop = 'while read -r name; do sbatch -H -Q -J "$name" --wrap true; done'
        await asyncio.to_thread(
            self.site.run,
            "head",
            "alice",
            ["sh", "-c", loop],
            text="".join(f"{name}\n" for name in names),
            timeout=150,
        )

    async def close(self) -> None:
        await self.transport.remove("/home/alice/.hpcbridge/bench")
        await self.transport.close()
        await self.host.close()


class TestSlurm(
    Conformance,
    cannot={
        Ability.FORGET: "a real slurmctld forgets only with its state directory; the fake does",
        Ability.GARBLED: "a real Slurm's answers can be read; the fake's can be spoilt",
        Ability.LOST_ANSWER: "a real answer cannot be lost on command; the fake's can",
        Ability.WALLTIME: "Slurm counts in minutes and looks at limits every half a minute",
    },
):
    @pytest_asyncio.fixture
    async def bench(self, site: Testbed) -> AsyncIterator[SlurmBench]:
        bench = SlurmBench(site)
        yield bench
        await asyncio.to_thread(site.cancel_all)
        await bench.close()
