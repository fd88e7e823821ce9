"""What a real Grid Engine lets a job expect that nobody submits."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hpcbridge.conformance import Job
from hpcbridge.errors import JobRejected
from hpcbridge.schedulers.base import Forecast, JobRequest, JobState
from testbed.gridengine import GridEngine
from tests.gridengine.test_conformance import GridEngineBench


@pytest_asyncio.fixture
async def bench(ge: GridEngine) -> AsyncIterator[GridEngineBench]:
    bench = GridEngineBench(ge)
    yield bench
    await bench.close()


def sample(*directives: str) -> JobRequest:
    lines = "\n".join(f"#$ {each}" for each in directives)
    text = f"#!/bin/bash\n{lines}\ntrue\n"
    return JobRequest("hpcb-sample", "/no/such/directory", "/no/such/script", 600, text)


async def test_a_job_with_room_is_told_to_start_at_once_and_does(bench: GridEngineBench) -> None:
    scheduler = bench.connect()
    free = bench.ge.slots
    assert await scheduler.forecast(sample()) == Forecast(0.0, free)
    assert await scheduler.forecast(sample("-q viz.q", "-pe smp 2")) == Forecast(0.0, free // 2)
    assert (await scheduler.list_jobs()).jobs == {}  # a forecast leaves nothing behind
    job = await Job.submitted(bench, scheduler)
    await job.seen(JobState.RUNNING)
    assert await scheduler.forecast(sample()) == Forecast(0.0, free - 1)


async def test_of_a_full_queue_no_start_is_told(bench: GridEngineBench) -> None:
    async with bench.full():
        assert await bench.connect().forecast(sample("-q viz.q")) == Forecast(None, 0)


async def test_of_a_job_behind_another_no_start_is_told(bench: GridEngineBench) -> None:
    scheduler = bench.connect()
    first = await Job.submitted(bench, scheduler)
    await first.seen(JobState.RUNNING)
    large = await Job.submitted(bench, scheduler, directives=f"#$ -pe smp {bench.ge.slots}")
    await large.seen(JobState.QUEUED)
    assert await scheduler.forecast(sample()) == Forecast(None, bench.ge.slots - 1)


async def test_a_queue_that_is_disabled_is_closed(bench: GridEngineBench) -> None:
    scheduler = bench.connect()
    await asyncio.to_thread(bench.ge.call, "qmod", "-d", bench.ge.queue)
    try:
        found = await scheduler.forecast(sample())
    finally:
        await asyncio.to_thread(bench.ge.call, "qmod", "-e", bench.ge.queue)
    assert found.closed == "all instances of viz.q are disabled, in error or unreachable"
    assert (await scheduler.forecast(sample())).wait == 0.0


@pytest.mark.parametrize("asked", ["-pe smp 50", "-q no-such.q"])
async def test_a_job_that_would_be_refused_is_told_so(bench: GridEngineBench, asked: str) -> None:
    with pytest.raises(JobRejected, match="Grid Engine would refuse the job"):
        await bench.connect().forecast(sample(asked))
