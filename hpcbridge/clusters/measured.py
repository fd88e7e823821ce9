"""A scheduler whose requests are counted and timed."""

import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TypeVar

from hpcbridge.errors import ClusterUnreachable, JobRejected, OutcomeUnknown, UnexpectedReply
from hpcbridge.instruments import Instruments
from hpcbridge.schedulers.base import (
    Forecast,
    Forecaster,
    JobInfo,
    JobRequest,
    Listing,
    Outlook,
    Scheduler,
)

T = TypeVar("T")

_RESULTS: dict[type[Exception], str] = {
    OutcomeUnknown: "unknown",
    ClusterUnreachable: "unreachable",
    JobRejected: "rejected",
    UnexpectedReply: "unexpected",
}
"""The more particular errors first."""


def measured(scheduler: Scheduler, cluster: str, instruments: Instruments) -> Scheduler:
    """The same scheduler, counted as ``cluster``'s; it can forecast if that one can."""
    kind = _MeasuredForecaster if isinstance(scheduler, Forecaster) else _Measured
    return kind(scheduler, cluster, instruments)


class _Measured(Scheduler):
    def __init__(self, scheduler: Scheduler, cluster: str, instruments: Instruments) -> None:
        self._scheduler = scheduler
        self._cluster = cluster
        self._instruments = instruments

    async def _timed(self, operation: str, work: Awaitable[T]) -> T:
        began, result = time.monotonic(), "cancelled"
        try:
            answer = await work
            result = "ok"
        except Exception as error:
            result = next((said for kind, said in _RESULTS.items() if isinstance(error, kind)), "")
            result = result or "failed"
            raise
        else:
            return answer
        finally:
            if result != "cancelled":  # nobody waited for its end
                took = time.monotonic() - began
                self._instruments.requests.labels(self._cluster, operation, result).inc()
                self._instruments.request_seconds.labels(self._cluster, operation).observe(took)

    async def submit(self, request: JobRequest) -> str:
        return await self._timed("submit", self._scheduler.submit(request))

    async def list_jobs(self) -> Listing:
        return await self._timed("list", self._scheduler.list_jobs())

    async def outlook(self, job_ids: Collection[str]) -> Mapping[str, Outlook]:
        return await self._timed("outlook", self._scheduler.outlook(job_ids))

    async def find(self, name: str) -> str | None:
        return await self._timed("find", self._scheduler.find(name))

    async def describe_end(self, job_id: str) -> JobInfo | None:
        return await self._timed("describe_end", self._scheduler.describe_end(job_id))

    async def cancel(self, jobs: Mapping[str, str]) -> None:
        await self._timed("cancel", self._scheduler.cancel(jobs))

    def notify(self, changed: Callable[[], None]) -> None:
        self._scheduler.notify(changed)

    async def close(self) -> None:
        await self._scheduler.close()


class _MeasuredForecaster(_Measured):
    async def forecast(self, request: JobRequest) -> Forecast:
        assert isinstance(self._scheduler, Forecaster)
        return await self._timed("forecast", self._scheduler.forecast(request))
