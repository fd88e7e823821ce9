"""Why PBS lets a job wait, in plain words: the scheduler's comments.

They are in OpenPBS' source, src/scheduler/job_info.cpp; the same since PBS Pro 13.
"""

import re
from collections.abc import Callable

# Of the job's comment, what says so; the rest is the reason.
_VERDICT = re.compile(r"^(?:Not Running|Can Never Run): ")
LACK = re.compile(
    r"Insufficient amount of (?:\w+ )?resource:? (?P<resource>[\w.-]+)"
    r"(?: \(R: (?P<wanted>\S+) A: (?P<free>\S+) T: (?P<total>\S+)\))?"
)
_NOUNS = {"ncpus": "CPU", "ngpus": "GPU", "gpus": "GPU", "nodect": "node", "nodes": "node"}

_RESERVED = "its turn: it would be in the way of a reservation or of a job before it"
_PROVISION = "a node that can be provisioned for it"
# What completes "waiting for ...".
_PHRASES = {
    "Queue not started": "its queue to be started",
    "Not enough free nodes available": "free nodes",
    "Not enough total nodes available": "more nodes than there are",
    "Not enough of the right type of nodes are available": "free nodes of the right kind",
    "No available resources on nodes": "free resources",
    "Dedicated time conflict": "the end of a time that is dedicated to other jobs",
    "Job would cross dedicated time boundary": "the end of a time that is dedicated to other jobs",
    "Job would interfere with a top job": _RESERVED,
    "Job would interfere with a confirmed reservation": _RESERVED,
    "Job would conflict with reservation or top job": _RESERVED,
    "Job would conflict with reservation": _RESERVED,
    "Job would break strict sorted order": "its turn: the jobs before it",
    "Job will run in primetime only": "prime time, in which alone it may run",
    "Job will run in nonprimetime only": "the end of prime time, in which it may not run",
    "Can't preempt enough work to run job": "jobs that it may not preempt to end",
    "Job has zero shares for fairshare": "a share of the cluster, of which its owner has none",
    "Node has reached job run limit": "a node that takes more jobs",
    "Node has reached user run limit": "a node that takes more jobs of its user",
    "Node has reached group run limit": "a node that takes more jobs of its group",
    "Node can't satisfy a multi-node job": "nodes that take jobs of several nodes",
    "Node has no PBS license": "a node with a license of PBS",
    "License server is down": "the license server of PBS, which is down",
    "Max number of small cpusets has been reached": "other small jobs to end",
    "Node ineligible because job requested pack placement and won't fit on node": (
        "a node that is large enough for all of it"
    ),
    "Node not eligible for advance reservation": "a node that its reservation can have",
    "Cannot provision, provisioning disabled on server": _PROVISION,
    "Cannot provision, provisioning disabled on vnode": _PROVISION,
    "Cannot provision, host has multiple vnodes": _PROVISION,
    "Provisioning for job would interfere with backfill job": _PROVISION,
    "Provision conflict with existing job/reservation": _PROVISION,
    "can't fit in the largest placement set, and can't span psets": (
        "a group of nodes that is large enough for it"
    ),
}


def _others(whose: str, where: str, what: str = "running jobs") -> str:
    """``User``, ``Queue workq`` is "other jobs of the same user in queue workq to end: ..."."""
    name = where.partition(" ")[2].removesuffix("'s")
    place = f" in queue {name}" if name else ""
    owner = f" of the same {whose.lower()}" if whose else ""
    limit = f"the {whose.lower()}'s" if whose else ("the queue's" if name else "the cluster's")
    return f"other jobs{owner}{place} to end: {limit} limit of {what} is reached"


def _exceeded(found: re.Match[str]) -> str:
    whose = "" if found["whose"] == "overall" else found["whose"].partition(" ")[0]
    where = f"queue {found['queue']}" if found["queue"] else "server"
    return _others(whose, where, noun(found["resource"]))


_PATTERNS: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (
        r"(User|Group|Project) has reached (server|queue \S+) running(?: job)? limit",
        lambda found: _others(found[1], found[2]),
    ),
    (
        r"(Queue \S+|Server) job limit (?:has been )?reached(?: for (group|user|project) \S+)?",
        lambda found: _others(found[2] or "", found[1]),
    ),
    (
        r"(Queue \S+|Server) per-(user|group|project) limit reached on resource (\S+)",
        lambda found: _others(found[2], found[1], noun(found[3])),
    ),
    (
        r"would exceed (?P<whose>overall|(?:group|user|project) \S+) limit on resource "
        r"(?P<resource>\S+) in (?:complex|queue (?P<queue>\S+))",
        _exceeded,
    ),
    (r"Job will cross into (\S+)", lambda found: f"its turn: it would run into {found[1]}"),
    (
        r"Specified (\S+) does not exist: (.+)",
        lambda found: f"its {found[1]} {found[2]} to be made",
    ),
    (r"Node is in an ineligible state: (\S+)", lambda found: f"a node that is not {found[1]}"),
    (
        r"Node is of an ineligible type: (\S+)",
        lambda found: f"a node of another kind than {found[1]}",
    ),
    (r"Cannot provision, requested [AE]OE (\S+) not available.*", lambda _: _PROVISION),
    (
        r"(\S+) set (\S+) has too few free resources",
        lambda found: f"free resources in one group of nodes ({found[1]} {found[2]})",
    ),
    (r"PBS Error: (.*)", lambda found: f"an admin: PBS tells an error ({found[1]})"),
    (r"Invalid Job/Resv (.*)", lambda found: f"an admin: PBS calls it invalid ({found[1]})"),
)


def plain(comment: str) -> str:
    """What completes the words "waiting for ..."; "" where there is no comment.

    One that this version does not know is passed on.
    """
    if lack := LACK.search(comment):
        return amount(lack["resource"], lack["wanted"] or "")
    reason = _VERDICT.sub("", comment).strip().rstrip(".")
    if not reason or reason in _PHRASES:
        return _PHRASES.get(reason, "")
    for pattern, words in _PATTERNS:
        if found := re.fullmatch(pattern, reason):
            return words(found)
    return f"the scheduler ({reason[:200]})"


def noun(resource: str) -> str:
    """``ncpus`` is "CPUs", what has no plain name is "the resource NAME"."""
    if resource in _NOUNS:
        return f"{_NOUNS[resource]}s"
    return "memory" if resource in ("mem", "vmem") else f"the resource {resource}"


def amount(resource: str, wanted: str) -> str:
    """``ngpus``, ``2`` is "2 GPUs"; ``mem``, ``16gb`` is "16 GB of memory"."""
    if resource in _NOUNS:
        number = wanted if wanted.isdecimal() else ""
        return f"{number or 'free'} {_NOUNS[resource]}{'' if number == '1' else 's'}"
    size = re.fullmatch(r"(\d+)([kmgtp]?b)", wanted, re.I)
    if resource in ("mem", "vmem"):
        return f"{size[1]} {size[2].upper()} of memory" if size else "memory"
    return f"{wanted} of the resource {resource}" if wanted else f"the resource {resource}"
