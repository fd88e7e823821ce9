"""Why Slurm lets a job wait, in plain words: squeue(1), section JOB REASON CODES.

All codes are at https://slurm.schedmd.com/job_reason_codes.html. Where Slurm has more to tell it
prints a sentence in place of the code, with spaces or, in scontrol(1), with underscores.
"""

import re

_LIMITED = {
    "Billing": "billing units",
    "BB": "burst buffers",
    "CPU": "CPUs",
    "Cpu": "CPUs",
    "Energy": "energy",
    "GRES": "GPUs or other devices",
    "Job": "running jobs",
    "License": "licenses",
    "Mem": "memory",
    "Node": "nodes",
    "Resource": "resources",
    "SubmitJob": "submitted jobs",
    "Time": "walltime",
    "Unknown": "resources",
    "Wall": "walltime",
}
_LIMIT = re.compile(
    rf"(?P<whose>AssocGrp|AssocMax|Association|QOSGrp|QOSMax|QOS|Max)(?P<what>{'|'.join(_LIMITED)})"
    r"[A-Za-z]*?(?P<budget>(?<!Run)Minutes)?(?P<per>Per(?:User|Account))?(?:Limit)?"
)

# What completes "waiting for ...".
_PHRASES = {
    "AccountingPolicy": "the limits of its account or QOS",
    "BeginTime": "the time from which it may start",
    "BurstBufferResources": "a burst buffer",
    "BurstBufferStageIn": "its data to be copied to a burst buffer",
    "Cleaning": "its last run to be cleaned up",
    "Dependency": "another job, on which it depends",
    "FrontEndDown": "a front-end node, all of which are down",
    "JobArrayTaskLimit": "other tasks of its job array to end",
    "JobHeldAdmin": "the cluster's admins, who hold it",
    "JobHeldUser": "its release: it is held",
    "JobHoldMaxRequeue": "its release: it is held, because it was requeued too often",
    "Licenses": "a free software license",
    "NodeDown": "a node that is down",
    "PartitionDown": "its partition, which is down",
    "PartitionInactive": "its partition, which is inactive",
    "PowerNotAvail": "electric power within the cluster's limit",
    "PowerReserved": "electric power within the cluster's limit",
    "Prolog": "its nodes to be prepared",
    "QOSUsageThreshold": "its QOS, which has been used too much",
    "ReqNodeNotAvail": "nodes that are down, in use or reserved",
    "Reservation": "its reservation to begin",
}
_TURN = {"", "None", "(null)", "Priority", "SchedDefer"}

_HOPELESS = {
    "AccountNotAllowed": "its account may not use its partition",
    "BadConstraints": "no node can ever satisfy what it asks for",
    "DeadLine": "it cannot end before its deadline any more",
    "DependencyNeverSatisfied": "a job on which it depends has failed",
    "InvalidAccount": "its account is not valid",
    "InvalidQOS": "its QOS is not valid",
    "MaxMemPerLimit": "it asks for more memory than is allowed",
    "PartitionConfig": "its partition can never provide what it asks for",
    "PartitionNodeLimit": "it asks for a number of nodes that its partition does not allow",
    "PartitionTimeLimit": "it asks for more time than its partition allows",
    "QOSNotAllowed": "its QOS may not use its partition",
    "ReservationDeleted": "its reservation was deleted",
}
_OVER = re.compile(
    rf"(?P<whose>Assoc|QOS)Max(?P<what>{'|'.join(_LIMITED)})[A-Za-z]*?(?P<minutes>Minutes)?"
    r"Per(?:Job|Node)(?:Limit)?"
)
_UNDER = re.compile(r"QOSMin[A-Z]\w*")

# Jobs that Slurm does not try to start, whatever their priority.
_ASIDE = {
    "BeginTime",
    "Dependency",
    "JobArrayTaskLimit",
    "JobHeldAdmin",
    "JobHeldUser",
    "JobHoldMaxRequeue",
    "PartitionDown",
    "PartitionInactive",
}


def plain(reason: str, asked: str = "") -> str:
    """What completes the words "waiting for ...", for a pending job's ``reason``.

    ``reason`` is what squeue prints for ``%r`` and slurmrestd as ``state_reason`` or
    ``state_description``; ``asked`` is what :func:`asked_for` makes of the job's devices and nodes.
    A reason that this version does not know is passed on, without control characters.
    """
    text = _readable(reason)
    code = text.partition(",")[0]
    if code in _TURN:
        return asked or "its turn"
    if code == "Resources":
        return asked or "free resources"
    if "maintenance" in text:
        return "the end of a maintenance"
    if text.startswith("Nodes required for job"):
        return "nodes that are down, drained or reserved"
    if unavailable := re.search(r"UnavailableNodes:(\S+)", text):
        return f"nodes that are not available ({unavailable[1][:100]})"
    if why := _why_never(code):
        return f"a change of the job or of the cluster: {why} ({code})"
    return _PHRASES.get(code) or _limit(code) or f"the scheduler ({text})"


_DELETED = re.compile(r"Reservation \S.* deleted")
# squeue(1), JOB STATE CODES, of jobs that are neither pending nor over.
_HOPELESS_STATES = {
    "RESV_DEL_HOLD": "its reservation was deleted",
    "REVOKED": "another cluster of the federation has started it, where it is not watched",
}


def hopeless(reason: str, state: str = "PENDING") -> str:
    """A sentence for the user where a job with this ``reason`` can never run, else "".

    Never means: not before somebody changes the job, or an admin the cluster's limits. Reasons that
    pass when nodes come back, jobs end or somebody releases the job are not among them. Of a job
    in several partitions Slurm tells the reason of one of them: that proves nothing.
    """
    text = _readable(reason)
    if why := _HOPELESS_STATES.get(state, ""):
        said = "" if text in _TURN else f" ({text})"
        return f"The job can never start: {why}{said}."
    code = text.partition(",")[0]
    why = _why_never(code)
    return f"The job can never start: {why} ({code})." if why else ""


def set_aside(reason: str) -> bool:
    """Whether Slurm passes over a pending job with this reason, so that it is ahead of nobody."""
    return _readable(reason).partition(",")[0] in _ASIDE or bool(hopeless(reason))


def asked_for(tres: str, nodes: int = 1) -> str:
    """Devices and nodes that a job asks for, such as "2 GPUs" or "4 nodes with 1 GPU each".

    ``tres`` is what squeue prints as tres-per-job or tres-per-node, ``gres:gpu:h100:2`` or
    ``gres/gpu:2``; "" where that says nothing. ``nodes`` counts the nodes that *each* have it.
    """
    gpus = sum(_gpus(each) for each in tres.split(","))
    devices = f"{gpus} GPU{'s' if gpus > 1 else ''}" if gpus else ""
    if nodes < 2:
        return devices
    return f"{nodes} nodes with {devices} each" if devices else f"{nodes} nodes"


def _gpus(tres: str) -> int:
    """How many GPUs ``gres:gpu:TYPE:2(S:0)`` or ``gres/gpu=2`` means; without a number, 1."""
    words = re.split("[:/=]", re.sub("^gres[:/]", "", tres.partition("(")[0]))
    if words[0] != "gpu":
        return 0
    return int(words[-1]) if re.fullmatch("[0-9]{1,6}", words[-1]) else 1


def _why_never(code: str) -> str:
    if over := _OVER.fullmatch(code):
        what = "compute time" if over["minutes"] else _LIMITED[over["what"]]
        return f"it asks for more {what} than its {_owner(over['whose'])} allows"
    if _UNDER.fullmatch(code):
        return "it asks for less than its QOS demands"
    deleted = "ReservationDeleted" if _DELETED.fullmatch(code) else code
    return _HOPELESS.get(deleted, "")


def _limit(code: str) -> str:
    if not (found := _LIMIT.fullmatch(code)):
        return ""
    owner = "user" if found["per"] == "PerUser" else _owner(found["whose"])
    if found["budget"]:
        return f"new compute time: the budget of its {owner} is used up ({code})"
    what = _LIMITED[found["what"]]
    return f"other jobs of the same {owner} to end: its limit of {what} is reached ({code})"


def _owner(prefix: str) -> str:
    return "QOS" if prefix.startswith("QOS") else "account"


def _readable(reason: str) -> str:
    """One short line of what may be a code or a sentence of Slurm, or anything else."""
    words = "".join(each if each.isprintable() else " " for each in reason).replace("_", " ")
    return " ".join(words.split())[:200]
