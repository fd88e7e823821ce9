"""The embedded batch runner: jobs of this machine, a few at a time, the others in a queue.

Each job is a file in the runner's directory and a process session of its own, so jobs outlive the
service: a new one reads the files, finds the processes and goes on.

What a job started is known by its control group, where the service may make one: none of it
outlives the job, unless a job of the service's own account moved it out. Where there is none, it is
known by an environment variable that all its processes inherit, whatever process groups or sessions
they made (``xvfb-run`` leaves its children behind on SIGTERM), by their process sessions and by
their parents. Then a process remains that cleared its environment, made a session of its own and
lost its parent before the job was ended.

``job`` what is known of one job, ``records`` its file, ``keeper`` its processes, ``cgroup`` their
group, ``processes`` those of this machine, ``runner`` the life of all jobs, ``slots`` when waiting
ones start, and ``scheduler`` the adapter.
"""

from hpcbridge.schedulers.local.records import recorded
from hpcbridge.schedulers.local.scheduler import KIND, LocalScheduler

__all__ = ["KIND", "LocalScheduler", "recorded"]
