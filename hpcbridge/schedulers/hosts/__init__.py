"""Named machines over SSH: the embedded runner's jobs, slots and walltime without a batch system.

``far`` is what runs on the machines, ``commands`` how it gets there, ``fleet`` all machines at
once, ``jobs`` what they tell, and ``scheduler`` the adapter.
"""

from hpcbridge.schedulers.hosts.scheduler import KIND, HostsScheduler

__all__ = ["KIND", "HostsScheduler"]
