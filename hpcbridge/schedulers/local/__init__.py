"""The embedded batch runner: jobs of this machine, a few at a time, the others in a queue.

Each job is a file in the runner's directory and a process session of its own, so jobs outlive the
service: a new one reads the files, finds the processes and goes on. What a job started is known by
an environment variable that all its processes inherit, so that nothing is orphaned, whatever
process groups or sessions it made (``xvfb-run`` leaves its children behind on SIGTERM).

``job`` what is known of one job, ``records`` its file, ``keeper`` its processes, ``processes``
those of this machine, ``runner`` the life of all jobs, ``slots`` when waiting ones start, and
``scheduler`` the adapter.
"""

from hpcbridge.schedulers.local.records import recorded
from hpcbridge.schedulers.local.scheduler import KIND, LocalScheduler

__all__ = ["KIND", "LocalScheduler", "recorded"]
