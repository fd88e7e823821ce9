"""When Slurm would start a job that nobody submits: sbatch(1) --test-only, and sinfo(1).

Pure functions, like those of :mod:`hpcbridge.schedulers.slurm`. ``--test-only`` submits nothing,
but for a number of a job that is used up, and reads the script from its standard input.
"""

import re
from dataclasses import dataclass

from hpcbridge.errors import JobRejected, UnexpectedReply
from hpcbridge.schedulers.base import Forecast, JobRequest
from hpcbridge.transports.base import Completed

# sbatch.c: "Job %u to start at %s using %u processors on nodes %s in partition %s"; 26.05 has "%s a
# using".
ESTIMATE = re.compile(
    r"^sbatch: Job [0-9]+ to start at ([0-9]{1,12}) (?:a )?using ([0-9]+) processors on nodes \S+"
    r"(?: in partition ([A-Za-z0-9_.+-]+))?",
    re.MULTILINE,
)
REFUSED = re.compile(r"^(?:sbatch: (?:error|fatal): |allocation failure: )(.*)$", re.MULTILINE)
SHUT = re.compile("Required partition not available", re.IGNORECASE)


@dataclass(frozen=True)
class Estimate:
    """What ``--test-only`` tells; ``start`` is in seconds since the epoch."""

    start: float
    processors: int
    partition: str


def argv(request: JobRequest) -> list[str]:
    """Asks with the script on standard input. Times are in seconds since the epoch, as nothing
    tells the time zone of that machine."""
    command = ["sbatch", "--test-only", f"--job-name={request.name}"]
    if request.walltime is not None:
        minutes, seconds = divmod(request.walltime, 60)
        command.append(f"--time={minutes}:{seconds:02d}")
    return ["env", "SLURM_TIME_FORMAT=%s", *command]


def parse(done: Completed) -> Estimate | Forecast:
    """The estimate, or what there is to say without one.

    Raises :class:`~hpcbridge.errors.JobRejected` and :class:`~hpcbridge.errors.UnexpectedReply`.
    """
    if done.exit_status == 0:
        found = ESTIMATE.search(done.err)
        if found is None or found[3] is None:
            raise UnexpectedReply(f"sbatch --test-only told no start: {done.err.strip()[:200]!r}")
        return Estimate(float(found[1]), int(found[2]), found[3])
    said = REFUSED.findall(done.err)
    if any(SHUT.search(each) for each in said):
        return Forecast(closed="its partition is inactive or drained")
    told = said[-1][:200] if said else f"sbatch ended with status {done.exit_status}"
    raise JobRejected(f"Slurm would refuse the job: {told}.")


def sinfo_argv(partition: str) -> list[str]:
    """Whether a partition starts jobs, and its CPUs: allocated/idle/other/total."""
    return ["sinfo", "--noheader", f"--partition={partition}", "--format=%a %C"]


def forecast(estimate: Estimate, free: Completed, now: float) -> Forecast:
    """The estimate with what sinfo says of its partition: jobs of one that is down do not start,
    whatever was estimated. ``now`` is in seconds since the epoch."""
    found = re.fullmatch(r"(\S+) [0-9]+/([0-9]+)/[0-9]+/[0-9]+", free.out.strip())
    if free.exit_status != 0 or found is None:
        raise UnexpectedReply(f"sinfo printed no partition: {(free.err or free.out)[:200]!r}")
    if found[1] != "up":
        return Forecast(closed=f"its partition {estimate.partition} is {found[1]}")
    wait = max(0.0, estimate.start - now)
    return Forecast(wait, int(found[2]) // max(1, estimate.processors))
