"""Task spooler passes hpcbridge's suite: pytest tests"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from hpcbridge_taskspooler import TaskSpooler

from hpcbridge.conformance import Ability, Bench, Conformance, CountingTransport, Job
from hpcbridge.schedulers.base import JobRequest
from hpcbridge.transports.local import LocalTransport

SLOTS = 2


class TaskSpoolerBench(Bench):
    unknown_id = "4711:nobody"

    def __init__(self, directory: Path) -> None:
        self.transport = CountingTransport(LocalTransport())
        self.root = str(directory / "sessions")
        self.directory = directory / "tsp"

    def connect(self) -> TaskSpooler:
        return TaskSpooler(self.transport, self.directory, SLOTS)

    def asked(self) -> int:
        return self.transport.commands

    @contextlib.asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        scheduler = self.connect()
        others = [await Job.submitted(self, scheduler) for _ in range(SLOTS)]
        yield
        for job in others:
            await job.cancel()

    @contextlib.asynccontextmanager
    async def garbled(self) -> AsyncIterator[None]:
        run = self.transport.run
        self.transport.run = lambda argv, **how: run(["echo", "502 Bad Gateway"], **how)
        yield
        self.transport.run = run

    async def close(self) -> None:
        scheduler = self.connect()
        jobs = (await scheduler.list_jobs()).jobs
        await scheduler.cancel({job_id: job.name for job_id, job in jobs.items()})
        for job_id in jobs:
            await Job(self, scheduler, JobRequest("", "", ""), job_id).over()
        socket = f"TS_SOCKET={self.directory}/socket"
        await self.transport.run(["env", socket, "tsp", "-K"], timeout=10)


class TestTaskSpooler(
    Conformance,
    cannot={
        Ability.FORGET: "a task spooler that lives forgets no job that waits or runs",
        Ability.OUTAGE: "tsp starts its server where there is none, so it always answers",
        Ability.LOST_ANSWER: "the server is on this machine, and an answer cannot get lost",
        Ability.CROWD: "each job that waits is a process with a connection to the server",
        Ability.REFUSED: "task spooler takes any command that it is given",
    },
):
    @pytest_asyncio.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[TaskSpoolerBench]:
        bench = TaskSpoolerBench(tmp_path)
        bench.directory.mkdir()
        yield bench
        await bench.close()
