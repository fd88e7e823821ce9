"""What a job's attributes say, in hpcbridge's words: pbs_job_attributes(7B), qstat(1B).

The attributes are flat and all text, whatever they were read from: ``Resource_List.ncpus`` is
``"8"``.
"""

import calendar
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from hpcbridge.schedulers.base import EndReason, JobInfo, JobState, Outlook
from hpcbridge.schedulers.pbs.comments import LACK, amount, plain

Attributes = Mapping[str, str]

# qstat(1B), "Job States". F, C (Torque) and X have ended; M, a job that another server has now, is
# none of these on purpose, since this server cannot tell what became of it.
STATES = {
    "Q": JobState.QUEUED,
    "H": JobState.QUEUED,
    "T": JobState.QUEUED,
    "W": JobState.QUEUED,
    "S": JobState.QUEUED,
    "U": JobState.QUEUED,
    "B": JobState.RUNNING,
    "R": JobState.RUNNING,
    "E": JobState.COMPLETING,
}
ENDED = frozenset("FCX")
# Said of a job that has no comment yet.
WORDS = {
    "Q": "waiting for the scheduler to look at it",
    "T": "waiting while it is moved to another queue",
    "M": "moved to another server",
}
SUSPENDED = {
    "S": "its resumption: it is suspended",
    "U": "its resumption: somebody works at its node",
}
# job.h, JOB_SUBSTATE_RERUN*: a job in state E goes back into the queue.
RERUN = frozenset({"60", "61", "62", "63"})

# Exit_status below 0: PBS ended the job. JOB_EXEC_* of OpenPBS' job.h and of Torque's pbs_job.h.
PBS_ENDS = {
    -4: EndReason.NODE_FAILED,  # -4 to -6: the node's MoM was started anew
    -5: EndReason.NODE_FAILED,
    -6: EndReason.NODE_FAILED,
    -20: EndReason.NODE_FAILED,
    -26: EndReason.OUT_OF_MEMORY,
    -27: EndReason.OUT_OF_MEMORY,
    -28: EndReason.TIMED_OUT,
    -29: EndReason.TIMED_OUT,
}
TORQUE_ENDS = {
    -4: EndReason.NODE_FAILED,
    -5: EndReason.NODE_FAILED,
    -6: EndReason.NODE_FAILED,
    -10: EndReason.OUT_OF_MEMORY,
    -11: EndReason.TIMED_OUT,
    -12: EndReason.TIMED_OUT,
}
KILLED = 256
"""Added to the number of the signal that ended the job's shell."""

_EXCEEDED = re.compile(r"exceeded resource (walltime|cput|mem|vmem)\b|(Cgroup mem\w* limit)", re.I)
_NEVER = "Can Never Run"


def sequence(job_id: str) -> int:
    """The number at the start of a job's id, which grows from job to job."""
    return int(re.match(r"\d*", job_id)[0] or 0)  # type: ignore[index]


def in_line(job_ids: Iterable[str]) -> list[int]:
    """The sequence numbers of what waits. An array whose jobs are told stands for none itself."""
    ids = list(job_ids)
    told = {sequence(each) for each in ids if re.match(r"\d+\[\d+\]", each)}
    return [sequence(each) for each in ids if "[]" not in each or sequence(each) not in told]


def job_info(
    job_id: str, attributes: Attributes, ends: Mapping[int, EndReason], domain: str = ""
) -> JobInfo:
    """One job. A bare node name gets ``domain``; ``ends`` explains an exit status below 0."""
    letter, comment = attributes.get("job_state", ""), _tidy(attributes.get("comment", ""))
    info = JobInfo(
        job_id,
        attributes.get("Job_Name", ""),
        STATES.get(letter, JobState.UNKNOWN),
        _batch_host(attributes.get("exec_host", ""), domain),
        comment or WORDS.get(letter, letter),
        account=attributes.get("Job_Owner", "").partition("@")[0],
    )
    if letter in ENDED:
        reason, status = _end(attributes, comment, ends)
        return replace(
            info, state=JobState.ENDED, detail=comment, reason=reason, exit_status=status
        )
    if info.state is JobState.COMPLETING:
        if attributes.get("substate") in RERUN:
            again = "waiting to be run again"
            return replace(info, state=JobState.QUEUED, host=None, detail=again)
        reason, status = _end(attributes, comment, ends)
        known = "Exit_status" in attributes or "exit_status" in attributes
        return replace(info, reason=reason if known else None, exit_status=status)
    if info.state is JobState.RUNNING:
        return replace(info, run=_run(attributes))
    # A job that was put back into the queue still tells where it was.
    waits_for = _waits_for(attributes) if info.state is JobState.QUEUED else ""
    detail = f"waiting for {waits_for}" if waits_for else info.detail
    return replace(
        info,
        host=None,
        detail=detail,
        hopeless=_hopeless(attributes, comment),
        suspended=letter in SUSPENDED,
    )


def _run(attributes: Attributes) -> str:
    names = ("run_count", "start_count", "stime")  # of PBS, of Torque, of older ones
    return next((attributes[name] for name in names if attributes.get(name)), "")


def _batch_host(exec_host: str, domain: str) -> str | None:
    """``n1/0*2+n2/1`` runs its script on n1. Virtual nodes (exec_vnode) need not be hosts."""
    host = exec_host.partition("+")[0].partition("/")[0].strip()
    return f"{host}.{domain}" if host and domain and "." not in host else host or None


def _end(
    attributes: Attributes, comment: str, ends: Mapping[int, EndReason]
) -> tuple[EndReason, int | None]:
    text = attributes.get("Exit_status", attributes.get("exit_status", ""))
    status = int(text) if re.fullmatch(r"-?\d{1,6}", text) else None
    signal = KILLED - status if status is not None and status > KILLED else None
    told = status if signal is None else signal
    if status is not None and status < 0:
        return ends.get(status, EndReason.FAILED), None
    if exceeded := _EXCEEDED.search(comment):
        late = (exceeded[1] or "").lower() in ("walltime", "cput")
        return EndReason.TIMED_OUT if late else EndReason.OUT_OF_MEMORY, told
    # Torque says no more of qdel than the signal.
    if " terminated by " in comment or attributes.get("substate") == "91" or signal == -15:
        return EndReason.CANCELLED, told
    return EndReason.FINISHED if status == 0 else EndReason.FAILED, told


def _hopeless(attributes: Attributes, comment: str) -> str:
    if attributes.get("job_state") == "Q" and comment.startswith(_NEVER):
        lack, why = LACK.search(comment), comment.removeprefix(_NEVER).strip(" :.")
        if lack and lack["wanted"]:
            wanted = amount(lack["resource"], lack["wanted"])
            why = f"it asks for {wanted}, and there is no more than {lack['total']}"
        return f"PBS says that the job can never run: {why}."
    held = attributes.get("job_state") == "H" and "s" in attributes.get("Hold_Types", "")
    # Without failed starts it is an operator's hold, who will release it, or waits for another job.
    if held and "too many failed attempts" in comment:
        return f"PBS holds the job, and only an operator can release it: {comment}."
    return ""


def outlook(attributes: Attributes, ahead: int | None, *, utc: bool = True) -> Outlook:
    """What a waiting job may expect; times that were not told in UTC are no moments."""
    return Outlook(
        queue=attributes.get("queue", ""),
        ahead=ahead,
        # A job that is held keeps the estimate of before.
        start=_moment(attributes.get("estimated.start_time", ""))
        if utc and attributes.get("job_state") == "Q"
        else None,
        waits_for=_waits_for(attributes),
    )


def _waits_for(attributes: Attributes) -> str:
    letter, holds = attributes.get("job_state", ""), attributes.get("Hold_Types", "")
    if letter in SUSPENDED:
        return SUSPENDED[letter]
    if letter == "W":
        return f"its start at {attributes.get('Execution_Time', 'a later time')} UTC"
    if letter == "H":
        return "its owner to release it" if holds == "u" else "an operator to release it"
    return plain(_tidy(attributes.get("comment", "")))


def _moment(text: str) -> float | None:
    try:
        return float(calendar.timegm(time.strptime(text.strip(), "%a %b %d %H:%M:%S %Y")))
    except ValueError:  # UNKNOWN, or nothing
        return None


def _tidy(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
