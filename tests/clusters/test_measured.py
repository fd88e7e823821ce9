"""Requests to a scheduler are counted by what came of them, and change nothing about it."""

import asyncio

import pytest

from hpcbridge.clusters.measured import measured
from hpcbridge.errors import (
    BridgeError,
    ClusterError,
    ClusterUnreachable,
    JobRejected,
    OutcomeUnknown,
    UnexpectedReply,
)
from hpcbridge.instruments import Instruments
from hpcbridge.schedulers.base import Forecast, Forecaster, JobRequest, Listing
from tests.fakes import FakeScheduler

REQUEST = JobRequest("hpcb-1", "/d", "/d/job.sh")


class Foreseeing(FakeScheduler):
    async def forecast(self, request: JobRequest) -> Forecast:
        return Forecast(wait=7)


def counts(instruments: Instruments) -> dict[tuple[str, str], float]:
    return {
        (each.labels["operation"], each.labels["result"]): each.value
        for family in instruments.requests.collect()
        for each in family.samples
    }


async def test_every_request_is_passed_on_and_counted() -> None:
    fake, instruments = Foreseeing(), Instruments()
    scheduler = measured(fake, "lab", instruments)
    job_id = await scheduler.submit(REQUEST)
    assert job_id in (await scheduler.list_jobs()).jobs
    assert await scheduler.find("hpcb-1") == job_id
    assert await scheduler.outlook([job_id]) == {}
    assert await scheduler.describe_end(job_id) == await fake.describe_end(job_id)
    await scheduler.cancel({job_id: "hpcb-1"})
    assert fake.cancelled == [job_id]
    assert isinstance(scheduler, Forecaster)
    assert (await scheduler.forecast(REQUEST)).wait == 7
    names = ("submit", "list", "find", "outlook", "describe_end", "cancel", "forecast")
    assert counts(instruments) == {(name, "ok"): 1 for name in names}
    await scheduler.close()


def test_one_that_cannot_forecast_cannot_when_it_is_measured() -> None:
    assert not isinstance(measured(FakeScheduler(), "lab", Instruments()), Forecaster)


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (JobRejected("no"), "rejected"),
        (ClusterUnreachable("away"), "unreachable"),
        (OutcomeUnknown("lost"), "unknown"),
        (UnexpectedReply("?"), "unexpected"),
        (ClusterError("else"), "failed"),
        (BridgeError("else"), "failed"),
        (ValueError("a fault of an adapter"), "failed"),
    ],
)
async def test_a_failure_is_told_and_counted_by_its_kind(error: Exception, result: str) -> None:
    fake, instruments = FakeScheduler(), Instruments()
    fake.down = error
    with pytest.raises(type(error)):
        await measured(fake, "lab", instruments).list_jobs()
    assert counts(instruments) == {("list", result): 1}


async def test_a_request_that_nobody_waited_for_to_its_end_is_not_counted() -> None:
    class Hanging(FakeScheduler):
        async def list_jobs(self) -> Listing:
            await asyncio.Event().wait()
            return Listing()

    instruments = Instruments()
    task = asyncio.create_task(measured(Hanging(), "lab", instruments).list_jobs())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert counts(instruments) == {}
