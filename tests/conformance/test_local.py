"""The embedded batch runner passes the suite.

Each batch system's test of this kind stands by itself, as an author of an adapter would write it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest_asyncio

from hpcbridge.conformance import Ability, Bench, Conformance, Job
from hpcbridge.schedulers.base import JobState
from hpcbridge.schedulers.local import LocalScheduler
from hpcbridge.transports.local import LocalTransport

SLOTS = 3


class LocalBench(Bench):
    """A runner with a few slots; jobs wait while others hold them all."""

    def __init__(self, directory: Path) -> None:
        self.transport = LocalTransport()
        self.root = str(directory / "sessions")
        self._directory = directory / "runner"
        self._runner = self.connect()

    def connect(self) -> LocalScheduler:
        self._runner = LocalScheduler(self._directory, slots=SLOTS, queue=1100)
        return self._runner

    def asked(self) -> int:
        return 0

    @contextlib.asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        runner = self._runner
        others = [await Job.submitted(self, runner) for _ in range(SLOTS)]
        yield
        for job in others:
            await job.cancel()

    async def crowd(self, names: Sequence[str]) -> None:
        for name in names:
            job = await Job.staged(self, self._runner, name)
            await self._runner.submit(job.request)

    async def close(self) -> None:
        runner = self.connect()
        while living := {
            job.job_id: job.name
            for job in (await runner.list_jobs()).jobs.values()
            if job.state != JobState.ENDED
        }:
            await runner.cancel(living)  # as the service does, until there is proof
            await asyncio.sleep(0.02)
        await runner.close()


class TestLocal(
    Conformance,
    cannot={
        Ability.FORGET: "the runner is in this process and forgets nothing that runs",
        Ability.OUTAGE: "the runner is in this process, so it can always be asked",
        Ability.GARBLED: "there is no answer to parse",
        Ability.LOST_ANSWER: "the id comes from the same call that queues the job",
        Ability.REFUSED: "the runner takes any script and tells of its failure afterwards",
    },
):
    @pytest_asyncio.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[LocalBench]:
        bench = LocalBench(tmp_path)
        yield bench
        await bench.close()
