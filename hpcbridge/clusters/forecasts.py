"""When an application's next session would start on a cluster, asked for at a long interval.

Each cluster has a task of its own, which asks one question at a time: one that hangs keeps nobody
else waiting. Nothing is asked while nobody has wanted to know for a while.
"""

import asyncio
import contextlib
import logging
import math
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hpcbridge.clusters.cluster import Cluster
from hpcbridge.errors import BridgeError, ClusterError, ClusterUnreachable, JobRejected
from hpcbridge.notifier import Notifier
from hpcbridge.schedulers.base import Forecast, Forecaster, JobRequest

log = logging.getLogger(__name__)

# Seconds between two rounds of questions, and between two while the cluster does not answer.
INTERVAL = 60.0
INTERVAL_SILENT = 15.0
SOON = 5.0
"""Seconds between two rounds at least, and until a launch has its place in the scheduler's view."""
SHARE = 20
"""How many times as long as it took a round rests."""
STALE = 150.0
"""Seconds after which an answer, or that there was none, is not relied upon."""
INTEREST = 600.0
"""Seconds for which somebody who wanted to know is taken to want to know more."""
LIMIT = 30.0
"""Seconds that a round may take."""

Request = Callable[[], JobRequest]
Waits = Callable[[str, str], Awaitable[Sequence[float]]]


@dataclass(frozen=True)
class KnownForecast:
    """What the last answer for one application was, and when it was asked for (monotonic seconds).

    ``refused`` is what the scheduler says against such a job. ``past`` is how long its sessions
    have waited lately, in seconds, where the scheduler tells no ``wait``.
    """

    asked: float
    forecast: Forecast = field(default_factory=Forecast)
    refused: str = ""
    past: float | None = None


class ForecastPoller:
    """The prospects on one cluster of the applications that could also run elsewhere.

    ``requests`` makes each application's sample job. ``waits(application, cluster)`` tells
    how long its last sessions there waited, in seconds.
    """

    def __init__(self, cluster: Cluster, requests: Mapping[str, Request], waits: Waits) -> None:
        self._cluster = cluster
        self._requests = requests
        self._waits = waits
        self._known: dict[str, KnownForecast] = {}
        # The first launch is to find answers.
        self._wanted_at = time.monotonic() if requests else -math.inf
        self._launched: list[float] = []
        self._soonest = 0.0
        self._woken = asyncio.Event()
        self._asked = Notifier()
        self._task: asyncio.Task[None] | None = None

    def reconfigure(self, requests: Mapping[str, Request]) -> None:
        """Ask for these applications from now on."""
        self._requests = requests
        self._known = {name: each for name, each in self._known.items() if name in requests}
        if requests:
            self.want()

    @property
    def silent_since(self) -> float | None:
        """Since when the cluster does not answer, in seconds since the epoch."""
        health = self._cluster.watcher.health
        return health.silent_since if time.monotonic() - health.tried < STALE else None

    def of(self, application: str) -> KnownForecast | None:
        """What is known; None before the first answer, and when the last one was long ago."""
        known = self._known.get(application)
        return known if known and time.monotonic() - known.asked < STALE else None

    def launched_since(self, known_forecast: KnownForecast) -> int:
        """Launches of this service of which the scheduler did not know when it was asked."""
        return sum(at > known_forecast.asked - SOON for at in self._launched)

    def want(self) -> None:
        """Somebody wants to know."""
        if not self._interest:
            self._woken.set()
        self._wanted_at = time.monotonic()

    def launched(self) -> None:
        """A session is on its way to the cluster, and may take what the next one hopes for."""
        if not self._requests or not self._interest:
            return
        now = time.monotonic()
        self._launched.append(now)
        if not self._woken.is_set():
            self._soonest = max(self._soonest, now + SOON)
            self._woken.set()

    async def fresh(self, application: str) -> None:
        """Return as soon as there is an answer that can be relied upon, or none to be expected."""
        while self.silent_since is None and self.of(application) is None:
            await self._asked.wait(INTERVAL)

    def start(self) -> None:
        """Begin to ask."""
        if self._task is None:
            name = f"prospects on {self._cluster.name}"
            self._task = asyncio.create_task(self._run(), name=name)

    async def close(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @property
    def _interest(self) -> bool:
        return time.monotonic() - self._wanted_at < INTEREST

    async def _run(self) -> None:
        while True:
            if not self._interest:
                await self._woken.wait()
            self._woken.clear()
            began = time.monotonic()
            await self._round(began)
            self._launched = [at for at in self._launched if at > began - SOON]
            self._asked.notify()
            ended = time.monotonic()
            self._soonest = ended + max(SOON, SHARE * (ended - began))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval()):
                    await self._woken.wait()
            await asyncio.sleep(self._soonest - time.monotonic())

    def _interval(self) -> float:
        """Seconds until the next round, if somebody wants to know by then."""
        if self._launched:
            return SOON
        return INTERVAL if self.silent_since is None else INTERVAL_SILENT

    async def _round(self, began: float) -> None:
        health = self._cluster.watcher.health
        try:
            async with asyncio.timeout(LIMIT):
                for application, request in self._requests.items():
                    self._known[application] = await self._ask(application, request)
                if began - health.tried > INTERVAL_SILENT:
                    asked = time.monotonic()
                    await self._cluster.scheduler.list_jobs()
                    health.answered(time.monotonic() - asked)
        except (ClusterError, TimeoutError) as error:
            said = str(error) or f"no answer within {LIMIT:g} s"
            log.warning("cluster %s does not answer: %s", self._cluster.name, said)
            health.failed(said)
        except Exception:
            log.exception("cluster %s: no forecast", self._cluster.name)

    async def _ask(self, application: str, request: Request) -> KnownForecast:
        """Raises :class:`~hpcbridge.errors.ClusterUnreachable`."""
        asked, forecast, refused, past = time.monotonic(), Forecast(), "", None
        before = self._known.get(application)
        try:
            forecast = await self._forecast(request)
        except JobRejected as error:
            refused = str(error)
            self._cluster.watcher.health.answered()
            if before is None or before.refused != refused:
                log.warning("%s on %s: %s", application, self._cluster.name, refused)
        except ClusterUnreachable:
            raise
        except BridgeError as error:
            log.warning("%s on %s: no forecast: %s", application, self._cluster.name, error)
        if forecast.wait is None:
            waits = await self._waits(application, self._cluster.name)
            past = statistics.median(waits) if waits else None
        return KnownForecast(asked, forecast, refused, past)

    async def _forecast(self, asked: Request) -> Forecast:
        scheduler = self._cluster.scheduler
        if not isinstance(scheduler, Forecaster):
            return Forecast()
        request = await asyncio.to_thread(asked)
        forecast = await scheduler.forecast(request)
        self._cluster.watcher.health.answered()
        return forecast
