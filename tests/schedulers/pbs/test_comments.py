"""Every comment of PBS' scheduler for a job that waits completes the words "waiting for ..."."""

import pytest

from hpcbridge.schedulers.pbs.comments import plain
from tests.schedulers.pbs.recordings import DIRECTORY

RECORDED = DIRECTORY.parent / "pbs-real" / "scheduler_comments.txt"
ALL = {
    "Queue workq job limit has been reached.": (
        "other jobs in queue workq to end: the queue's limit of running jobs is reached"
    ),
    "Server job limit has been reached.": (
        "other jobs to end: the cluster's limit of running jobs is reached"
    ),
    "User has reached server running job limit.": (
        "other jobs of the same user to end: the user's limit of running jobs is reached"
    ),
    "User has reached queue workq running job limit.": (
        "other jobs of the same user in queue workq to end: the user's limit of running "
        "jobs is reached"
    ),
    "Group has reached server running limit.": (
        "other jobs of the same group to end: the group's limit of running jobs is reached"
    ),
    "Group has reached queue workq running limit.": (
        "other jobs of the same group in queue workq to end: the group's limit of "
        "running jobs is reached"
    ),
    "Dedicated time conflict": "the end of a time that is dedicated to other jobs",
    "Job would cross dedicated time boundary": (
        "the end of a time that is dedicated to other jobs"
    ),
    "Not enough of the right type of nodes are available": "free nodes of the right kind",
    "Job would interfere with a top job": (
        "its turn: it would be in the way of a reservation or of a job before it"
    ),
    "Job would interfere with a confirmed reservation": (
        "its turn: it would be in the way of a reservation or of a job before it"
    ),
    "Job will run in primetime only": "prime time, in which alone it may run",
    "Job will run in nonprimetime only": "the end of prime time, in which it may not run",
    "Job will cross into workq": "its turn: it would run into workq",
    "Specified workq does not exist: 4": "its workq 4 to be made",
    "No available resources on nodes": "free resources",
    "Can't preempt enough work to run job": "jobs that it may not preempt to end",
    "Queue workq per-user limit reached on resource 4": (
        "other jobs of the same user in queue workq to end: the user's limit of the "
        "resource 4 is reached"
    ),
    "Server per-user limit reached on resource workq": (
        "other jobs of the same user to end: the user's limit of the resource workq is reached"
    ),
    "Queue workq per-group limit reached on resource 4": (
        "other jobs of the same group in queue workq to end: the group's limit of the "
        "resource 4 is reached"
    ),
    "Server per-group limit reached on resource workq": (
        "other jobs of the same group to end: the group's limit of the resource workq is reached"
    ),
    "Job has zero shares for fairshare": "a share of the cluster, of which its owner has none",
    "Node is in an ineligible state: workq": "a node that is not workq",
    "Node is of an ineligible type: workq": "a node of another kind than workq",
    "Node has reached job run limit": "a node that takes more jobs",
    "Node has reached user run limit": "a node that takes more jobs of its user",
    "Node has reached group run limit": "a node that takes more jobs of its group",
    "Node can't satisfy a multi-node job": "nodes that take jobs of several nodes",
    "Node has no PBS license": "a node with a license of PBS",
    "Max number of small cpusets has been reached": "other small jobs to end",
    "Insufficient amount of resource: workq 4": "the resource workq",
    "Job would conflict with reservation or top job": (
        "its turn: it would be in the way of a reservation or of a job before it"
    ),
    "Node ineligible because job requested pack placement and won't fit on node": (
        "a node that is large enough for all of it"
    ),
    "Node not eligible for advance reservation": "a node that its reservation can have",
    "Job would break strict sorted order": "its turn: the jobs before it",
    "Insufficient amount of queue resource: workq 4": "the resource workq",
    "Insufficient amount of server resource: workq 4": "the resource workq",
    "Queue workq job limit reached for group 4": (
        "other jobs of the same group in queue workq to end: the group's limit of "
        "running jobs is reached"
    ),
    "Queue workq job limit reached for user 4": (
        "other jobs of the same user in queue workq to end: the user's limit of running "
        "jobs is reached"
    ),
    "Server job limit reached for group workq": (
        "other jobs of the same group to end: the group's limit of running jobs is reached"
    ),
    "Server job limit reached for user workq": (
        "other jobs of the same user to end: the user's limit of running jobs is reached"
    ),
    "would exceed group workq's limit on resource 4 in complex": (
        "other jobs of the same group to end: the group's limit of the resource 4 is reached"
    ),
    "would exceed user workq's limit on resource 4 in complex": (
        "other jobs of the same user to end: the user's limit of the resource 4 is reached"
    ),
    "would exceed group workq's limit on resource 4 in queue viz": (
        "other jobs of the same group in queue viz to end: the group's limit of the "
        "resource 4 is reached"
    ),
    "would exceed user workq's limit on resource 4 in queue viz": (
        "other jobs of the same user in queue viz to end: the user's limit of the "
        "resource 4 is reached"
    ),
    "would exceed overall limit on resource workq in queue 4": (
        "other jobs in queue 4 to end: the queue's limit of the resource workq is reached"
    ),
    "would exceed overall limit on resource workq in complex": (
        "other jobs to end: the cluster's limit of the resource workq is reached"
    ),
    "Cannot provision, provisioning disabled on server": "a node that can be provisioned for it",
    "Cannot provision, provisioning disabled on vnode": "a node that can be provisioned for it",
    "Cannot provision, requested AOE workq not available on vnode": (
        "a node that can be provisioned for it"
    ),
    "Cannot provision, requested EOE workq not available on vnode": (
        "a node that can be provisioned for it"
    ),
    "Provisioning for job would interfere with backfill job": (
        "a node that can be provisioned for it"
    ),
    "Cannot provision, host has multiple vnodes": "a node that can be provisioned for it",
    "Provision conflict with existing job/reservation": "a node that can be provisioned for it",
    "PBS Error: workq": "an admin: PBS tells an error (workq)",
    "workq set 4 has too few free resources": "free resources in one group of nodes (workq 4)",
    "can't fit in the largest placement set, and can't span psets": (
        "a group of nodes that is large enough for it"
    ),
    "Not enough free nodes available": "free nodes",
    "Project has reached server running limit.": (
        "other jobs of the same project to end: the project's limit of running jobs is reached"
    ),
    "Server per-project limit reached on resource workq": (
        "other jobs of the same project to end: the project's limit of the resource "
        "workq is reached"
    ),
    "would exceed project workq's limit on resource 4 in complex": (
        "other jobs of the same project to end: the project's limit of the resource 4 is reached"
    ),
    "Server job limit reached for project workq": (
        "other jobs of the same project to end: the project's limit of running jobs is reached"
    ),
    "Project has reached queue workq's running limit.": (
        "other jobs of the same project in queue workq to end: the project's limit of "
        "running jobs is reached"
    ),
    "Queue workq per-project limit reached on resource 4": (
        "other jobs of the same project in queue workq to end: the project's limit of "
        "the resource 4 is reached"
    ),
    "would exceed project workq's limit on resource 4 in queue viz": (
        "other jobs of the same project in queue viz to end: the project's limit of the "
        "resource 4 is reached"
    ),
    "Queue workq job limit reached for project 4": (
        "other jobs of the same project in queue workq to end: the project's limit of "
        "running jobs is reached"
    ),
    "Not enough total nodes available": "more nodes than there are",
    "Invalid Job/Resv workq": "an admin: PBS calls it invalid (workq)",
}
# Seen on real servers, with the values that they really have.
SEEN = {
    "Insufficient amount of resource: ncpus (R: 2 A: 0 T: 8)": "2 CPUs",
    "Insufficient amount of server resource: lic (R: 1 A: 0 T: 1)": "1 of the resource lic",
    "User has reached queue limq running job limit.": (
        "other jobs of the same user in queue limq to end: the user's limit of running jobs is "
        "reached"
    ),
    "Queue limq per-user limit reached on resource ncpus": (
        "other jobs of the same user in queue limq to end: the user's limit of CPUs is reached"
    ),
    "would exceed user ann's limit on resource mem in complex": (
        "other jobs of the same user to end: the user's limit of memory is reached"
    ),
    "License server is down": "the license server of PBS, which is down",
    "Queue not started.": "its queue to be started",
    "host set host=n1 has too few free resources": (
        "free resources in one group of nodes (host host=n1)"
    ),
}


def test_every_recorded_comment_is_in_the_table() -> None:
    recorded = RECORDED.read_text().splitlines()
    assert [line.removeprefix("Not Running: ") for line in recorded] == list(ALL)


@pytest.mark.parametrize(("comment", "words"), [*ALL.items(), *SEEN.items()])
def test_a_comment_is_told_in_plain_words(comment: str, words: str) -> None:
    for verdict in ("Not Running: ", "Can Never Run: "):
        assert plain(verdict + comment) == words


def test_a_comment_that_is_not_known_is_passed_on() -> None:
    assert plain("Not Running: The moon is full.") == "the scheduler (The moon is full)"
    assert plain("") == ""
