"""What a job left in its session directory, which tells how it ended where its scheduler does not.

PBS keeps no history by default: there, all that is known of an ended job is that it is gone.
"""

import re
from dataclasses import dataclass, replace

from hpcbridge.schedulers.base import EndReason, JobInfo, JobState

TERMINATED = 128 + 15
"""The exit status of a script that was told to end, as by qdel."""

# What batch systems write into the job's own output: OpenPBS' mom_main.c, slurmstepd(8).
_KILLED = re.compile(r"=>> PBS: job killed: (?P<what>(?P<resource>\S+).*)")
_SLURM = re.compile(r"(?P<what>CANCELLED AT \S+ DUE TO (?P<cause>[A-Z ]+?)) \*\*\*")
_CAUSES = {
    "TIME LIMIT": EndReason.TIMED_OUT,
    "PREEMPTION": EndReason.PREEMPTED,
    "NODE FAILURE": EndReason.NODE_FAILED,
}
_RESOURCES = {
    "walltime": EndReason.TIMED_OUT,
    "cput": EndReason.TIMED_OUT,
    "pcput": EndReason.TIMED_OUT,
    "mem": EndReason.OUT_OF_MEMORY,
    "pmem": EndReason.OUT_OF_MEMORY,
    "vmem": EndReason.OUT_OF_MEMORY,
    "pvmem": EndReason.OUT_OF_MEMORY,
}


@dataclass(frozen=True)
class Remains:
    """``tail`` are the last lines of the job's output, and ``said`` what its batch system wrote.

    ``exit_status`` is what the script told of its end, ``began`` whether it wrote anything at all,
    ``told`` whether it is one that tells its end, and ``taken`` whether its port was another's.
    """

    tail: str = ""
    said: str = ""
    exit_status: int | None = None
    began: bool = False
    told: bool = False
    taken: bool = False


def completed(job: JobInfo, remains: Remains) -> JobInfo:
    """The end of a job, with its reason where only the job itself could leave it."""
    if job.exit_status is not None or job.reason not in (None, EndReason.FINISHED):
        return job
    if found := _KILLED.search(remains.said):
        reason = _RESOURCES.get(found["resource"], EndReason.FAILED)
        return replace(job, reason=reason, detail=found["what"], exit_status=remains.exit_status)
    if found := _SLURM.search(remains.said):
        reason = _CAUSES.get(found["cause"], EndReason.CANCELLED)
        return replace(job, reason=reason, detail=found["what"], exit_status=remains.exit_status)
    status = remains.exit_status
    if status == TERMINATED:
        return replace(job, reason=EndReason.CANCELLED, exit_status=status)
    if status is not None:
        return replace(
            job, reason=EndReason.FAILED if status else EndReason.FINISHED, exit_status=status
        )
    if remains.told and job.state == JobState.COMPLETING:  # its script is still ending
        return replace(job, reason=EndReason.CANCELLED)
    if remains.told:
        detail = "; ".join(filter(None, ["it was killed, or its node failed", job.detail]))
        return replace(job, reason=EndReason.FAILED, detail=detail)
    return job
