"""What a launch may expect of each cluster, for applications that have several."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from hpcbridge.clusters.cluster import Cluster
from hpcbridge.clusters.forecasts import LIMIT
from hpcbridge.config.batchsystems import LocalCluster
from hpcbridge.config.settings import Settings
from hpcbridge.doctor.findings import Finding, bad, good
from hpcbridge.errors import BridgeError, JobRejected
from hpcbridge.jobscripts.samples import sample_request
from hpcbridge.schedulers.base import Forecast, Forecaster


async def look(settings: Settings, built: Sequence[Cluster]) -> AsyncIterator[Finding]:
    """Each application's forecast on each of its clusters. Nothing is submitted."""
    clusters = {cluster.name: cluster for cluster in built}
    for application, wanted in settings.applications.items():
        for name in wanted.cluster if len(wanted.cluster) > 1 else []:
            if name in clusters:
                yield await _one(settings, application, clusters[name])


async def _one(settings: Settings, application: str, cluster: Cluster) -> Finding:
    what = f"{application} on {cluster.name}"
    if cluster.settings.drain:
        return good(what, f"No new sessions: {cluster.settings.drain}.")
    scheduler = cluster.scheduler
    # The embedded runner's queue is the service's own.
    if isinstance(cluster.settings, LocalCluster) or not isinstance(scheduler, Forecaster):
        return good(what, "The past waits of its sessions tell how soon one starts.")
    try:
        async with asyncio.timeout(LIMIT):
            request = sample_request(settings, application, cluster.name)
            return good(what, _told(await scheduler.forecast(request)))
    except TimeoutError:
        return bad(what, f"No forecast came within {LIMIT:g} s.")
    except JobRejected as error:
        return bad(what, f"{error} 'hpcbridge template render' prints the job.")
    except BridgeError as error:
        return bad(what, str(error))


def _told(forecast: Forecast) -> str:
    if forecast.closed:
        return f"It would not start now: {forecast.closed}."
    if forecast.wait is None:
        return "The scheduler tells no start."
    room = "" if forecast.room is None else f"; {forecast.room} would start at once"
    return f"A session would start in {forecast.wait:.0f} s{room}."
