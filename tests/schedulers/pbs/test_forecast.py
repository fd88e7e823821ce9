"""When PBS would start a job, by recordings of a real server, its queues and its node."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from hpcbridge.errors import ClusterUnreachable, JobRejected, UnexpectedReply
from hpcbridge.schedulers.base import Forecast, Forecaster, JobRequest
from hpcbridge.schedulers.pbs import PBSScheduler
from hpcbridge.schedulers.pbs.commands import Commands
from hpcbridge.schedulers.pbs.directives import Chunks, Directives, read
from hpcbridge.schedulers.pbs.forecast import by_host
from hpcbridge.schedulers.pbs.readers import read_section
from hpcbridge.transports.base import Completed
from tests.schedulers.pbs.recordings import DIRECTORY, recorded
from tests.schedulers.printed import printed

SERVER, QUEUES, NODES = map(
    recorded, ("qstat_server_Bf_json", "qstat_queues_Qf_json", "pbsnodes_json")
)


def wants(*directives: str, walltime: int | None = 600) -> JobRequest:
    lines = "\n".join(f"#PBS {each}" for each in directives)
    return JobRequest("hpcb-1", "/d", "/d/job.sh", walltime, f"#!/bin/bash\n{lines}\ntrue\n")


def changed(done: Completed, section: str, **values: Any) -> Completed:
    """The recording with other attributes; None removes one."""
    answer = json.loads(done.out)
    for each in answer[section].values():
        each.update(values)
        for name in [name for name, value in each.items() if value is None]:
            del each[name]
    return printed(json.dumps(answer))


def nodes(*several: dict[str, Any]) -> Completed:
    """Nodes like the recorded one, which has 8 CPUs, but for these attributes."""
    answer = json.loads(NODES.out)
    (recorded_one,) = answer["nodes"].values()
    found = {}
    for number, each in enumerate(several):
        node = {**recorded_one, **each}
        resources = {"host": f"n{number}", "vnode": f"n{number}", **each.get("has", {})}
        node["resources_available"] = {**recorded_one["resources_available"], **resources}
        found[f"n{number}"] = node
    answer["nodes"] = found
    return printed(json.dumps(answer))


class Site:
    """A transport that answers the three questions, and keeps what was asked."""

    def __init__(
        self, server: Completed = SERVER, queues: Completed = QUEUES, nodes: Completed = NODES
    ) -> None:
        self.answers = {"-B": server, "-Q": queues, "-av": nodes}
        self.asked: list[Sequence[str]] = []

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float) -> Completed:
        self.asked.append(argv)
        return next(done for option, done in self.answers.items() if option in argv)


async def forecast(request: JobRequest, **answers: Completed) -> Forecast:
    return await PBSScheduler(Site(**answers), timeout=8).forecast(request)  # type: ignore[arg-type]


# -- what is asked


async def test_three_questions_are_asked_as_they_were_recorded() -> None:
    site = Site()
    adapter = PBSScheduler(site, timeout=8, commands=Commands("/opt/pbs/bin"))  # type: ignore[arg-type]
    assert isinstance(adapter, Forecaster)
    await adapter.forecast(wants("-l select=1:ncpus=1"))
    *asked, nodes = site.asked
    assert asked == [list(done.argv) for done in (SERVER, QUEUES)]
    # Each vnode, where a host has several.
    assert nodes == ["-av" if each == "-a" else each for each in NODES.argv]


async def test_a_queue_that_is_closed_needs_no_look_at_the_nodes() -> None:
    site = Site()
    await PBSScheduler(site, timeout=8).forecast(wants("-q stoppedq"))  # type: ignore[arg-type]
    assert len(site.asked) == 2


# -- room


@pytest.mark.parametrize(
    ("directives", "room"),
    [
        (["-l select=1:ncpus=4"], 2),
        (["-l select=ncpus=3"], 2),
        (["-l select=2:ncpus=4"], 1),
        (["-l select=2"], 4),
        (["-l select=1:ncpus=2:mpiprocs=2:ompthreads=1"], 4),
        (["-l select=1:ncpus=1:mem=8gb"], 2),
        (["-l select=1:ncpus=1:mem=24731272kb"], 1),
        (["-l select=1:ncpus=1:mem=25gb"], 0),
        (["-l select=1:ncpus=1:ngpus=1"], 0),
        (["-l select=1:ncpus=1:host=pbslab"], 8),
        (["-l select=1:ncpus=1:host=nosuch"], 0),
        (["-l select=1:ncpus=1:arch=LINUX"], 8),
        (["-l select=1:ncpus=9"], 0),
        (["-l select=2:ncpus=1", "-l place=scatter"], 0),
        (["-l select=2:ncpus=3", "-l place=pack"], 1),
        (["-l select=1:ncpus=1", "-l place=excl"], 1),
        (["-l nodes=1:ppn=2"], 4),
        (["-l nodes=2:ppn=2"], 0),
        (["-l ncpus=4,mem=1gb"], 2),
        (["-N x -j oe -r n", "-l walltime=1:00:00", "-A account", "-W umask=077"], 8),
        ([], 8),
    ],
)
async def test_as_many_jobs_start_at_once_as_the_node_has_room_for(
    directives: list[str], room: int
) -> None:
    assert await forecast(wants(*directives)) == Forecast(0.0 if room else None, room)


BUSY = {"resources_assigned": {"ncpus": 6, "mem": "16gb"}, "jobs": "1.pbs/0, 1.pbs/1"}
GPU = {"has": {"ngpus": 2, "gpu_type": "a100,h100", "big": "True"}}


@pytest.mark.parametrize(
    ("directives", "several", "room"),
    [
        (["-l select=1:ncpus=2"], [BUSY, {}], 5),
        (["-l select=1:ncpus=1:mem=4gb"], [BUSY], 1),
        (["-l select=1:ncpus=1", "-l place=excl"], [BUSY, {}], 1),
        (["-l select=1:ncpus=1"], [{"sharing": "force_exclhost"}, {}, BUSY], 11),
        (["-l select=1:ncpus=1", "-l place=excl"], [{**BUSY, "sharing": "ignore_excl"}], 2),
        (["-l select=2:ncpus=1", "-l place=scatter"], [BUSY, {}], 1),
        (["-l select=2:ncpus=3", "-l place=pack"], [BUSY, {}], 1),
        (["-l select=1:ncpus=1:ngpus=1"], [GPU, {}], 2),
        (["-l select=1:ncpus=1:ngpus=1"], [{**GPU, "resources_assigned": {"ngpus": 2}}], 0),
        (["-l select=1:ncpus=1:gpu_type=h100:big=true"], [GPU, {}], 8),
        (["-l select=1:ncpus=1"], [{"state": "job-busy"}, {"state": "offline"}], 0),
        (["-l select=1:ncpus=1"], [{"state": "free,offline"}, {}], 8),
        (["-l select=1:ncpus=1"], [{"state": "something-new"}], 0),
        (["-l select=1:ncpus=1"], [{"resv": "R7.pbs"}], 0),
        (["-l select=1:ncpus=1"], [{"queue": "other"}, {}], 8),
        (["-l select=1:ncpus=1"], [{"queue": "workq"}, {}, {}], 8),
        (["-l select=1:ncpus=1"], [{"partition": "P1"}], 0),
        (["-l select=1:ncpus=1"], [{"resources_assigned": {"ncpus": "many"}}], 0),
        (["-l select=1:ncpus=1"], [{"resources_assigned": {"ncpus": 9}}], 0),
        (["-l select=1:ncpus=1"], [{"has": {"ncpus": 1e30}}], 0),
    ],
)
async def test_only_what_is_free_counts(
    directives: list[str], several: list[dict[str, Any]], room: int
) -> None:
    found = await forecast(wants(*directives), nodes=nodes(*several))
    assert (found.wait, found.room) == (0.0 if room else None, room)


@pytest.mark.parametrize("counts", ["Transit:0 Queued:1 Held:0", "Transit:2 Queued:0 Held:0"])
async def test_of_a_job_behind_others_no_start_is_told(counts: str) -> None:
    queues = changed(QUEUES, "Queue", state_count=counts)
    assert await forecast(wants(), queues=queues) == Forecast(None, 8)


async def test_jobs_that_are_held_wait_for_nobody() -> None:
    queues = changed(QUEUES, "Queue", state_count="Transit:0 Queued:0 Held:7 Waiting:3")
    assert (await forecast(wants(), queues=queues)).wait == 0.0


async def test_what_a_queue_adds_to_a_job_is_needed_too() -> None:
    queues = changed(QUEUES, "Queue", default_chunk={"mem": "10gb", "ncpus": 2})
    assert (await forecast(wants("-l select=1"), queues=queues)).room == 2
    assert (await forecast(wants("-l select=1:mem=5gb"), queues=queues)).room == 4
    queues = changed(QUEUES, "Queue", resources_default={"ncpus": 4})
    assert (await forecast(wants(), queues=queues)).room == 2
    assert (await forecast(wants("-l select=1:ncpus=1"), queues=queues)).room == 8
    queues = changed(QUEUES, "Queue", resources_default={"place": "excl"})
    assert (await forecast(wants(), queues=queues)).room == 1
    assert (await forecast(wants("-l place=free"), queues=queues)).room == 8


async def test_what_a_queue_or_the_server_has_left_is_a_limit() -> None:
    left = {"resources_available": {"ncpus": 6}, "resources_assigned": {"ncpus": 3}}
    queues = changed(QUEUES, "Queue", **left)
    assert (await forecast(wants("-l select=1:ncpus=1"), queues=queues)).room == 3
    server = changed(SERVER, "Server", **left)
    assert (await forecast(wants("-l select=2:ncpus=1"), server=server)).room == 1


# -- closed, and refused


@pytest.mark.parametrize(
    ("queue", "why"),
    [
        ("disabledq", "its queue disabledq is disabled"),
        ("stoppedq", "its queue stoppedq is stopped"),
    ],
)
async def test_a_queue_that_takes_or_starts_no_jobs_is_closed(queue: str, why: str) -> None:
    assert await forecast(wants(f"-q {queue}")) == Forecast(closed=why)
    # Whatever else cannot be understood.
    assert await forecast(wants(f"-q {queue}", "-J 1-9")) == Forecast(closed=why)


async def test_without_a_queue_of_its_own_a_job_gets_the_servers() -> None:
    server = changed(SERVER, "Server", default_queue="stoppedq")
    assert (await forecast(wants(), server=server)).closed == "its queue stoppedq is stopped"
    assert (await forecast(wants("-q workq"), server=server)).wait == 0.0


async def test_a_server_that_schedules_nothing_is_closed() -> None:
    server = changed(SERVER, "Server", scheduling="False")
    assert (await forecast(wants(), server=server)).closed == "PBS' scheduling is turned off"
    others = changed(QUEUES, "Queue", partition="P1")  # a scheduler of its own
    assert not (await forecast(wants(), server=server, queues=others)).closed


@pytest.mark.parametrize("state", ["down", "offline", "offline,down", "state-unknown", "Stale"])
async def test_a_queue_none_of_whose_nodes_is_up_is_closed(state: str) -> None:
    found = await forecast(wants(), nodes=nodes({"state": state}, {"queue": "other"}))
    assert found == Forecast(closed="none of the nodes of its queue workq is up")


@pytest.mark.parametrize("several", [[], [{"queue": "other", "state": "down"}]])
async def test_a_queue_whose_nodes_are_not_known_is_not_closed(
    several: list[dict[str, Any]],
) -> None:
    assert await forecast(wants(), nodes=nodes(*several)) == Forecast(None, 0)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (wants("-q nosuchq"), "there is no queue nosuchq"),
        (wants("-q short", "-l select=1:ncpus=3"), "queue short allows no more than 2 of ncpus"),
        (wants("-q short", "-l select=3:ncpus=1"), "queue short allows no more than 2 of ncpus"),
        (wants("-q short", walltime=601), "queue short allows no more than 00:10:00 of walltime"),
        (
            wants("-q short", "-l walltime=0:11:0", walltime=None),
            "queue short allows no more than 00:10:00 of walltime",
        ),
    ],
)
async def test_a_job_beyond_its_queues_limits_would_be_refused(
    request_: JobRequest, words: str
) -> None:
    with pytest.raises(JobRejected, match=f"PBS would refuse the job: {words}"):
        await forecast(request_)


async def test_a_job_within_its_queues_limits_is_not_refused() -> None:
    found = await forecast(wants("-q short", "-l select=1:ncpus=2", walltime=600))
    assert found == Forecast(0.0, 4)


# -- nothing is claimed that is not known


@pytest.mark.parametrize(
    "directives",
    [
        ["-l select=1:ncpus=1+1:ncpus=2"],
        ["-l select=0:ncpus=1"],
        ["-l select=1:ncpus"],
        ["-l select=1:ncpus=1:ncpus=2"],
        ["-l select=1:ncpus=1 -l select=2:ncpus=1"],
        ["-l select=1:ncpus=1 -l ncpus=2"],
        ["-l select=1:ncpus=1 -l place=scatter:group=rack"],
        ["-l select=1:ncpus=1 -l software=1"],
        ["-l 'select=1:ncpus=1:comment=\"a,b\"'"],
        ["-l nodes=n1+n2"],
        ["-l nodes=1:ppn=1:gpus=1"],
        ["-l nodes=1 -l place=pack"],
        ["-l nodes=0"],
        ["-l"],
        ["-Z"],
        ["-N 'x"],
        ["-N x stray"],
        ["-a 2359"],
        ["-h"],
        ["-J 1-9"],
        ["-W depend=afterok:7"],
        ["-C %%"],
        ["-q workq@other"],
        ["-q R77"],
    ],
)
async def test_of_a_job_that_is_not_understood_nothing_is_told(directives: list[str]) -> None:
    assert await forecast(wants(*directives)) == Forecast()


@pytest.mark.parametrize(
    "queue",
    [
        {"queue_type": "Route"},
        {"queue_type": None},
        {"state_count": None},
        {"state_count": "garbage"},
        {"started": None},
        {"started": "yes"},
        {"resources_default": {"place": "scatter:group=rack"}},
        {"resources_default": {"select": "2:ncpus=4"}},
    ],
)
async def test_of_a_queue_that_is_not_understood_nothing_is_told(queue: dict[str, Any]) -> None:
    queues = changed(QUEUES, "Queue", **queue)
    assert await forecast(wants(), queues=queues) == Forecast()


async def test_without_any_queue_nothing_is_told() -> None:
    server = changed(SERVER, "Server", default_queue=None)
    assert await forecast(wants(), server=server) == Forecast()


def test_directives_end_where_the_script_begins() -> None:
    script = "#!/bin/sh\n\n  #PBS -q a -l select=2:ncpus=4,walltime=1:0:0\n# x\ntrue\n#PBS -q b\n"
    assert read(script) == Directives("a", "1:0:0", Chunks(2, {"ncpus": "4"}))


# -- answers that cannot be read, and none


SPOILT = [
    printed(),
    printed("<html>502</html>"),
    printed("{}"),
    printed('{\n\t"timestamp":\t1,\n\t"pbs_version":\t"23"\n}'),
    printed('{\n\t"timestamp":\t1,\n\t"pbs_version":\t"23", "Queue": [], "Server": 1, "nodes": 0}'),
    printed('{\n\t"timestamp":\t1,\n\t"pbs_version":\t"23", "Queue": {"a": 1}, "nodes": {"a": 1}}'),
    printed(err="qstat: Something new", status=1),
]


@pytest.mark.parametrize("which", ["server", "queues", "nodes"])
@pytest.mark.parametrize("done", SPOILT)
async def test_an_answer_that_cannot_be_read_is_none(which: str, done: Completed) -> None:
    with pytest.raises(UnexpectedReply):
        await forecast(wants(), **{which: done})


@pytest.mark.parametrize("which", [SERVER, QUEUES, NODES])
async def test_an_answer_cut_anywhere_is_none(which: Completed) -> None:
    name = {id(SERVER): "server", id(QUEUES): "queues", id(NODES): "nodes"}[id(which)]
    whole = which.out.rstrip()
    for end in range(0, len(whole), 37):
        with pytest.raises(UnexpectedReply):
            await forecast(wants(), **{name: printed(whole[:end])})


async def test_what_a_login_shell_says_first_does_no_harm() -> None:
    greeted = {
        "server": printed("Welcome!\n" + SERVER.out),
        "queues": printed("Welcome!\n" + QUEUES.out),
        "nodes": printed("Welcome!\n" + NODES.out),
    }
    assert (await forecast(wants(), **greeted)).room == 8


async def test_types_that_pbs_guessed_change_nothing() -> None:
    queues = changed(QUEUES, "Queue", enabled=True, started=True)
    guessed = nodes({"has": {"ncpus": "8", "mem": 25324822528}})
    found = await forecast(wants("-l select=1:ncpus=1:mem=12gb"), queues=queues, nodes=guessed)
    assert found == Forecast(0.0, 1)


@pytest.mark.parametrize(
    ("which", "done"),
    [
        ("server", recorded("down_qstat_B")),
        ("server", printed(err="sh: 1: qstat: not found", status=127)),
        ("queues", recorded("down_qstat")),
        ("nodes", printed(err="pbsnodes: cannot connect to server pbslab, error=15010", status=1)),
    ],
)
async def test_a_server_that_is_down_is_told_as_that(which: str, done: Completed) -> None:
    with pytest.raises(ClusterUnreachable):
        await forecast(wants(), **{which: done})


async def test_pbsnodes_that_is_not_there_is_no_outage() -> None:
    with pytest.raises(UnexpectedReply, match="pbsnodes told nothing"):
        await forecast(wants(), nodes=printed(err="sh: 1: pbsnodes: not found", status=127))


# -- hosts with several vnodes


REAL = DIRECTORY.parent / "pbs-real"
VNODES = printed((REAL / "pbsnodes_av_mixed_vnodes.json").read_text())


async def test_vnodes_of_a_host_are_counted_together() -> None:
    """Of 14 CPUs on three vnodes 10 are free; the other host has 4."""
    hosts = {
        each["Mom"]: each for each in by_host((read_section(VNODES.out, "nodes") or {}).values())
    }
    assert hosts["pbslab"]["resources_available.ncpus"] == "14"
    assert hosts["pbslab"]["resources_assigned.ncpus"] == "4"
    assert hosts["pbslab"]["resources_available.mem"] == f"{32 * 2**30}b"
    assert hosts["n2"]["resources_available.ncpus"] == "4"


@pytest.mark.parametrize(("cpus", "room"), [(1, 14), (4, 3), (10, 1), (11, 0)])
async def test_a_chunk_can_be_put_on_several_vnodes_of_a_host(cpus: int, room: int) -> None:
    found = await forecast(wants(f"-l select=1:ncpus={cpus}"), nodes=VNODES)
    assert found.room == room


async def test_a_vnode_that_is_offline_gives_nothing() -> None:
    text = VNODES.out.replace('"pbslab[0]":	{', '"pbslab[0]":	{ "comment": "x",')
    head, mark, tail = text.partition('"comment": "x",')
    off = printed(head + mark + tail.replace('"free"', '"offline"', 1))
    assert (await forecast(wants("-l select=1:ncpus=10"), nodes=off)).room == 0
    assert (await forecast(wants("-l select=1:ncpus=6"), nodes=off)).room == 1
