"""Slurm by its commands: sbatch(1), squeue(1), scancel(1), scontrol(1), sacct(1).

The functions are pure: text in, typed answer out. :class:`SlurmScheduler` runs the commands.
"""

import re
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal

from pydantic import Field

from hpcbridge.clustersettings import RemoteCluster
from hpcbridge.errors import (
    BridgeError,
    ClusterError,
    ClusterUnreachable,
    JobRejected,
    OutcomeUnknown,
    UnexpectedReply,
)
from hpcbridge.schedulers.base import (
    EndReason,
    JobInfo,
    JobRequest,
    JobState,
    Kind,
    Listing,
    Outlook,
)
from hpcbridge.transports.base import Completed, Transport

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
    _raise_if_not_asked("sbatch", done)
    raise JobRejected(
        f"Slurm refused the job: {error or f'sbatch ended with status {done.exit_status}'}"
    )


def squeue_argv(mark: str) -> list[str]:
    """One query for all of this account's jobs, those ended within MinJobAge included.

    ``mark`` (hexadecimal digits, new for each query) is part of every separator, so that no job's
    name can hold one. The header stays: it is the proof that an empty listing is one.
    """
    columns = f"{FIELD}{mark}".join(["%i", "%T", "%r", "%B", "%j"])
    return ["squeue", "--me", "--states=all", f"--format={columns}{RECORD}{mark}"]


def parse_squeue(done: Completed, mark: str) -> Listing:
    """All jobs of a complete listing; anything less is "could not ask"."""
    # squeue can print an error and exit 0 (ood_core#149).
    failed = re.search(r"\berror\b", done.err) or NOT_ASKED.search(done.err)
    if done.exit_status != 0 or failed:
        _raise_if_not_asked("squeue", done)
        raise UnexpectedReply(f"squeue failed ({done.exit_status}): {_last_line(done.err)}")
    header, *records = done.out.split(f"{RECORD}{mark}\n")
    if not records or header.count(FIELD + mark) != 4:
        raise UnexpectedReply(f"squeue printed no listing: {_last_line(done.err or done.out)!r}")
    if records.pop() != "":
        raise UnexpectedReply("squeue's listing was cut off.")
    jobs = (_record(record.split(FIELD + mark)) for record in records)
    return Listing({job.job_id: job for job in jobs})


def _record(fields: list[str]) -> JobInfo:
    if len(fields) != 5 or not LISTED_ID.fullmatch(fields[0]):
        raise UnexpectedReply(f"squeue printed a line that cannot be read: {str(fields)[:80]}")
    job_id, state, detail, host, name = fields
    return _info(job_id, name, state, detail, None if host in ("", "n/a", "(null)") else host)


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
        _raise_if_not_asked("scancel", done)
        raise ClusterError(f"scancel failed ({done.exit_status}): {_last_line(done.err)}")


def scontrol_argv(job_id: str) -> list[str]:
    """Everything the controller knows of one job, on one line."""
    return ["scontrol", "--oneliner", "show", "job", job_id]


def parse_scontrol(done: Completed) -> JobInfo | None:
    """One job, or None where the controller has forgotten it."""
    if done.exit_status != 0:
        _raise_if_not_asked("scontrol", done)
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
    return _info(job_id, name, state, "", None, exit_code)


def _raise_if_not_asked(command: str, done: Completed) -> None:
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


class SlurmCluster(RemoteCluster):
    """Slurm by its commands, on this machine or over SSH."""

    scheduler: Literal["slurm"] = Field(description="Slurm, by sbatch, squeue and scancel.")


class SlurmScheduler:
    """Implements :class:`~hpcbridge.schedulers.base.Scheduler` with Slurm's commands.

    ``timeout`` (seconds) bounds each query; sbatch and scancel get twice that, because giving up
    on them leaves their outcome unknown.
    """

    def __init__(self, transport: Transport, *, timeout: float) -> None:
        self._transport = transport
        self._timeout = timeout

    async def _run(self, argv: Sequence[str], *, patience: float = 1) -> Completed:
        return await self._transport.run(argv, timeout=self._timeout * patience)

    async def submit(self, request: JobRequest) -> str:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.submit`."""
        return parse_sbatch(await self._run(sbatch_argv(request), patience=2))

    async def list_jobs(self) -> Listing:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.list_jobs`."""
        mark = secrets.token_hex(4)
        return parse_squeue(await self._run(squeue_argv(mark)), mark)

    async def outlook(self, job_ids: Collection[str]) -> Mapping[str, Outlook]:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.outlook`."""
        return {}

    async def find(self, name: str) -> str | None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.find`."""
        jobs = (await self.list_jobs()).jobs.values()
        ids = [job.job_id for job in jobs if job.name == name and JOB_ID.fullmatch(job.job_id)]
        return max(ids, key=int, default=None)

    async def describe_end(self, job_id: str) -> JobInfo | None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.describe_end`."""
        info = parse_scontrol(await self._run(scontrol_argv(job_id)))
        if info is not None:
            return info
        try:
            record = parse_sacct(await self._run(sacct_argv(job_id)))
        except BridgeError:
            return None  # accounting is optional and down more often than the controller
        # Accounting can call a job running that the controller has lost (sacctmgr(1), runawayjobs).
        return record if record and record.state == JobState.ENDED else None

    async def cancel(self, job_ids: Iterable[str]) -> None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.cancel`."""
        wanted = list(job_ids)
        if wanted:
            parse_scancel(await self._run(scancel_argv(wanted), patience=2))

    def notify(self, changed: Callable[[], None]) -> None:
        """Slurm tells nothing by itself."""

    async def close(self) -> None:
        """Nothing to release."""


KIND = Kind(
    SlurmCluster,
    lambda site: SlurmScheduler(site.transport, timeout=site.settings.command_timeout),
)
