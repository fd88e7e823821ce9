"""``hpcbridge doctor``: is this site in order, and if not, what is to be done.

It may run at any time, beside the service too. It starts no job and changes nothing, but for one
small directory that it makes in each ``session_root`` of a real cluster and removes again. (The
queue of a cluster of ``hosts`` is made where it is missing, and stays.)
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from hpcbridge.clusters import cluster as clusters
from hpcbridge.config import file as configfile
from hpcbridge.config.installation import mark
from hpcbridge.config.settings import Settings
from hpcbridge.doctor import audit as audits
from hpcbridge.doctor import cluster as cluster_checks
from hpcbridge.doctor import database, forecasts, host, hosts, pbs, slurmrest
from hpcbridge.doctor import identity as identity_checks
from hpcbridge.doctor.findings import Finding, bad, good
from hpcbridge.errors import BridgeError, ConfigError

__all__ = ["Finding", "examine"]


async def examine(
    path: Path, *, audit: bool = False, user: str | None = None
) -> AsyncIterator[Finding]:
    """Look at everything that the configuration at ``path`` needs, one finding after the other.

    ``audit`` also compares the sessions with what is there of them on the clusters and here.
    ``user`` is one as whom to look at clusters on which users' jobs are their own.
    """
    try:
        settings = configfile.load(path)
    except ConfigError as error:
        yield bad("configuration", str(error))
        return
    marked = await database.mark(settings.store_url, mark(settings))
    yield good("configuration", f"{path} is valid; the mark of its jobs is {marked}.")
    for finding in host.templates(settings):
        yield finding
    yield host.state_directory(settings)
    yield await database.look(settings.store_url)
    for finding in host.front_end(settings):
        yield finding
    for finding in host.web_server(settings):
        yield finding
    for finding in host.session_addresses(settings):
        yield finding
    for finding in host.tls(settings):
        yield finding
    yield host.descriptors(settings)
    for finding in host.users(settings):
        yield finding
    for finding in host.local_jobs(settings):
        yield finding
    async for finding in _clusters(settings, audit=audit, user=user):
        yield finding


async def _clusters(settings: Settings, *, audit: bool, user: str | None) -> AsyncIterator[Finding]:
    state_dir = settings.server.state_dir
    async with contextlib.AsyncExitStack() as opened:
        built = []
        for name, each in settings.clusters.items():
            try:
                cluster = clusters.build(name, each, state_dir)
            except ConfigError as error:
                yield bad(name, str(error))
                continue
            opened.push_async_callback(cluster.close)
            built.append(cluster)
            try:
                async for finding in cluster_checks.look(cluster, state_dir):
                    yield finding
                async for finding in hosts.look(cluster):
                    yield finding
                async for finding in pbs.look(cluster):
                    yield finding
                async for finding in slurmrest.look(cluster):
                    yield finding
                async for finding in identity_checks.look(cluster, state_dir, user):
                    yield finding
            except BridgeError as error:
                yield bad(name, str(error))
        async for finding in forecasts.look(settings, built):
            yield finding
        if audit:
            async for finding in audits.audit(settings, built):
                yield finding
