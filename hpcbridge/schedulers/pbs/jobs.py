"""What a job's attributes say, in hpcbridge's words: pbs_job_attributes(7B), qstat(1B).

The attributes are flat and all text, whatever they were read from: ``Resource_List.ncpus`` is
``"8"``.
"""

import calendar
import re
import time
from collections.abc import Mapping
from dataclasses import replace

from hpcbridge.schedulers.base import EndReason, JobInfo, JobState, Outlook

Attributes = Mapping[str, str]

# qstat(1B), "Job States". F, C (Torque) and X have ended; M, a job that another server has now, is
# none of these on purpose, since this server cannot tell what became of it.
STATES = {
    "Q": JobState.QUEUED,
    "H": JobState.QUEUED,
    "T": JobState.QUEUED,
    "W": JobState.QUEUED,
    "B": JobState.RUNNING,
    "E": JobState.RUNNING,
    "R": JobState.RUNNING,
    "S": JobState.RUNNING,
    "U": JobState.RUNNING,
}
ENDED = frozenset("FCX")
# Said of a job that has no comment yet.
WORDS = {
    "Q": "waiting for the scheduler to look at it",
    "T": "waiting while it is moved to another queue",
    "M": "moved to another server",
}

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
_LACK = re.compile(
    r"Insufficient amount of (?:\w+ )?resource:? (?P<resource>[\w.-]+)"
    r"(?: \(R: (?P<wanted>\S+) A: (?P<free>\S+) T: (?P<total>\S+)\))?"
)
_NOUNS = {"ncpus": "CPU", "ngpus": "GPU", "gpus": "GPU", "nodect": "node", "nodes": "node"}
_REASONS = {
    "Not enough free nodes available": "free nodes",
    "Queue not started": "its queue to be started",
}


def sequence(job_id: str) -> int:
    """The number at the start of a job's id, which grows from job to job."""
    return int(re.match(r"\d*", job_id)[0] or 0)  # type: ignore[index]


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
    if info.state is JobState.RUNNING:
        return info
    # A job that was put back into the queue still tells where it was.
    waits_for = _waits_for(attributes) if info.state is JobState.QUEUED else ""
    detail = f"waiting for {waits_for}" if waits_for else info.detail
    return replace(info, host=None, detail=detail, hopeless=_hopeless(attributes, comment))


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
        lack, why = _LACK.search(comment), comment.removeprefix(_NEVER).strip(" :.")
        if lack and lack["wanted"]:
            wanted = _amount(lack["resource"], lack["wanted"])
            why = f"it asks for {wanted}, and there is no more than {lack['total']}"
        return f"PBS says that the job can never run: {why}."
    held = attributes.get("job_state") == "H" and "s" in attributes.get("Hold_Types", "")
    # Substate 22 waits for another job, which PBS also calls a hold of the system.
    if held and attributes.get("substate") != "22":
        why = comment or "no reason was given"
        return f"PBS holds the job, and only an operator can release it: {why}."
    return ""


def outlook(attributes: Attributes, ahead: int | None, *, utc: bool = True) -> Outlook:
    """What a waiting job may expect; times that were not told in UTC are no moments."""
    return Outlook(
        queue=attributes.get("queue", ""),
        ahead=ahead,
        start=_moment(attributes.get("estimated.start_time", "")) if utc else None,
        waits_for=_waits_for(attributes),
    )


def _waits_for(attributes: Attributes) -> str:
    letter, holds = attributes.get("job_state", ""), attributes.get("Hold_Types", "")
    if letter == "W":
        return f"its start at {attributes.get('Execution_Time', 'a later time')} UTC"
    if letter == "H":
        return "its owner to release it" if holds == "u" else "an operator to release it"
    comment = _tidy(attributes.get("comment", ""))
    if lack := _LACK.search(comment):
        return _amount(lack["resource"], lack["wanted"] or "")
    reason = re.sub(r"^(Not Running|Can Never Run): ", "", comment).rstrip(".")
    return _REASONS.get(reason, reason)


def _amount(resource: str, wanted: str) -> str:
    """``ngpus``, ``2`` is "2 GPUs"; ``mem``, ``16gb`` is "16 GB of memory"."""
    if resource in _NOUNS:
        number = wanted if wanted.isdecimal() else ""
        return f"{number or 'free'} {_NOUNS[resource]}{'' if number == '1' else 's'}"
    size = re.fullmatch(r"(\d+)([kmgtp]?b)", wanted, re.I)
    if resource in ("mem", "vmem"):
        return f"{size[1]} {size[2].upper()} of memory" if size else "memory"
    return f"{wanted} of the resource {resource}" if wanted else f"the resource {resource}"


def _moment(text: str) -> float | None:
    try:
        return float(calendar.timegm(time.strptime(text.strip(), "%a %b %d %H:%M:%S %Y")))
    except ValueError:  # UNKNOWN, or nothing
        return None


def _tidy(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
