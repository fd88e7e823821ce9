"""Adapters: one file a batch system, all behind :class:`~hpcbridge.schedulers.base.Scheduler`."""
