"""Slurm by its commands, on this machine or over SSH."""

from hpcbridge.schedulers.slurm.scheduler import KIND, SlurmScheduler

__all__ = ["KIND", "SlurmScheduler"]
