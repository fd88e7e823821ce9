"""Slurm's reasons for a job to wait: what a person is told, and when all hope is lost."""

import pytest

from hpcbridge.schedulers.slurm.reasons import asked_for, hopeless, plain, set_aside

# Slurm 22.05 and 24.11 know these; they end when jobs end, nodes come back or somebody acts.
PASSING = {
    "Resources": "free resources",
    "Priority": "its turn",
    "None": "its turn",
    "Dependency": "another job, on which it depends",
    "BeginTime": "the time from which it may start",
    "Licenses": "a free software license",
    "JobHeldUser": "its release: it is held",
    "JobHeldAdmin": "the cluster's admins, who hold it",
    "PartitionDown": "its partition, which is down",
    "PartitionInactive": "its partition, which is inactive",
    "ReqNodeNotAvail": "nodes that are down, in use or reserved",
    "ReqNodeNotAvail, UnavailableNodes:n[1-3]": "nodes that are not available (n[1-3])",
    "ReqNodeNotAvail,_UnavailableNodes:n1": "nodes that are not available (n1)",
    "ReqNodeNotAvail, Reserved for maintenance": "the end of a maintenance",
    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions": (
        "nodes that are down, drained or reserved"
    ),
    "AssocMaxJobsLimit": (
        "other jobs of the same account to end: its limit of running jobs is reached "
        "(AssocMaxJobsLimit)"
    ),
    "QOSMaxJobsPerUserLimit": (
        "other jobs of the same user to end: its limit of running jobs is reached "
        "(QOSMaxJobsPerUserLimit)"
    ),
    "QOSMaxGRESPerUser": (
        "other jobs of the same user to end: its limit of GPUs or other devices is reached "
        "(QOSMaxGRESPerUser)"
    ),
    "QOSGrpNodeLimit": (
        "other jobs of the same QOS to end: its limit of nodes is reached (QOSGrpNodeLimit)"
    ),
    "AssocGrpCPUMinutesLimit": (
        "new compute time: the budget of its account is used up (AssocGrpCPUMinutesLimit)"
    ),
    "AssocGrpCPURunMinutesLimit": (
        "other jobs of the same account to end: its limit of CPUs is reached "
        "(AssocGrpCPURunMinutesLimit)"
    ),
    "MaxMemoryPerAccount": (
        "other jobs of the same account to end: its limit of memory is reached "
        "(MaxMemoryPerAccount)"
    ),
}
NEVER = {
    "PartitionTimeLimit": "more time than its partition allows",
    "PartitionNodeLimit": "a number of nodes that its partition does not allow",
    "PartitionConfig": "its partition can never provide",
    "BadConstraints": "no node can ever satisfy",
    "InvalidAccount": "its account is not valid",
    "InvalidQOS": "its QOS is not valid",
    "AccountNotAllowed": "its account may not use its partition",
    "QOSNotAllowed": "its QOS may not use its partition",
    "DependencyNeverSatisfied": "has failed",
    "ReservationDeleted": "its reservation was deleted",
    "QOSMaxWallDurationPerJobLimit": "more walltime than its QOS allows",
    "AssocMaxWallDurationPerJobLimit": "more walltime than its account allows",
    "QOSMaxGRESPerJob": "more GPUs or other devices than its QOS allows",
    "QOSMaxCpuPerNode": "more CPUs than its QOS allows",
    "AssocMaxMemPerNode": "more memory than its account allows",
    "QOSMaxCpuMinutesPerJobLimit": "more compute time than its QOS allows",
    "MaxMemPerLimit": "more memory than is allowed",
    "QOSMinGRES": "less than its QOS demands",
}


@pytest.mark.parametrize(("reason", "told"), PASSING.items())
def test_what_passes_is_told_and_is_not_hopeless(reason: str, told: str) -> None:
    assert plain(reason) == told
    assert hopeless(reason) == ""


@pytest.mark.parametrize(("reason", "why"), NEVER.items())
def test_what_never_passes_is_told_as_such_with_slurms_own_word(reason: str, why: str) -> None:
    said = hopeless(reason)
    assert said.startswith("The job can never start: ")
    assert why in said
    assert said.endswith(f"({reason}).")
    assert why in plain(reason)


@pytest.mark.parametrize(
    "reason", ["JobHeldAdminX", "PartitionTimeLimits", "QOSMax", "Max", "QOS", "NewInSlurm99"]
)
def test_a_reason_that_is_not_known_is_passed_on_and_proves_nothing(reason: str) -> None:
    assert plain(reason) == f"the scheduler ({reason})"
    assert hopeless(reason) == ""


def test_a_reason_is_one_short_line_whatever_slurm_prints() -> None:
    told = plain("Odd\x1b[31m\nreason\u2028of_a_plugin" + "x" * 5000)
    assert told.startswith("the scheduler (Odd [31m reason of a plugin")
    assert told.isprintable()
    assert len(told) < 250


@pytest.mark.parametrize(
    ("tres", "nodes", "told"),
    [
        ("gres:gpu:2", 1, "2 GPUs"),
        ("gres:gpu:h100:1", 1, "1 GPU"),
        ("gres:gpu:h100:1", 2, "2 nodes with 1 GPU each"),
        ("gres/gpu:h100=2", 1, "2 GPUs"),
        ("gres:gpu", 1, "1 GPU"),
        ("gres:gpu:1g.5gb:3", 1, "3 GPUs"),
        ("gres:gpu:a100:1,gres:gpu:h100:2", 1, "3 GPUs"),
        ("gres:gpu:h100:2(S:0-1)", 1, "2 GPUs"),
        ("gres:fpga:2", 1, ""),
        ("N/A", 3, "3 nodes"),
        ("", 1, ""),
    ],
)
def test_devices_and_nodes_are_told_as_people_say_it(tres: str, nodes: int, told: str) -> None:
    assert asked_for(tres, nodes) == told


def test_what_is_asked_for_is_what_a_job_waits_for_when_nothing_else_is_wrong() -> None:
    assert plain("Resources", "2 GPUs") == "2 GPUs"
    assert plain("Priority", "2 GPUs") == "2 GPUs"
    assert plain("PartitionDown", "2 GPUs") == "its partition, which is down"


def test_jobs_that_slurm_does_not_try_to_start_are_ahead_of_nobody() -> None:
    for reason in ("JobHeldUser", "Dependency", "BeginTime", "PartitionTimeLimit"):
        assert set_aside(reason)
    for reason in ("Resources", "Priority", "None", "QOSMaxJobsPerUserLimit", "Anything"):
        assert not set_aside(reason)
