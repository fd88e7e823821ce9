"""A real Grid Engine on one machine: Debian's, beside the Slurm cluster and apart from it.

The machine ``hpcb-ge`` is a network, mount and process namespace of its own, with qmaster, execd
and sshd. It lives as long as the block that brought it up, and no longer when that is killed::

    with gridengine.running(directory) as ge:
        ge.run("alice", ["qstat"])

`python3 -m testbed.gridengine` brings it up until Ctrl-C. It needs root.
"""

from testbed.gridengine.bed import GridEngine, running

__all__ = ["GridEngine", "running"]
