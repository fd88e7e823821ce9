"""OpenPBS, PBS Pro and Torque by their commands; ``docs/pbs.md`` tells what to know of them."""

from hpcbridge.schedulers.pbs.scheduler import PBS, TORQUE, PBSScheduler, TorqueScheduler
from hpcbridge.schedulers.pbs.settings import PBSCluster, TorqueCluster

__all__ = ["PBS", "TORQUE", "PBSCluster", "PBSScheduler", "TorqueCluster", "TorqueScheduler"]
