"""A job that fits on no host waits for ever, whatever PBS says of it: its user is told why."""

import json
from pathlib import Path

import pytest

from hpcbridge.schedulers.pbs import fit
from hpcbridge.schedulers.pbs.jobs import Attributes
from hpcbridge.schedulers.pbs.readers import read_section

RECORDED = Path(__file__).parents[2] / "fixtures/pbs-real/pbsnodes_av_mixed_vnodes.json"


def node(name: str, cpus: int, memory: str = "16gb", **more: str) -> Attributes:
    """A host of one vnode, as pbsnodes tells of it."""
    resources = {"host": name, "ncpus": str(cpus), "mem": memory}
    return {f"resources_available.{key}": value for key, value in resources.items()} | more


NODES = fit.hosts([node("big", 8), node("small", 4, "64gb", state="down")])


def job(select: str, queue: str = "workq") -> Attributes:
    return {"job_state": "Q", "queue": queue, "Resource_List.select": select}


@pytest.mark.parametrize(
    ("select", "words"),
    [
        ("1:ncpus=10", "a node with 10 CPUs, and the largest has 8"),
        ("2:ncpus=10:mpiprocs=10", "a node with 10 CPUs, and the largest has 8"),
        ("1:ncpus=2+1:ncpus=9", "a node with 9 CPUs, and the largest has 8"),
        ("1:ncpus=1:mem=65gb", "a node with 65 GB of memory, and the largest has 64 GB"),
        (
            "1:ncpus=8:mem=32gb",
            "a node with 8 CPUs and 32 GB of memory, and none has all of it",
        ),
    ],
)
def test_what_no_host_has_is_told(select: str, words: str) -> None:
    assert fit.too_big(job(select), NODES) == words


@pytest.mark.parametrize(
    "select",
    ["1:ncpus=8", "100:ncpus=8:mem=16gb", "1:ncpus=4:mem=64gb", "1", "1:vnode=big", "",
     "1:ngpus=4", "1:ncpus=many"],
)  # fmt: skip
def test_what_a_host_has_or_nobody_knows_is_not_told(select: str) -> None:
    assert fit.too_big(job(select), NODES) == ""


def test_nothing_is_said_where_the_hosts_are_not_known() -> None:
    assert fit.too_big(job("1:ncpus=10"), []) == ""


def test_only_the_hosts_of_its_queue_count() -> None:
    nodes = fit.hosts([node("own", 4, queue="viz"), node("other", 32)])
    assert "the largest has 4" in fit.too_big(job("1:ncpus=8", "viz"), nodes)
    assert fit.too_big(job("1:ncpus=8", "workq"), nodes) == ""
    assert "the largest has 32" in fit.too_big(job("1:ncpus=64", "workq"), nodes)


def test_a_hosts_vnodes_are_one_host() -> None:
    """As a real server told of a host of several vnodes."""
    text = json.dumps(json.loads(RECORDED.read_text()))
    nodes = read_section(text, "nodes")
    assert nodes is not None
    known = fit.hosts(nodes.values())
    most = max(has["ncpus"] for _, has in known)
    assert most > max(
        float(each["resources_available.ncpus"]) for each in nodes.values()
    )  # more than any vnode has
    assert fit.too_big(job(f"1:ncpus={most:.0f}"), known) == ""
    assert f"the largest has {most:.0f}" in fit.too_big(job(f"1:ncpus={most + 1:.0f}"), known)


def test_of_thousands_of_equal_hosts_each_kind_is_looked_at_once() -> None:
    nodes = [node(f"node{number}", 8 + number % 2) for number in range(5000)]
    assert len(fit.hosts([*nodes, node("own", 8, queue="viz")])) == 3
