"""Slurm's commands: sbatch(1), squeue(1), scancel(1), scontrol(1), sacct(1).

Pure functions: a request becomes an argument list, and what a command printed a typed answer.
"""

import dataclasses
import re
from collections.abc import Collection, Iterable

from hpcbridge.errors import (
    ClusterError,
    JobRejected,
    OutcomeUnknown,
    UnexpectedReply,
)
from hpcbridge.schedulers.answers import Dialect, last_line, lines_of
from hpcbridge.schedulers.base import JobInfo, JobRequest, JobState, Listing
from hpcbridge.schedulers.slurm.advice import advice
from hpcbridge.schedulers.slurm.reasons import hopeless
from hpcbridge.schedulers.slurm.states import job_info
from hpcbridge.transports.base import Completed

JOB_ID = re.compile(r"[0-9]{1,12}")
PARSABLE = re.compile(r"[0-9]{1,12}(;\S+)?")
# Parts of job arrays and heterogeneous jobs: 12_3, 12_[1-9], 12+1.
LISTED_ID = re.compile(r"[0-9]{1,12}([_+]\S*)?")

# A job may have any name, control characters included: characters that nobody types are not enough.
FIELD, RECORD = "\x1f", "\x1e"

# "sbatch: error: ...", "slurm_load_jobs error: ...", "allocation failure: ...": Slurm's own words.
OWN = re.compile(
    r"^(?:(?:s[a-z]+: )?(?:error|fatal)|slurm_\w+(?: error)?|allocation failure): ?(.*)$",
    re.MULTILINE,
)
# What follows is one of slurm_strerror(3); a site's job_submit plugin speaks on other lines.
VERDICT = re.compile(r"submission failed: (.*)$", re.MULTILINE)


def _heard(done: Completed) -> list[str]:
    return (VERDICT.findall(done.err) or OWN.findall(done.err))[-20:]


DIALECT = Dialect(
    "Slurm's controller",
    "",
    _heard,
    not_asked=r"(.*: )?(Unable to contact slurm controller|connect failure|Connection refused"
    r"|Invalid authentication credential|Protocol authentication error|.*has authentication error"
    r"|.*\bmunged?\b|Unable to resolve|.*not responding)",
    lost=r"(.*: )?(Socket timed out|Zero Bytes|.*send/recv|Connection reset|Broken pipe"
    r"|Unexpected message)",
)

GONE = re.compile(r"Invalid job id specified|already completing or completed", re.IGNORECASE)
UNKNOWN_USER = re.compile(r"^squeue: error: Invalid user: (\S+)$", re.MULTILINE)


def sbatch_argv(request: JobRequest) -> list[str]:
    """The command line that submits ``request``; its values can only ever be values."""
    log = f"{request.directory}/scheduler.out"
    argv = [
        "sbatch",
        "--parsable",
        "--no-requeue",
        f"--job-name={request.name}",
        f"--chdir={request.directory}",
        f"--output={log}",
        f"--error={log}",
    ]
    if request.walltime is not None:
        minutes, seconds = divmod(request.walltime, 60)
        argv.append(f"--time={minutes}:{seconds:02d}")
    return [*argv, request.script]


class Elsewhere(JobRejected):
    """The job was taken by another ``cluster``, under ``job_id``."""

    def __init__(self, job_id: str, cluster: str) -> None:
        super().__init__(
            f"sbatch sent the job to the cluster {cluster}, which is not the one that is watched "
            "here. Name no cluster in the job's template, and give each cluster a section of its "
            "own."
        )
        self.job_id = job_id
        self.cluster = cluster


def parse_sbatch(done: Completed) -> str:
    """The job id that ``sbatch --parsable`` printed: on its last line, or else on the only one that
    is an id, for a site's plugins and wrappers print before it and after it.

    Raises :class:`Elsewhere` where the name of a cluster follows.
    """
    error = done.err.strip()
    if done.exit_status == 0:
        lines = lines_of(done.out)
        told = [line for line in lines if PARSABLE.fullmatch(line)]
        if told and (told[-1] == lines[-1] or len(told) == 1):
            job_id, _, cluster = told[-1].partition(";")
            if cluster:
                raise Elsewhere(job_id, cluster)
            return job_id
        raise OutcomeUnknown(f"sbatch printed no job id{': ' + error if error else '.'}")
    DIALECT.raise_if_not_taken("sbatch", done)
    raise JobRejected(
        f"Slurm refused the job: {error or f'sbatch ended with status {done.exit_status}'}"
        f"{advice(error)}"
    )


def squeue_argv(mark: str, accounts: Collection[str] = ()) -> list[str]:
    """One query for all jobs of this account, or of ``accounts``, those ended within MinJobAge
    included.

    ``mark`` (hexadecimal digits, new for each query) is part of every separator, so that no job's
    name can hold one. The header stays: it is the proof that an empty listing is one.
    """
    wanted = ["%i", "%T", "%r", "%P", "%B", "%S", "%j", *(["%u"] if accounts else [])]
    columns = f"{FIELD}{mark}".join(wanted)
    whose = f"--user={','.join(sorted(accounts))}" if accounts else "--me"
    return ["squeue", whose, "--states=all", f"--format={columns}{RECORD}{mark}"]


def parse_squeue(done: Completed, mark: str) -> Listing:
    """All jobs of a complete listing; anything less is "could not ask"."""
    unknown = UNKNOWN_USER.findall(done.err)
    raise_if_squeue_failed(done)
    header, *records = done.out.split(f"{RECORD}{mark}\n")
    columns = header.rpartition("\n")[2].split(FIELD + mark)
    if not records or len(columns) not in (6, 7, 8):
        raise UnexpectedReply(f"squeue printed no listing: {last_line(done)!r}")
    if records.pop() != "":
        raise UnexpectedReply("squeue's listing was cut off.")
    jobs = (_record(record.split(FIELD + mark), columns) for record in records)
    return Listing({job.job_id: job for job in jobs}, unknown)


def _record(fields: list[str], columns: list[str]) -> JobInfo:
    if len(fields) != len(columns) or not LISTED_ID.fullmatch(fields[0]):
        raise UnexpectedReply(f"squeue printed a line that cannot be read: {str(fields)[:80]}")
    told = dict(zip(columns, fields, strict=True))
    job_id, state, reason, partition, host, *_ = fields
    info = job_info(
        job_id, told["NAME"], state, reason, None if host in ("", "n/a", "(null)") else host
    )
    run = told.get("START_TIME", "") if info.state == JobState.RUNNING else ""
    info = dataclasses.replace(info, account=told.get("USER", ""), run=run)
    # Of a job in several partitions, the reason is one partition's only.
    if info.state != JobState.QUEUED or ("," in partition and state == "PENDING"):
        return info
    return dataclasses.replace(info, hopeless=hopeless(reason, state))


def scancel_argv(job_ids: Iterable[str], name: str, *, cluster: str = "") -> list[str]:
    """Cancel those of these jobs that have this name, their batch scripts included."""
    where = [f"--clusters={cluster}"] if cluster else []
    return ["scancel", f"--name={name}", *where, *job_ids]


def parse_scancel(done: Completed) -> None:
    """Nothing where the jobs are ended or being ended, or are other ones."""
    if done.exit_status != 0:
        DIALECT.raise_if_not_asked("scancel", done)
        said = lines_of(done.err)
        if not said or not all(map(GONE.search, said)):
            raise ClusterError(f"scancel failed ({done.exit_status}): {last_line(done)}")


def scontrol_argv(job_id: str) -> list[str]:
    """Everything the controller knows of one job, on one line."""
    return ["scontrol", "--oneliner", "show", "job", job_id]


def parse_scontrol(done: Completed) -> JobInfo | None:
    """One job, or None where the controller has forgotten it."""
    if done.exit_status != 0:
        DIALECT.raise_if_not_asked("scontrol", done)
        if "Invalid job id" in done.err:
            return None
        raise UnexpectedReply(f"scontrol failed ({done.exit_status}): {last_line(done)}")
    words = r"(?m)(?:^| )(JobId|JobName|JobState|Reason|BatchHost|ExitCode|Restarts|RunTime)=(\S*)"
    # The first one counts: what the job's owner may write (comment, command) comes later.
    found = dict(reversed(re.findall(words, done.out)))
    if "JobId" not in found or "JobState" not in found:
        raise UnexpectedReply("scontrol printed no job.")
    state = found["JobState"]
    again = found.get("Restarts", "0") != "0" and found.get("RunTime") == "00:00:00"
    if state == "COMPLETING" and again:  # the run before is cleaned up; the job waits already
        state = "REQUEUED"
    return job_info(
        found["JobId"],
        found.get("JobName", ""),
        state,
        found.get("Reason", ""),
        found.get("BatchHost"),
        found.get("ExitCode", ""),
    )


def sacct_argv(job_id: str) -> list[str]:
    """The accounting record of one job."""
    fields = "JobIDRaw,State,ExitCode,JobName"
    return [
        "sacct",
        "--allocations",
        "--noheader",
        "--parsable2",
        f"--format={fields}",
        f"--jobs={job_id}",
    ]


def parse_sacct(done: Completed) -> JobInfo | None:
    """The newest record, or None where there is no accounting or no record."""
    if done.exit_status != 0:
        return None
    lines = [line.split("|", 3) for line in done.out.splitlines()]
    records = [fields for fields in lines if len(fields) == 4 and JOB_ID.fullmatch(fields[0])]
    if not records:
        return None
    job_id, state, exit_code, name = records[-1]
    by_whom = state if " by " in state else ""
    return job_info(job_id, name, state, by_whom, None, exit_code)


def raise_if_squeue_failed(done: Completed) -> None:
    """Raise unless squeue answered the question."""
    # Of an account that it does not know, squeue says so and lists the others' jobs.
    told = dataclasses.replace(done, stderr=UNKNOWN_USER.sub("", done.err).encode())
    # squeue can print an error and exit 0 (ood_core#149).
    if done.exit_status != 0 or OWN.search(told.err):
        DIALECT.raise_if_missing("squeue", told)
        DIALECT.raise_if_silent(_heard(told))
        raise UnexpectedReply(f"squeue failed ({done.exit_status}): {last_line(told)}")
