"""The two batch systems as they can be configured."""

from hpcbridge.config.batchsystems import PBSCluster, TorqueCluster
from hpcbridge.schedulers.base import Kind, Site
from hpcbridge.schedulers.pbs.commands import Commands
from hpcbridge.schedulers.pbs.scheduler import PBSScheduler
from hpcbridge.schedulers.pbs.torque import TorqueScheduler


def _kind(settings: type, scheduler: type[PBSScheduler]) -> Kind:
    def make(site: Site) -> PBSScheduler:  # type: ignore[type-arg]
        wanted = site.settings
        return scheduler(
            site.transport,
            timeout=wanted.command_timeout,
            commands=Commands(wanted.commands, wanted.server),
            node_domain=wanted.node_domain,
            account=site.account,
            accounts=site.accounts,
        )

    return Kind(settings, make, ("qsub", "qselect", "qstat", "qdel"), lists_others=True)


PBS = _kind(PBSCluster, PBSScheduler)
TORQUE = _kind(TorqueCluster, TorqueScheduler)
