"""The adapter of each batch system that can be configured (:mod:`hpcbridge.config.adapters`)."""

from hpcbridge.config.adapters import FOREIGN, tag
from hpcbridge.config.clusters import ClusterSettings
from hpcbridge.schedulers import gridengine, hosts, local, pbs, slurm, slurmrest
from hpcbridge.schedulers.base import Kind

_OURS = (
    *(local.KIND, slurm.KIND, slurmrest.KIND, pbs.PBS, pbs.TORQUE, gridengine.KIND),
    hosts.KIND,
)
KINDS: dict[str, Kind] = {tag(kind.settings): kind for kind in _OURS} | FOREIGN


def kind_of(settings: ClusterSettings) -> Kind:
    """The kind that these settings are of."""
    return KINDS[tag(type(settings))]
