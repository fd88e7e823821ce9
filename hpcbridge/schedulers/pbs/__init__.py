"""OpenPBS, PBS Pro and Torque by their commands; ``docs/pbs.md`` tells what to know of them."""

from hpcbridge.config.batchsystems import PBSCluster, TorqueCluster
from hpcbridge.schedulers.pbs.kinds import PBS, TORQUE
from hpcbridge.schedulers.pbs.scheduler import PBSScheduler
from hpcbridge.schedulers.pbs.torque import TorqueScheduler

__all__ = ["PBS", "TORQUE", "PBSCluster", "PBSScheduler", "TorqueCluster", "TorqueScheduler"]
