"""What it costs the service that Prometheus reads its metrics."""

import asyncio
import itertools
import time
from pathlib import Path

import httpx
from prometheus_client import generate_latest

from benchmarks.figures import spread
from benchmarks.table import Row, Section
from hpcbridge import service
from hpcbridge.api import create_app
from hpcbridge.config.settings import Settings
from hpcbridge.sessions.manager import Sessions
from hpcbridge.states import EndReason, State
from hpcbridge.store import SessionRow
from hpcbridge.web.measures import Measures
from tests.site import make_site

NAME = "metrics"
HOW = (
    "GET /metrics in the service's own process, from the request to the whole answer: for so long "
    "nothing else is served. Five applications on two clusters, with sessions in all states, all "
    "reasons of ends and all kinds of scheduler requests, so that no series is missing. The "
    "sessions are counted as the service counts its own, but have no jobs. The aim is 5 ms at "
    "10,000 sessions; 'the text alone' is without HTTP around it."
)
CLUSTERS = ("one", "two")
APPLICATIONS = ("cone", "flow", "jupyter", "loader", "visualizer")
OPERATIONS = ("submit", "list", "outlook", "find", "describe_end", "cancel", "forecast")
HERE = "http://localhost/metrics"


def measure(runs: int, folder: Path) -> Section:
    """Few sessions and many, in turn."""
    with asyncio.Runner() as runner:
        return runner.run(_measure(runs, folder))


async def _measure(runs: int, folder: Path) -> Section:
    rows: list[Row] = []
    for count in (100, 10_000):
        place = folder / str(count)
        place.mkdir()
        answered, made = await _with_sessions(count, runs, place)
        rows.append(Row(f"{count:,} sessions", spread(answered)))
        rows.append(Row("the text alone", spread(made), indent=True))
    return Section(NAME, HOW, runs, rows)


async def _with_sessions(count: int, runs: int, folder: Path) -> tuple[list[float], list[float]]:
    """Seconds that each answer took, and those that its text took."""
    settings, answered, made = _settings(folder), [], []
    async with service.running(settings) as (sessions, _):
        _fill(sessions, count)
        measures, app = Measures(sessions), create_app(settings, sessions)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            for _ in range(runs + 1):
                began = time.perf_counter()
                (await client.get(HERE)).raise_for_status()
                between = time.perf_counter()
                generate_latest(measures)
                answered.append(between - began)
                made.append(time.perf_counter() - between)
    return answered[1:], made[1:]  # the first is a warm-up


def _settings(folder: Path) -> Settings:
    site = make_site(folder)
    config, here = site.config, site.config["clusters"].pop("here")
    config["clusters"] = dict.fromkeys(CLUSTERS, here)
    cone = config["applications"]["cone"] | {"cluster": list(CLUSTERS)}
    config["applications"] = dict.fromkeys(APPLICATIONS, cone)
    return site.settings()


def _fill(sessions: Sessions, count: int) -> None:
    """Sessions in every state, and every series that there can be."""
    counted, places = sessions.instruments, itertools.product(APPLICATIONS, CLUSTERS, State)
    for number, (application, cluster, state) in zip(range(count), itertools.cycle(places)):
        row = SessionRow(
            id=f"{number:040}", application=application, cluster=cluster, state=state,
            secret="", job_name="", message="",
        )  # fmt: skip
        sessions.census.put(row)
    for application, cluster in itertools.product(APPLICATIONS, CLUSTERS):
        for reason in EndReason:
            counted.ends.labels(application, cluster, reason).inc()
    for cluster, step in itertools.product(CLUSTERS, (State.QUEUED, State.STARTING, State.READY)):
        counted.steps.labels(cluster, step).observe(7)
    for cluster, operation in itertools.product(CLUSTERS, OPERATIONS):
        counted.request_seconds.labels(cluster, operation).observe(0.3)
        for result in ("ok", "unreachable"):
            counted.requests.labels(cluster, operation, result).inc()
    for application in APPLICATIONS:
        counted.launched.labels(application).observe(7)
        for result in ("begun", "joined", "invalid"):
            counted.launches.labels(application, result).inc()
