"""What can be done about a job that Slurm refused, for those who set the job's options.

Slurm's words for its errors are in its source, src/common/slurm_errno.c; they are the same from
22.05 to 26.05, by sbatch(1) and by slurmrestd(8).
"""

import re

_ADVICE = (
    (
        "Invalid account",
        "The option 'account' must be one of those that the job's user has: sacctmgr show "
        "associations user=NAME lists them.",
    ),
    (
        "Invalid qos",
        "The option 'qos' must be one that the account allows its user: sacctmgr show "
        "associations user=NAME format=account,qos lists them.",
    ),
    (
        "violates accounting/QOS policy",
        "A limit of the account or the QOS is exceeded: ask for less (walltime, nodes, cpus, "
        "gpus), or use another 'account' or 'qos'; sacctmgr show qos lists the limits.",
    ),
    (
        "Invalid partition|invalid partition",
        "The option 'partition' must be one that sinfo lists.",
    ),
    (
        "Requested time limit is invalid",
        "The walltime is more than the partition allows: sinfo --format='%P %l' lists the limits.",
    ),
    (
        "node configuration is not available",
        "No node of the partition has that much: look at the options cpus, memory, gpus and "
        "constraint.",
    ),
    (
        "reservation is invalid|Access denied to requested reservation",
        "The option 'reservation' must be one that is there and open to the job's user: scontrol "
        "show reservation lists them.",
    ),
)


def advice(error: str) -> str:
    """A line to put below Slurm's own words, or nothing where there is nothing to add."""
    for pattern, text in _ADVICE:
        if re.search(pattern, error):
            return f"\n{text}"
    return ""
