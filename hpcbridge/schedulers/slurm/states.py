"""What Slurm's words for states and ends of jobs mean: squeue(1), scontrol(1), sacct(1)."""

import re

from hpcbridge.schedulers.base import EndReason, JobInfo, JobState
from hpcbridge.schedulers.slurm.reasons import plain

# squeue(1), section JOB STATE CODES.
ACTIVE_STATES = {
    "PENDING": JobState.QUEUED,
    "CONFIGURING": JobState.QUEUED,
    "REQUEUED": JobState.QUEUED,
    "REQUEUE_FED": JobState.QUEUED,
    "REQUEUE_HOLD": JobState.QUEUED,
    "REVOKED": JobState.QUEUED,
    "RESV_DEL_HOLD": JobState.QUEUED,
    "SPECIAL_EXIT": JobState.QUEUED,
    "STOPPED": JobState.QUEUED,
    "SUSPENDED": JobState.QUEUED,
    "RUNNING": JobState.RUNNING,
    "RESIZING": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "COMPLETING": JobState.COMPLETING,
    "STAGE_OUT": JobState.COMPLETING,
}
# squeue(1), JOB REASON CODES, of jobs that are completing.
COMPLETING_REASONS = {
    "TimeLimit": EndReason.TIMED_OUT,
    "OutOfMemory": EndReason.OUT_OF_MEMORY,
    "NodeDown": EndReason.NODE_FAILED,
    "Preempted": EndReason.PREEMPTED,
}
NOT_STARTED = -53
"""The number in place of a signal's with which slurmd says that it could not begin a job."""
SUSPENDED = "waiting to be resumed: it is suspended"
END_STATES = {
    "COMPLETED": EndReason.FINISHED,
    "FAILED": EndReason.FAILED,
    "CANCELLED": EndReason.CANCELLED,
    "TIMEOUT": EndReason.TIMED_OUT,
    "DEADLINE": EndReason.TIMED_OUT,
    "OUT_OF_MEMORY": EndReason.OUT_OF_MEMORY,
    "NODE_FAIL": EndReason.NODE_FAILED,
    "BOOT_FAIL": EndReason.NODE_FAILED,
    "PREEMPTED": EndReason.PREEMPTED,
}


def job_info(
    job_id: str, name: str, state: str, detail: str, host: str | None, exit_code: str = ""
) -> JobInfo:
    """One job in a state as squeue, scontrol or sacct write it; ``exit_code`` is ``3:0``."""
    word = state.partition(" ")[0]  # sacct writes "CANCELLED by 1000"
    detail = "" if detail in ("None", "(null)") else detail
    if word in END_STATES:
        detail, status = in_words(detail, _exit_status(exit_code))
        return JobInfo(
            job_id, name, JobState.ENDED, host, detail, END_STATES[word], exit_status=status
        )
    active = ACTIVE_STATES.get(word, JobState.UNKNOWN)
    if word == "PENDING":
        detail = f"waiting for {plain(detail)}"
    elif word == "CONFIGURING":
        detail = "waiting for its nodes to get ready"
    elif word in ("SUSPENDED", "STOPPED"):
        return JobInfo(job_id, name, active, host, SUSPENDED, suspended=True)
    elif active == JobState.COMPLETING:
        reason, status = how_it_went(detail, _exit_status(exit_code))
        return JobInfo(job_id, name, active, host, detail, reason, exit_status=status)
    return JobInfo(job_id, name, active, host, detail or word)


def how_it_went(reason: str, status: int | None) -> tuple[EndReason | None, int | None]:
    """Why the application of a completing job is over, which hides the state that follows.

    Of one that was cancelled, the script may still be ending: then Slurm tells 0:0 and no reason,
    as of one that ended well.
    """
    if reason in COMPLETING_REASONS:
        return COMPLETING_REASONS[reason], status
    if not status and not reason:
        return None, None
    if status and not reason:  # what fails by itself has a reason: NonZeroExitCode, ...
        return EndReason.CANCELLED, status
    return EndReason.FAILED if status else None, status


def in_words(detail: str, status: int | None) -> tuple[str, int | None]:
    """An end with Slurm's own code 0:53, which is no signal of a program, told as what it is."""
    if status != NOT_STARTED:
        return detail, status
    said = f"{detail}, " if detail else ""
    return (
        f"{said}0:53: its node could not enter the job's directory or open its output there. Is "
        "the file system of session_root mounted on all nodes?",
        None,
    )


def _exit_status(text: str) -> int | None:
    """``3:0`` is exit status 3; ``0:9`` is signal 9, told as -9."""
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if not match:
        return None
    status, signal = int(match[1]), int(match[2])
    return -signal if signal and not status else status
