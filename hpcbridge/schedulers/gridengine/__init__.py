"""Grid Engine by its commands: Son of Grid Engine as Debian has it, and its relatives."""

from hpcbridge.schedulers.gridengine.adapter import KIND, GridEngineScheduler

__all__ = ["KIND", "GridEngineScheduler"]
