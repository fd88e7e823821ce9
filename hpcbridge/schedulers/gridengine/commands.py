"""qsub(1) and qdel(1): what is run, and what their answers mean. All functions are pure."""

import re
from collections.abc import Iterable

from hpcbridge.errors import (
    ClusterError,
    ClusterUnreachable,
    JobRejected,
    OutcomeUnknown,
    UnexpectedReply,
)
from hpcbridge.schedulers.answers import MISSING, Dialect, last_line, lines_of
from hpcbridge.schedulers.base import JobRequest
from hpcbridge.transports.base import Completed

JOB_ID = re.compile(r"[0-9]{1,12}")

# The commands do not know where the master is.
NOT_SET_UP = re.compile(r"SGE_ROOT|cell directory|act_qmaster")


def _heard(done: Completed) -> list[str]:
    """What was said; qdel says on standard output that it did not get through."""
    told = lines_of(f"{done.err}\n{done.out}")
    return [re.sub(r"^((critical )?error: |Unable to run job: )+", "", line) for line in told]


DIALECT = Dialect(
    "Grid Engine's master",
    " Name its directory in the cluster's bin.",
    _heard,
    not_asked=r"commlib error: (?!got read error)|got send error|got select error"
    r"|unable to (contact|send message to) qmaster|can't resolve|getting configuration",
    lost=r"(commlib error: )?got read error|failed receiving|receive timeout"
    r"|Error reading answer list",
)
# What qdel says of each job that is not there any more, or will not be for long.
ENDING = re.compile(r"has registered the job|has deleted job|is already in deletion|does not exist")


def qsub_argv(request: JobRequest, *, verify: bool) -> list[str]:
    """The command line that submits ``request``; what it says counts more than the directives.

    ``verify`` has jobs refused that no queue of the cluster could ever take.
    """
    refuse = ["-w", "e"] if verify else []
    return ["qsub", "-terse", *qsub_options(request), *refuse, request.script]


def qsub_options(request: JobRequest) -> list[str]:
    """What every job is submitted with.

    The script's first line is read here: with posix_compliant, the default of queues, Grid Engine
    ignores it and runs every script with the queue's shell. ``-o`` is relative to ``-wd``: in an
    absolute path Grid Engine would look for a host's name.
    """
    options = ["-N", request.name, "-wd", request.directory, "-o", "scheduler.out", "-j", "y"]
    options += ["-b", "n", "-r", "n", "-S", shell_of(request.text)]
    if request.walltime is not None:
        options += ["-l", f"h_rt={request.walltime}"]
    return options


def shell_of(script: str) -> str:
    """The interpreter that a script's first line names, bash where it names none by its path."""
    words = script.partition("\n")[0].removeprefix("#!").split()
    named = script.startswith("#!/") and words and not words[0].endswith("/env")
    return words[0] if named else "/bin/bash"


def parse_qsub(done: Completed) -> str:
    """The job id that ``qsub -terse`` printed: its last line, after any warnings."""
    if done.exit_status == 0:
        last = done.out.strip().rpartition("\n")[2].strip()
        if JOB_ID.fullmatch(last):
            return last
        raise OutcomeUnknown(f"qsub printed no job id: {said_last(done)}")
    raise_if_not_set_up("qsub", done)
    DIALECT.raise_if_not_taken("qsub", done)
    if said := refusal(done):
        raise JobRejected(f"Grid Engine refused the job: {said}")
    raise OutcomeUnknown(f"qsub ended with status {done.exit_status} and said nothing.")


def refusal(done: Completed) -> str:
    """What qsub says against a job."""
    lines = [line.removeprefix("Unable to run job: ") for line in done.err.splitlines()]
    return " ".join(line.strip() for line in lines if line not in ("", "Exiting."))[:500]


def qdel_argv(job_ids: Iterable[str]) -> list[str]:
    """End these jobs. Only ids: a word that is none would be the name of other jobs."""
    return ["qdel", *(job_id for job_id in job_ids if JOB_ID.fullmatch(job_id))]


def parse_qdel(done: Completed) -> None:
    """Nothing where each job is ended or being ended; qdel's exit status is that of the worst."""
    raise_if_not_asked("qdel", done)
    said = f"{done.out}\n{done.err}".splitlines()
    other = [line for line in said if line.strip() and not ENDING.search(line)]
    if other or not "".join(said).strip():
        raise ClusterError(f"qdel failed ({done.exit_status}): {(other or ['no message'])[-1]}")


def raise_if_not_asked(command: str, done: Completed) -> None:
    """Raise :class:`~hpcbridge.errors.ClusterUnreachable` where the master was not asked."""
    raise_if_not_set_up(command, done)
    DIALECT.raise_if_not_asked(command, done)


def raise_if_not_set_up(command: str, done: Completed) -> None:
    """Raise where a command does not know where the master is."""
    if done.exit_status not in (0, MISSING) and NOT_SET_UP.search(done.err):
        raise ClusterUnreachable(
            f"{command} does not find Grid Engine ({said_last(done)}). Set the cluster's root and "
            "cell to what settings.sh says."
        )


def raise_if_failed(command: str, done: Completed) -> None:
    """Raise where a command that asks did not answer."""
    raise_if_not_asked(command, done)
    if done.exit_status != 0:
        raise UnexpectedReply(f"{command} failed ({done.exit_status}): {said_last(done)}")


def said_last(done: Completed) -> str:
    """The last thing that a command said, other than its good-bye."""
    return last_line(done, but="Exiting.")
