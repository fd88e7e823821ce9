"""What slurmrestd tells of jobs, in hpcbridge's words."""

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from hpcbridge.schedulers.base import EndReason, JobInfo, JobState, Outlook
from hpcbridge.schedulers.slurm.reasons import asked_for, hopeless, plain, set_aside
from hpcbridge.schedulers.slurm.states import (
    ACTIVE_STATES,
    END_STATES,
    SUSPENDED,
    how_it_went,
    in_words,
)
from hpcbridge.schedulers.slurmrest.replies import Job, PastJob

# Where a state has flags, squeue tells the first of these (slurm_protocol_defs.c,
# job_state_string).
_FLAGS = (
    "COMPLETING",
    "STAGE_OUT",
    "CONFIGURING",
    "RESIZING",
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "SPECIAL_EXIT",
    "STOPPED",
    "REVOKED",
    "RESV_DEL_HOLD",
    "SIGNALING",
)


SKEW = 30.0
"""Seconds by which the controller's clock may be before ours."""


def info(job: Job) -> JobInfo:
    """One job of the listing."""
    word = _state(job.states)
    detail = "" if job.why == "None" else job.why
    if word in END_STATES:
        detail, status = in_words(detail, job.exit_status)
        return JobInfo(
            str(job.job_id),
            job.name,
            JobState.ENDED,
            job.host or None,
            detail,
            END_STATES[word],
            exit_status=status,
        )
    state = ACTIVE_STATES.get(word, JobState.UNKNOWN)
    if state == JobState.COMPLETING and (job.end or 0) > time.time() + SKEW:
        word, state = "REQUEUED", JobState.QUEUED  # the run before is cleaned up
    if state == JobState.COMPLETING:
        return _completing(job, detail)
    suspended = word in ("SUSPENDED", "STOPPED")
    waits = state == JobState.QUEUED and ("," not in job.partition or word != "PENDING")
    return JobInfo(
        str(job.job_id),
        job.name,
        state,
        job.host or None,
        SUSPENDED if suspended else detail or word,
        suspended=suspended,
        run=str(job.start or "") if state == JobState.RUNNING else "",
        hopeless=hopeless(job.why, word) if waits else "",
    )


def _completing(job: Job, detail: str) -> JobInfo:
    """A job whose application is over; beside the flag stands the state that follows, mostly."""
    ends = [END_STATES[word] for word in job.states if word in END_STATES]
    reason, status = how_it_went(detail, job.exit_status)
    host = job.host or None
    told = ends[0] if ends else reason
    return JobInfo(
        str(job.job_id), job.name, JobState.COMPLETING, host, detail, told, exit_status=status
    )


def past(job: PastJob) -> JobInfo | None:
    """One job of the accounting, which can call a job running that the controller has lost."""
    reason: EndReason | None = END_STATES.get(_state(job.state.current))
    if reason is None:
        return None
    # Slurm 22.05 tells 0 of every job, failed ones included.
    status = job.exit_status if job.exit_status or reason == EndReason.FINISHED else None
    detail, status = in_words("", status)
    return JobInfo(
        str(job.job_id), job.name, JobState.ENDED, None, detail, reason, exit_status=status
    )


def _state(words: tuple[str, ...]) -> str:
    """The one that squeue would tell; of those that nobody knows yet, the first."""
    told = set(words)
    if "PENDING" in told and "COMPLETING" in told:  # it was requeued, and its last run cleans up
        return "REQUEUED"
    for word in (*_FLAGS, *words):
        if word in told and (word in ACTIVE_STATES or word in END_STATES):
            return word
    return words[0] if words else ""


def outlooks(
    jobs: Iterable[Job], wanted: Collection[str], *, everyone: bool
) -> Mapping[str, Outlook]:
    """What the ``wanted`` jobs may expect. Of several partitions, the one with the shortest queue.

    Slurm looks at the jobs with the highest priority first, and of those at the oldest.
    """
    pending = [job for job in jobs if _state(job.states) == "PENDING"]
    pending.sort(key=lambda job: (-(job.priority or 0), job.job_id))
    ahead: Counter[str] = Counter()
    found = {}
    for job in pending:
        partitions, aside = job.partition.split(","), set_aside(job.why)
        if str(job.job_id) in wanted:
            best = min(partitions, key=lambda partition: ahead[partition])
            place = ahead[best] if everyone and not aside else None
            found[str(job.job_id)] = Outlook(
                best, place, job.start or None, plain(job.why, _asked(job)), "partition"
            )
        if not aside:
            ahead.update(partitions)
    return found


def _asked(job: Job) -> str:
    nodes = job.nodes or 1
    if asked_for(job.tres_per_job) and not asked_for(job.tres_per_node):
        return f"{asked_for(job.tres_per_job)}{f' on {nodes} nodes' if nodes > 1 else ''}"
    return asked_for(job.tres_per_node, nodes)
