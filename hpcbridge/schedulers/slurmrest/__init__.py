"""Slurm by its REST service, slurmrestd(8): no command is run, on any host.

``settings`` what a site configures, ``tokens`` what it proves itself with, ``client`` one request
and its reply, ``versions`` which of the interface's versions is spoken, ``directives`` and
``description`` a job script made into a request, ``replies`` what came back as values,
``resources``, ``needs`` and ``forecast`` when a job would start, and ``scheduler`` the adapter.
"""

from hpcbridge.config.slurmrest import SlurmRestCluster
from hpcbridge.schedulers.base import Kind
from hpcbridge.schedulers.slurmrest.scheduler import as_user, make

KIND = Kind(SlurmRestCluster, make, lists_others=True, as_user=as_user)
