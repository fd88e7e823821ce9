"""When slurmrestd's Slurm would start a job: only what its answers make certain is told."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from hpcbridge.errors import ClusterUnreachable, JobRejected, UnexpectedReply
from hpcbridge.schedulers.base import Forecast, Forecaster, JobRequest
from hpcbridge.schedulers.slurmrest.needs import Needs, needs
from tests.schedulers.slurmrest.fakerest import VERSIONS, Script, adapter, json, recorded

NEWEST, NEW, OLD = "v0.0.45", "v0.0.42", "v0.0.38"
UNKNOWN = Forecast()
NOTHING = json(200, jobs=[], reservations=[], errors=[])


def request(head: str = "-p viz --mem=1000", walltime: int | None = 600) -> JobRequest:
    script = f"#!/bin/bash\n#SBATCH {head}\nsleep 1\n"
    return JobRequest("hpcb-1", "/home/alice/s", "/home/alice/s/job.sh", walltime, script)


def moment(name: str, version: str, **changes: Any) -> Script:
    """The cluster as it was recorded: "idle", "mixed" (n1 is full, n2 drained, and of n3 two CPUs,
    1000 MB and one of two GPUs are in use), "waiting" (the same, and a job waits) or "shut"."""
    answers = {
        "get_partitions": recorded(f"partitions_{'shut' if name == 'shut' else 'idle'}", version),
        "get_nodes": recorded(f"nodes_{name}", version),
        "get_jobs": NOTHING if name in ("idle", "shut") else recorded(f"jobs_{name}", version),
        "get_reservations": NOTHING,
    }
    return Script(version, **(answers | changes))


async def forecast(script: Script, head: str = "-p viz --mem=1000", **changes: Any) -> Forecast:
    scheduler = adapter(script, version=script.version)
    assert isinstance(scheduler, Forecaster)
    return await scheduler.forecast(request(head, **changes))


def partition(**changes: Any) -> dict[str, Any]:
    return {"name": "viz", "state": "UP", "flags": []} | changes


def node(**changes: Any) -> dict[str, Any]:
    """An idle node."""
    return {
        "state": "idle",
        "state_flags": [],
        "partitions": ["viz"],
        "cpus": 8,
        "alloc_cpus": 0,
        "real_memory": 8000,
        "alloc_memory": 0,
    } | changes


def job(**changes: Any) -> dict[str, Any]:
    """A job of somebody else."""
    return {"job_id": 7, "user_name": "bob", "job_state": "RUNNING", "partition": "viz"} | changes


def cluster(*nodes: dict[str, Any], **partly: Any) -> Script:
    """A cluster that is made up, with one partition. Else nobody is there, and all goes well."""
    answers = {
        "get_partitions": json(200, partitions=[partition(**partly.pop("changes", {}))], errors=[]),
        "get_nodes": json(200, nodes=nodes or [node()], errors=[]),
        "get_jobs": NOTHING,
        "get_reservations": NOTHING,
    }
    return Script(OLD, **(answers | partly))


# -- what real clusters told


@pytest.mark.parametrize("version", [OLD, NEW, NEWEST])
@pytest.mark.parametrize(
    ("head", "fit"),
    [
        ("-p viz", 32),
        ("-p viz -c 3", 8),
        ("-p viz --mem=3000", 8),
        ("-p viz --mem-per-cpu=1000 -n 2", 16),
        ("-p viz --gres=gpu:1", 4),
        ("-p viz --gres=gpu:h100:2", 2),
        ("-p viz --gpus=2 --mem=1G", 2),
        ("-p viz --gpus-per-node=h100:1 -N 2", 2),
        ("-p viz -N 2 --exclusive", 2),
        ("-p viz,short -c 8", 4),
        ("-p short,closed -c 8", 1),
    ],
)
async def test_on_idle_nodes_a_job_starts_at_once(version: str, head: str, fit: int) -> None:
    assert await forecast(moment("idle", version), head, walltime=60) == Forecast(0.0, fit)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("-p viz --mem=1000", Forecast(0.0, 6 + 8)),
        ("-p viz --mem=4000", Forecast(0.0, 1 + 2)),
        ("-p viz --gres=gpu:1 --mem=1", Forecast(0.0, 1 + 2)),
        ("-p viz --gres=gpu:h100:2 --mem=1", Forecast(0.0, 1)),
        # The default memory may be all of a node.
        ("-p viz -c 2", Forecast(0.0, 4)),
        ("-p viz --exclusive --mem=1", Forecast(0.0, 1)),
        ("-p viz --mem=0", Forecast(0.0, 1)),
        ("-p viz --mem=1 -N 3", UNKNOWN),
        ("-p viz --mem=7500 -N 2", UNKNOWN),
        ("-p viz --gres=gpu:a100:1 --mem=1", UNKNOWN),
        ("-p short --mem=1", UNKNOWN),
    ],
)
async def test_only_what_is_free_on_usable_nodes_counts(
    version: str, head: str, expected: Forecast
) -> None:
    assert await forecast(moment("mixed", version), head, walltime=60) == expected


@pytest.mark.parametrize("version", [OLD, NEW])
async def test_where_somebody_waits_nobody_knows_when_a_new_job_starts(version: str) -> None:
    waits = recorded("jobs_waiting", version)
    assert await forecast(moment("idle", version, get_jobs=waits), "-p viz") == UNKNOWN
    assert await forecast(moment("waiting", version)) == UNKNOWN


@pytest.mark.parametrize("version", [OLD, NEW])
@pytest.mark.parametrize(
    ("name", "why"),
    [("viz", "is drained"), ("short", "is inactive"), ("short,viz", "short is inactive")],
)
async def test_a_partition_that_is_not_up_is_closed_and_nothing_more_is_asked(
    version: str, name: str, why: str
) -> None:
    script = moment("shut", version)
    assert why in (await forecast(script, f"-p {name}")).closed
    assert [each.url.path.split("/")[3] for each in script.requests] == ["ping", "partitions"]


async def test_hidden_partitions_are_asked_for() -> None:
    """Until v0.0.38 they are listed anyway."""
    for version, query in ((OLD, b""), (NEW, b"flags=ALL")):
        script = moment("idle", version)
        await forecast(script)
        assert script.sent("GET", "partitions")[0].url.query == query


@pytest.mark.parametrize("version", [OLD, NEW])
async def test_a_partition_is_closed_whose_nodes_are_all_down_or_drained(version: str) -> None:
    up = recorded("partitions_idle", version)
    script = moment("shut", version, get_partitions=up)
    told = await forecast(script, "-p short", walltime=60)
    assert told == Forecast(closed="all nodes of its partition short are down or drained")
    assert not (await forecast(script, "-p viz")).closed


async def test_the_oldest_version_tells_too_little() -> None:
    old = "v0.0.36"
    partitions, nodes = recorded("partitions_idle", old), recorded("nodes_mixed", old)
    script = Script(old, get_partitions=partitions, get_nodes=nodes, get_jobs=NOTHING)
    assert await forecast(script) == UNKNOWN


async def test_the_default_partition_is_known_where_it_is_told() -> None:
    assert await forecast(moment("idle", OLD), "-c 8") == Forecast(0.0, 4)
    assert await forecast(moment("idle", NEW), "-c 8") == UNKNOWN
    assert await forecast(moment("idle", NEWEST), "-c 8") == Forecast(0.0, 4)


@pytest.mark.parametrize("version", [OLD, NEW])
@pytest.mark.parametrize("name", ["nope", "viz,nope", "VIZ", "viz,", "../jobs"])
async def test_an_unknown_partition_is_refused(version: str, name: str) -> None:
    with pytest.raises(JobRejected, match="no partition"):
        await forecast(moment("idle", version), f"-p {name}")


@pytest.mark.parametrize("head", ["--array=1-3", "--mem=much", "-c none", "--nodes"])
async def test_what_a_submission_would_be_refused_for_is_told_as_such(head: str) -> None:
    script = moment("idle", NEW)
    with pytest.raises(JobRejected, match="#SBATCH"):
        await forecast(script, f"-p viz {head}")
    assert len(script.requests) == 1  # the ping


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_job_that_would_run_into_a_reservation_is_not_promised_a_start(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of those recorded began in that moment, the other one begins an hour later."""
    answer = recorded("reservations_shut", version)
    script = moment("mixed", version, get_reservations=answer)
    starts = [each["start_time"] for each in answer.json()["reservations"]]
    first, last = sorted(each["number"] if isinstance(each, dict) else each for each in starts)
    for now, minutes, free in [
        (first, 10, False),
        (first + 300, 10, True),
        (last - 300, 10, False),
        (last + 300, 10, True),
    ]:
        monkeypatch.setattr("time.time", lambda now=now: now)
        told = await forecast(script, walltime=minutes * 60)
        assert told == (Forecast(0.0, 14) if free else UNKNOWN), now - first
    monkeypatch.setattr("time.time", lambda: first + 300)
    assert await forecast(script, walltime=None) == UNKNOWN


# -- what is not certain is not told


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "HIBERNATING"},
        {"state": []},
        {"state": ["UP", "HIBERNATING"]},
        {"flags": ["root_only"]},
        {"flags": ["reservation_required"]},
        {"flags": ["something_new"]},
        {"allowed_groups": "artists"},
        {"allowed_accounts": "x,y"},
        {"denied_qos": "long"},
        {"allowed_allocation_nodes": "login1"},
        {"max_time_limit": 9},
        {"maximum_nodes_per_job": 1},
        {"min nodes per job": 3},
        {"maximum_cpus_per_node": 1},
        {"maximum_memory_per_node": 999},
        {"maximum_memory_per_node": -(2**63) + 499},
        {"maximum_memory_per_cpu": 499},
        {"maximums": {"partition_memory_per_cpu": {"set": True, "number": 499}}},
        {"maximums": {"time": {"set": True, "infinite": False, "number": 9}}},
        {"flags": ["DEFAULT", "ROOT_ONLY"]},
        {"flags": ["REQ_RESV"]},
        {"partition": {"exclusive": "USER"}},
        {"partition": {"exclusive": "TOPO"}},
        {"partition": {"exclusive": ["SOMETHING_NEW"]}},
    ],
)
async def test_a_partition_that_may_not_take_the_job_promises_nothing(changes: Any) -> None:
    head = "-p viz -N 2 -c 2 --mem=1000"
    assert await forecast(cluster(node(), node()), head) == Forecast(0.0, 4)
    assert await forecast(cluster(node(), node(), changes=changes), head) == UNKNOWN


async def test_an_account_and_a_qos_that_are_let_in_are_so() -> None:
    limits = {"allowed_accounts": "x,y", "denied_qos": "long", "max_time_limit": -1}
    ours = "-p viz --mem=1 -c 8"
    assert (await forecast(cluster(changes=limits), f"{ours} -A y -q short")).room == 1
    assert await forecast(cluster(changes=limits), f"{ours} -A z -q short") == UNKNOWN
    assert await forecast(cluster(changes=limits), f"{ours} -A y -q long") == UNKNOWN


async def test_since_v0_0_45_the_number_of_shares_means_nothing() -> None:
    told = {
        "maximums": {"shares": 0},
        "partition": {"exclusive": "NO", "oversubscribe": "NO"},
        "flags": ["DEFAULT", "HIDDEN", "NO_ROOT", "LLN"],
    }
    assert await forecast(cluster(node(), changes=told)) == Forecast(0.0, 8)


@pytest.mark.parametrize(
    "whole", [{"maximums": {"shares": 0}}, {"partition": {"exclusive": "NODE"}}]
)
async def test_where_jobs_get_whole_nodes_each_node_has_room_for_one(
    whole: dict[str, Any],
) -> None:
    half = node(alloc_cpus=4, state="mixed")
    assert await forecast(cluster(node(), half, changes=whole)) == UNKNOWN
    others = json(200, jobs=[job()], errors=[])
    script = cluster(node(), half, changes=whole, get_jobs=others)
    assert await forecast(script) == Forecast(0.0, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "idle", "state_flags": ["DRAIN"]},
        {"state": "idle", "state_flags": ["PLANNED"]},
        {"state": "idle", "state_flags": ["ON_FIRE"]},
        {"state": ["IDLE", "POWERED_DOWN"]},
        {"state": ["IDLE", "RESERVED", "MAINTENANCE"]},
        {"state": ["MIXED", "COMPLETING"]},
        {"state": ["ON_FIRE"]},
        {"state": []},
        {"state": "allocated"},
        {"owner": "bob"},
        {"mcs_label": "secret"},
        {"partitions": []},
        {"partitions": ["other"]},
        {"cpus": None},
        {"alloc_cpus": None},
        {"alloc_cpus": 8},
        {"alloc_cpus": 9},
        {"real_memory": None},
        {"alloc_memory": 7001},
        {"threads": 16},
    ],
)
async def test_a_node_that_is_not_surely_free_counts_as_none(changes: Any) -> None:
    assert await forecast(cluster(node())) == Forecast(0.0, 8)
    others = json(200, jobs=[job()], errors=[])
    assert await forecast(cluster(node(**changes), get_jobs=others)) in (
        UNKNOWN,
        Forecast(closed="all nodes of its partition viz are down or drained"),
    )


async def test_missing_fields_of_nodes_promise_nothing() -> None:
    for name in node():
        less = {key: value for key, value in node().items() if key != name}
        told = await forecast(cluster(less))
        assert told == (Forecast(0.0, 8) if name == "state_flags" else UNKNOWN), name


@pytest.mark.parametrize(
    ("gres", "used", "head", "fit"),
    [
        ("gpu:4(S:0-1)", "gpu:1(IDX:0,2)", "--gres=gpu", 3),
        ("gpu:4", "gpu:2(IDX:0-1)", "--gpus=2", 1),
        ("gpu:a100:2,gpu:h100:2", "gpu:a100:2(IDX:0-1),gpu:h100:0(IDX:N/A)", "-G h100:1", 2),
        ("gpu:a100:2,gpu:h100:2", "gpu:a100:2(IDX:0-1),gpu:h100:0(IDX:N/A)", "-G a100:1", None),
        ("gpu:h100:2", "gpu:1", "--gres=gpu:h100:2", None),
        ("gpu:2,shard:8", "gpu:0,shard:3(3/8)", "--gres=gpu:1", None),
        ("", "gpu:0", "--gres=gpu:1", None),
        ("gpu", "nonsense:::", "--gres=gpu:1", None),
    ],
)
async def test_only_idle_gpus_of_the_kind_count(
    gres: str, used: str, head: str, fit: int | None
) -> None:
    told = await forecast(cluster(node(gres=gres, gres_used=used)), f"-p viz {head}")
    assert told == (UNKNOWN if fit is None else Forecast(0.0, fit))


@pytest.mark.parametrize("features", ["knl,haswell", ["knl", "haswell"]])
async def test_only_nodes_with_the_feature_count(features: Any) -> None:
    script = cluster(node(active_features=features), node(active_features="haswell2"), node())
    assert await forecast(script, "-p viz -c 8 --constraint=haswell") == Forecast(0.0, 1)
    assert await forecast(script, "-p viz -c 8 --constraint=broadwell") == UNKNOWN


async def test_memory_that_nobody_counts_needs_none() -> None:
    """As with CR_Core: jobs run, and none has memory of its own."""
    half = node(state="mixed", alloc_cpus=4)
    others = json(200, jobs=[job()], errors=[])
    assert await forecast(cluster(half, get_jobs=others), "-p viz") == Forecast(0.0, 4)


async def test_a_core_is_given_away_with_all_its_threads() -> None:
    assert (await forecast(cluster(node(threads=2)), "-p viz")).room == 4


@pytest.mark.parametrize(
    ("changes", "certain"),
    [
        ({"job_state": "PENDING"}, False),
        ({"job_state": ["PENDING", "REQUEUED"]}, False),
        ({"job_state": "PENDING", "user_name": "alice"}, False),
        ({"job_state": "PENDING", "partition": "long,other"}, False),
        ({"job_state": "PENDING", "partition": "elsewhere"}, True),
        ({"job_state": "PENDING", "state_reason": "JobHeldUser"}, True),
        ({"job_state": "PENDING", "state_reason": "Dependency"}, True),
        ({"job_state": "PENDING", "state_reason": "SomethingNew"}, False),
        ({"job_state": "COMPLETED"}, True),
        ({"job_state": "ON_FIRE"}, True),
    ],
)
async def test_whoever_waits_for_one_of_the_nodes_may_come_first(
    changes: Any, certain: bool
) -> None:
    """The partitions viz and long have nodes in common; elsewhere has others."""
    nodes = [node(partitions=["viz", "long"]), node(partitions=["elsewhere"])]
    script = cluster(*nodes, get_jobs=json(200, jobs=[job(**changes)], errors=[]))
    assert await forecast(script) == (Forecast(0.0, 8) if certain else UNKNOWN)


@pytest.mark.parametrize(
    ("jobs", "certain"),
    [
        ([], False),
        ([job(user_name="alice", cpus=2)], False),
        ([job(user_name="alice", cpus=4)], True),
        ([job(user_name="alice", cpus={"set": True, "infinite": False, "number": 4})], True),
        ([job(user_name="alice", cpus=4, job_state="COMPLETED")], False),
        ([job(user_name="alice", cpus=None)], False),
        ([job()], True),
    ],
)
async def test_where_others_jobs_are_hidden_nobody_knows_who_waits(
    jobs: list[dict[str, Any]], certain: bool
) -> None:
    busy = node(state="mixed", alloc_cpus=4, alloc_memory=1000)
    script = cluster(busy, get_jobs=json(200, jobs=jobs, errors=[]))
    assert await forecast(script) == (Forecast(0.0, 4) if certain else UNKNOWN)


async def test_a_reservation_without_a_start_may_begin_at_any_time() -> None:
    answer = json(200, reservations=[{"name": "r"}], errors=[])
    assert await forecast(cluster(get_reservations=answer)) == UNKNOWN


# -- directives


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Needs()),
        ({"nodes": "2-4", "ntasks": "3", "cpus-per-task": "2"}, Needs(nodes=2, cpus=4)),
        ({"ntasks-per-node": "2", "ntasks": "5"}, Needs(nodes=3, cpus=2)),
        ({"nodes": "2", "ntasks-per-node": "4"}, Needs(nodes=2, cpus=4)),
        ({"mem": "1G", "time": "1:00:00"}, Needs(memory=1024, minutes=60)),
        ({"mem": "0"}, Needs(whole=True)),
        ({"time": "UNLIMITED"}, None),
        ({"exclusive": ""}, Needs(whole=True)),
        ({"gpus": "h100:2"}, Needs(gpus=2, gpu_kind="h100")),
        ({"gres": "gres/gpu:h100"}, Needs(gpus=1, gpu_kind="h100")),
        ({"output": "x", "job-name": "y", "requeue": "", "account": "z", "comment": "c"}, Needs()),
        ({"nodes": "1,3"}, None),
        ({"nodes": "2k"}, None),
        ({"nodes": "0"}, None),
        ({"gpus": "2", "nodes": "2"}, None),
        ({"gres": "gpu:1", "gpus-per-node": "1"}, None),
        ({"gres": "gpu:1,license:2"}, None),
        ({"gres": "fpga:1"}, None),
        ({"gres": "gpu:1g.5gb:1"}, None),
        ({"mem": "1", "mem-per-cpu": "1"}, None),
        ({"constraint": "haswell"}, Needs(feature="haswell")),
        ({"constraint": "haswell|knl"}, None),
        ({"constraint": "[rack1*2&rack2]"}, None),
        ({"nodelist": "n1"}, None),
        ({"reservation": "r"}, None),
        ({"hold": ""}, None),
        ({"dependency": "afterok:7"}, None),
        ({"licenses": "matlab"}, None),
        ({"threads-per-core": "1"}, None),
    ],
)
def test_only_directives_whose_meaning_is_certain_are_reckoned_with(
    given: dict[str, str], expected: Needs | None
) -> None:
    assert needs(given, None) == expected


def test_the_walltime_that_hpcbridge_asks_for_counts() -> None:
    assert needs({"time": "UNLIMITED"}, 61) == Needs(minutes=2)


async def test_a_job_that_cannot_be_reckoned_still_knows_that_its_partition_is_closed() -> None:
    head = "-p viz --nodelist=n1"
    assert (await forecast(moment("shut", NEW), head)).closed
    assert await forecast(moment("idle", NEW), head) == UNKNOWN


# -- bad answers

QUESTIONS = ["get_partitions", "get_nodes", "get_jobs", "get_reservations"]
Make = Callable[[str], httpx.Response]
UNREADABLE: list[Make] = [
    lambda _: httpx.Response(200, html="<html><h1>It works!</h1></html>"),
    lambda _: httpx.Response(502, html="<html>Bad Gateway</html>"),
    lambda _: json(200, errors=[]),
    lambda what: json(200, **{what: None}, errors=[]),
    lambda what: json(200, **{what: []}, errors=[{"error": "Something new", "errno": 4711}]),
    lambda what: httpx.Response(
        200, text=f'{{"{what}": [{{', headers={"content-type": "application/json"}
    ),
]


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("make", UNREADABLE, ids=range(len(UNREADABLE)))
async def test_an_answer_that_cannot_be_read_is_no_forecast(question: str, make: Make) -> None:
    answer = make(question.removeprefix("get_"))
    kind = ClusterUnreachable if answer.status_code == 502 else UnexpectedReply
    with pytest.raises(kind):
        await forecast(cluster(**{question: answer}))


@pytest.mark.parametrize("question", QUESTIONS)
async def test_a_controller_that_is_not_reached_is_no_forecast(question: str) -> None:
    answer = recorded("ctld_down_jobs", NEW)
    with pytest.raises(ClusterUnreachable):
        await forecast(moment("idle", NEW, **{question: answer}))


@pytest.mark.parametrize(
    ("question", "odd"),
    [
        ("get_partitions", {"name": None}),
        ("get_partitions", partition(state=7)),
        ("get_partitions", partition(state=None)),
        ("get_partitions", partition(max_time_limit="long")),
        ("get_nodes", node(cpus="many")),
        ("get_nodes", node(partitions="viz")),
        ("get_nodes", node(gres=7)),
        ("get_nodes", node(state={"a": 1})),
        ("get_reservations", {"start_time": "soon"}),
    ],
)
async def test_fields_of_another_kind_are_no_forecast(question: str, odd: dict[str, Any]) -> None:
    what = question.removeprefix("get_")
    with pytest.raises(UnexpectedReply, match=what):
        await forecast(cluster(**{question: json(200, **{what: [odd]}, errors=[])}))


async def test_an_account_that_may_see_no_partition_learns_nothing() -> None:
    nothing = json(200, partitions=[], errors=[])
    assert await forecast(cluster(get_partitions=nothing)) == UNKNOWN
