"""The machines of a cluster without a batch system: is each one reached, and does it share."""

import asyncio
from collections.abc import AsyncIterator

from hpcbridge.clusters.cluster import Cluster
from hpcbridge.config.hosts import HostsCluster
from hpcbridge.doctor.findings import Finding, bad, good
from hpcbridge.doctor.ssh import reached
from hpcbridge.errors import BridgeError
from hpcbridge.schedulers.hosts import HostsScheduler


async def look(cluster: Cluster) -> AsyncIterator[Finding]:
    """What each machine needs, in the order in which it needs it."""
    scheduler = cluster.scheduler
    if not isinstance(cluster.settings, HostsCluster) or not isinstance(scheduler, HostsScheduler):
        return
    looks = [_machine(cluster, scheduler, each.name) for each in cluster.settings.hosts]
    for found in await asyncio.gather(*looks):
        for each in found:
            yield each


async def _machine(cluster: Cluster, scheduler: HostsScheduler, name: str) -> list[Finding]:
    what, host = f"{cluster.name}: {name}", cluster.machines[name]
    found = []
    if host is not None:
        found.append(await reached(what, host))
        if not found[0].good:
            return found
    try:
        condition = await scheduler.examine(name)
    except BridgeError as error:
        return [*found, bad(what, str(error))]
    if not condition.shared:
        found.append(
            bad(
                what,
                f"It does not see the files of {condition.state} that the machine has where the "
                "commands run. session_root has to be on a file system that all hosts share.",
            )
        )
    elif condition.kills:
        found.append(
            bad(
                what,
                "systemd-logind ends what a login leaves behind there (KillUserProcesses=yes in "
                "logind.conf), and jobs with it. Set it to no, or KillExcludeUsers to the account.",
            )
        )
    else:
        found.append(
            good(what, f"It sees session_root, and has Python {condition.python} for its jobs.")
        )
    return found
