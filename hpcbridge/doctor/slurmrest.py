"""slurmrestd, by the versions of its interface that it offers."""

from collections.abc import AsyncIterator

from hpcbridge.clusters.cluster import Cluster
from hpcbridge.config.slurmrest import SlurmRestCluster
from hpcbridge.config.slurmrestversions import KNOWN
from hpcbridge.doctor.findings import Finding, bad, good
from hpcbridge.errors import BridgeError
from hpcbridge.schedulers.slurmrest.client import Interface
from hpcbridge.schedulers.slurmrest.scheduler import SlurmRestScheduler


async def look(cluster: Cluster) -> AsyncIterator[Finding]:
    """Which version is spoken, and whether it will be there after the next update of Slurm."""
    settings, scheduler = cluster.settings, cluster.scheduler
    if not isinstance(scheduler, SlurmRestScheduler) or not isinstance(settings, SlurmRestCluster):
        return
    what = f"{cluster.name}: slurmrestd"
    try:
        interface = await scheduler.interface()
    except BridgeError as error:
        yield bad(what, str(error))
    else:
        yield finding(what, interface, configured=settings.version is not None)


def finding(what: str, interface: Interface, *, configured: bool) -> Finding:
    """``configured`` is whether the version that is spoken is the one that a setting names."""
    offers = ", ".join(
        f"{each} (deprecated)" if each in interface.deprecated else each
        for each in interface.offered
    )
    told = f"It offers {offers or 'versions that it does not list'}; {interface.spoken} is spoken."
    if interface.spoken not in interface.deprecated:
        return good(what, told)
    newer = [each for each in KNOWN if each in interface.offered]
    if configured and newer and newer[0] not in interface.deprecated:
        remedy = f"Remove the setting 'version', and {newer[0]} is spoken."
    else:
        remedy = "Update hpcbridge before Slurm."
    return bad(what, f"{told} The next release of Slurm may be without it. {remedy}")
