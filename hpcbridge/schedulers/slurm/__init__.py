"""Slurm by its commands, on this machine or over SSH."""

from hpcbridge.schedulers.slurm.scheduler import KIND, SlurmCluster, SlurmScheduler

__all__ = ["KIND", "SlurmCluster", "SlurmScheduler"]
