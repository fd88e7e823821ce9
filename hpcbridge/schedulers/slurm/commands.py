"""Slurm's commands: sbatch(1), squeue(1), scancel(1), scontrol(1), sacct(1).

Pure functions: a request becomes an argument list, and what a command printed a typed answer.
"""

import dataclasses
import re
from collections.abc import Collection, Iterable

from hpcbridge.errors import (
    ClusterError,
    ClusterUnreachable,
    JobRejected,
    OutcomeUnknown,
    UnexpectedReply,
)
from hpcbridge.schedulers.base import EndReason, JobInfo, JobRequest, JobState, Listing
from hpcbridge.schedulers.slurm.advice import advice
from hpcbridge.schedulers.slurm.reasons import hopeless, plain
from hpcbridge.transports.base import Completed

JOB_ID = re.compile(r"[0-9]{1,12}")
# Parts of job arrays and heterogeneous jobs: 12_3, 12_[1-9], 12+1.
LISTED_ID = re.compile(r"[0-9]{1,12}([_+]\S*)?")

# A job may have any name, control characters included: characters that nobody types are not enough.
FIELD, RECORD = "\x1f", "\x1e"

# squeue(1), section JOB STATE CODES.
ACTIVE_STATES = {
    "PENDING": JobState.QUEUED,
    "CONFIGURING": JobState.QUEUED,
    "REQUEUED": JobState.QUEUED,
    "REQUEUE_FED": JobState.QUEUED,
    "REQUEUE_HOLD": JobState.QUEUED,
    "RESV_DEL_HOLD": JobState.QUEUED,
    "SPECIAL_EXIT": JobState.QUEUED,
    "RUNNING": JobState.RUNNING,
    "COMPLETING": JobState.RUNNING,
    "RESIZING": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "STAGE_OUT": JobState.RUNNING,
    "STOPPED": JobState.RUNNING,
    "SUSPENDED": JobState.RUNNING,
}
END_STATES = {
    "COMPLETED": EndReason.FINISHED,
    "FAILED": EndReason.FAILED,
    "CANCELLED": EndReason.CANCELLED,
    "REVOKED": EndReason.CANCELLED,
    "TIMEOUT": EndReason.TIMED_OUT,
    "DEADLINE": EndReason.TIMED_OUT,
    "OUT_OF_MEMORY": EndReason.OUT_OF_MEMORY,
    "NODE_FAIL": EndReason.NODE_FAILED,
    "BOOT_FAIL": EndReason.NODE_FAILED,
    "PREEMPTED": EndReason.PREEMPTED,
}

# The controller was not reached at all, so nothing was accepted.
NOT_ASKED = re.compile(
    r"Unable to contact slurm controller|connect failure|Connection refused"
    r"|authentication (credential|error)|munge|Unable to resolve|not responding",
    re.IGNORECASE,
)
# The request left and the answer did not come: it may have been carried out.
ANSWER_LOST = re.compile(
    r"Socket timed out|Zero Bytes|send/recv|Connection reset|Broken pipe|Unexpected message",
    re.IGNORECASE,
)

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


def parse_sbatch(done: Completed) -> str:
    """The job id that ``sbatch --parsable`` printed: its last line, up to a ``;cluster``."""
    error = done.err.strip()
    if done.exit_status == 0:
        last = done.out.strip().rpartition("\n")[2].partition(";")[0].strip()
        if JOB_ID.fullmatch(last):
            return last
        raise OutcomeUnknown(f"sbatch printed no job id{': ' + error if error else '.'}")
    if ANSWER_LOST.search(error):
        raise OutcomeUnknown(f"Slurm did not answer sbatch: {error}")
    raise_if_not_asked("sbatch", done)
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
    wanted = ["%i", "%T", "%r", "%P", "%B", "%j", *(["%u"] if accounts else [])]
    columns = f"{FIELD}{mark}".join(wanted)
    whose = f"--user={','.join(sorted(accounts))}" if accounts else "--me"
    return ["squeue", whose, "--states=all", f"--format={columns}{RECORD}{mark}"]


def parse_squeue(done: Completed, mark: str) -> Listing:
    """All jobs of a complete listing; anything less is "could not ask"."""
    # Of an account that it does not know, squeue says so and lists the others' jobs.
    unknown = UNKNOWN_USER.findall(done.err)
    told = UNKNOWN_USER.sub("", done.err).encode()
    raise_if_squeue_failed(dataclasses.replace(done, stderr=told))
    header, *records = done.out.split(f"{RECORD}{mark}\n")
    if not records or header.count(FIELD + mark) not in (5, 6):
        raise UnexpectedReply(f"squeue printed no listing: {_last_line(done.err or done.out)!r}")
    if records.pop() != "":
        raise UnexpectedReply("squeue's listing was cut off.")
    jobs = (_record(record.split(FIELD + mark)) for record in records)
    return Listing({job.job_id: job for job in jobs}, unknown)


def _record(fields: list[str]) -> JobInfo:
    if len(fields) not in (6, 7) or not LISTED_ID.fullmatch(fields[0]):
        raise UnexpectedReply(f"squeue printed a line that cannot be read: {str(fields)[:80]}")
    job_id, state, reason, partition, host, name, *account = fields
    info = _info(job_id, name, state, reason, None if host in ("", "n/a", "(null)") else host)
    info = dataclasses.replace(info, account="".join(account))
    # Of a job in several partitions, the reason is one partition's only.
    if state != "PENDING" or "," in partition:
        return info
    return dataclasses.replace(info, hopeless=hopeless(reason))


def _info(
    job_id: str, name: str, state: str, detail: str, host: str | None, exit_code: str = ""
) -> JobInfo:
    word = state.partition(" ")[0]  # sacct writes "CANCELLED by 1000"
    detail = "" if detail in ("None", "(null)") else detail
    if word in END_STATES:
        status = _exit_status(exit_code)
        return JobInfo(
            job_id, name, JobState.ENDED, host, detail, END_STATES[word], exit_status=status
        )
    active = ACTIVE_STATES.get(word, JobState.UNKNOWN)
    if word == "PENDING":
        detail = f"waiting for {plain(detail)}"
    elif word == "CONFIGURING":
        detail = "waiting for its nodes to get ready"
    return JobInfo(job_id, name, active, host, detail or word)


def _exit_status(text: str) -> int | None:
    """``3:0`` is exit status 3; ``0:9`` is signal 9, told as -9."""
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if not match:
        return None
    status, signal = int(match[1]), int(match[2])
    return -signal if signal and not status else status


def scancel_argv(job_ids: Iterable[str]) -> list[str]:
    """Cancel these jobs, their batch scripts included; unknown and ended ids are ignored."""
    return ["scancel", "--quiet", *job_ids]


def parse_scancel(done: Completed) -> None:
    """Nothing where the jobs are ended or being ended."""
    if done.exit_status != 0:
        raise_if_not_asked("scancel", done)
        raise ClusterError(f"scancel failed ({done.exit_status}): {_last_line(done.err)}")


def scontrol_argv(job_id: str) -> list[str]:
    """Everything the controller knows of one job, on one line."""
    return ["scontrol", "--oneliner", "show", "job", job_id]


def parse_scontrol(done: Completed) -> JobInfo | None:
    """One job, or None where the controller has forgotten it."""
    if done.exit_status != 0:
        raise_if_not_asked("scontrol", done)
        if "Invalid job id" in done.err:
            return None
        raise UnexpectedReply(f"scontrol failed ({done.exit_status}): {_last_line(done.err)}")
    words = r"(?:^| )(JobId|JobName|JobState|Reason|BatchHost|ExitCode)=(\S*)"
    # The first one counts: what the job's owner may write (comment, command) comes later.
    found = dict(reversed(re.findall(words, done.out)))
    if "JobId" not in found or "JobState" not in found:
        raise UnexpectedReply("scontrol printed no job.")
    return _info(
        found["JobId"],
        found.get("JobName", ""),
        found["JobState"],
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
    return _info(job_id, name, state, by_whom, None, exit_code)


def raise_if_squeue_failed(done: Completed) -> None:
    """Raise unless squeue answered the question."""
    # squeue can print an error and exit 0 (ood_core#149).
    failed = re.search(r"\berror\b", done.err) or NOT_ASKED.search(done.err)
    if done.exit_status != 0 or failed:
        raise_if_not_asked("squeue", done)
        raise UnexpectedReply(f"squeue failed ({done.exit_status}): {_last_line(done.err)}")


def raise_if_not_asked(command: str, done: Completed) -> None:
    """Raise :class:`~hpcbridge.errors.ClusterUnreachable` unless the controller was reached."""
    if done.exit_status == 127:
        raise ClusterUnreachable(
            f"{command} is not installed where the commands run, or not in the PATH of a "
            f"non-interactive login: {_last_line(done.err)}"
        )
    if NOT_ASKED.search(done.err) or ANSWER_LOST.search(done.err):
        raise ClusterUnreachable(
            f"Slurm's controller does not answer ({_last_line(done.err)}). "
            "Nothing is lost; try again in a minute."
        )


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2][:300] or "no message"
