"""``hpcbridge doctor``: is this site in order, and if not, what is to be done.

It may run at any time, beside the service too. It starts no job and changes nothing, but for one
small directory that it makes in each ``session_root`` of a real cluster and removes again.
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from hpcbridge import clusters, configfile
from hpcbridge.config import Settings
from hpcbridge.doctor import audit as audits
from hpcbridge.doctor import cluster as cluster_checks
from hpcbridge.doctor import database, host
from hpcbridge.doctor.findings import Finding, bad, good
from hpcbridge.errors import BridgeError, ConfigError
from hpcbridge.installation import mark

__all__ = ["Finding", "examine"]


async def examine(path: Path, *, audit: bool = False) -> AsyncIterator[Finding]:
    """Look at everything that the configuration at ``path`` needs, one finding after the other.

    ``audit`` also compares the sessions with what is there of them on the clusters and here.
    """
    try:
        settings = configfile.load(path)
    except ConfigError as error:
        yield bad("configuration", str(error))
        return
    yield good("configuration", f"{path} is valid; the mark of its jobs is {mark(settings)}.")
    for finding in host.templates(settings):
        yield finding
    yield host.state_directory(settings)
    yield await database.look(settings.store_url)
    for finding in host.front_end(settings):
        yield finding
    async for finding in _clusters(settings, audit=audit):
        yield finding


async def _clusters(settings: Settings, *, audit: bool) -> AsyncIterator[Finding]:
    state_dir = settings.server.state_dir
    async with contextlib.AsyncExitStack() as opened:
        built = []
        for name, each in settings.clusters.items():
            cluster = clusters.build(name, each, state_dir)
            opened.push_async_callback(cluster.close)
            built.append(cluster)
            try:
                async for finding in cluster_checks.look(cluster, state_dir):
                    yield finding
            except BridgeError as error:
                yield bad(name, str(error))
        if audit:
            async for finding in audits.audit(settings, built):
                yield finding
