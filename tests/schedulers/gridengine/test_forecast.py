"""When Grid Engine would start a job: what its dry run and its queues print, of the real 8.1.9."""

import re
from typing import Any

import pytest

from hpcbridge.config.batchsystems import GridEngineCluster
from hpcbridge.errors import ClusterUnreachable, JobRejected, OutcomeUnknown, UnexpectedReply
from hpcbridge.schedulers.base import Forecast, Forecaster, JobRequest
from hpcbridge.schedulers.gridengine import GridEngineScheduler
from hpcbridge.schedulers.gridengine.forecast import (
    Needs,
    Queue,
    closed,
    forecast,
    needs,
    parse_dry_run,
    parse_queues,
)
from hpcbridge.schedulers.gridengine.queue import count_waiting
from hpcbridge.transports.base import Completed
from tests.schedulers.gridengine.recordings import recorded
from tests.schedulers.printed import printed

REQUEST = JobRequest("hpcb-1", "/s", "/s/job.sh", 3600, "#!/bin/bash\n#$ -q viz.q\nsleep 1\n")
NOBODY = printed(
    re.sub("<job_list.*?</job_list>", "", recorded("qstat_waiting").out, flags=re.DOTALL)
)
TWO_FREE = printed(recorded("queues_full").out.replace("<available>0<", "<available>2<"))
FULL, FOUND = recorded("qsub_poke_full"), recorded("qsub_poke_found")


# -- the dry run


@pytest.mark.parametrize("name", ["qsub_poke_found", "qsub_verify_found"])
def test_a_job_that_a_queue_could_take_is_told_so(name: str) -> None:
    assert parse_dry_run(recorded(name))


@pytest.mark.parametrize("name", ["qsub_poke_full", "qsub_poke_disabled", "qsub_verify_never"])
def test_a_job_that_no_queue_could_take_is_told_so(name: str) -> None:
    assert not parse_dry_run(recorded(name))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("qsub_poke_badq", 'unknown queue "no.q"'),
        ("qsub_poke_root", "lower than minimum user id"),
        ("qsub_poke_empty", "no input read from stdin"),
    ],
)
def test_a_job_that_would_be_refused_is_told_why(name: str, words: str) -> None:
    with pytest.raises(JobRejected, match="Grid Engine would refuse the job: ") as caught:
        parse_dry_run(recorded(name))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "done",
    [
        printed(),
        printed("42\n"),
        printed('Your job 42 ("hpcb-1") has been submitted\n'),
        printed("<html>verification: found suitable queue(s)</html>\n"),
        printed(status=1),
        printed(err="Exiting.\n", status=1),
    ],
)
def test_anything_else_is_no_verdict(done: Completed) -> None:
    with pytest.raises(UnexpectedReply):
        parse_dry_run(done)


@pytest.mark.parametrize(
    "done",
    [
        recorded("down_qsub_poke"),
        printed(err="error: receive timeout\nUnable to run job: got read error\n", status=1),
        printed(err="sh: 1: qsub: not found\n", status=127),
    ],
)
def test_a_master_that_was_not_asked_has_refused_nothing(done: Completed) -> None:
    with pytest.raises(ClusterUnreachable) as caught:
        parse_dry_run(done)
    assert not isinstance(caught.value, OutcomeUnknown)


# -- what a job needs


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("sleep 1", Needs()),
        ("#$ -q viz.q", Needs(frozenset({"viz.q"}))),
        ("#$ -q a.q,b.q@n1", Needs(frozenset({"a.q", "b.q"}))),
        ("#$ -N x -q 'viz.q'\n#$ -pe smp 4", Needs(frozenset({"viz.q"}), 4)),
        ("#$ -pe smp 2-8", Needs(slots=2)),
        ("#$ -pe smp -8", Needs()),
        ("#$ -q viz*", Needs()),
        ("#$ -q '!a.q'", Needs()),
        ("#$ -soft -q a.q", Needs()),
        ("#$ -q", Needs()),
        ("#$ -pe smp", Needs()),
        ('#$ -q "a.q', Needs()),
        ("# $ -q a.q", Needs()),
    ],
)
def test_where_it_is_not_clear_which_queue_it_is_any(lines: str, expected: Needs) -> None:
    assert needs(f"#!/bin/bash\n{lines}\nsleep 1\n") == expected


# -- the queues


def test_the_queues_are_read_with_their_slots() -> None:
    assert parse_queues(recorded("queues_full")) == [Queue("viz.q", 0, 0, 3)]
    assert parse_queues(recorded("queues_disabled")) == [Queue("viz.q", 0, 3, 3)]
    empty, viz = parse_queues(recorded("queues_two"))
    assert (empty, viz.name) == (Queue("empty.q", 0, 0, 0), "viz.q")


@pytest.mark.parametrize(
    "done",
    [
        printed(),
        printed("<html></html>"),
        printed(recorded("queues_full").out[:-20]),
        printed(recorded("queues_full").out.replace("<total>3<", "<total>many<")),
        printed(recorded("queues_full").out.replace("<available>0</available>", "")),
        printed(recorded("queues_full").out.replace("?>", '?><!DOCTYPE a [<!ENTITY b "c">]>', 1)),
        printed("CLUSTER QUEUE    CQLOAD   USED    RES  AVAIL  TOTAL aoACDS  cdsuE\n"),
        printed(recorded("queues_full").out, status=1),
    ],
)
def test_queues_that_cannot_be_read_are_none(done: Completed) -> None:
    with pytest.raises(UnexpectedReply):
        parse_queues(done)


A, OFF, NOWHERE = Queue("a.q", 1, 3, 8), Queue("off.q", 0, 4, 4), Queue("empty.q", 0, 0, 0)


@pytest.mark.parametrize(
    ("wanted", "queues", "expected"),
    [
        ({"off.q"}, [A, OFF], "all instances of off.q are disabled, in error or unreachable"),
        ((), [OFF, NOWHERE], "all instances of off.q are disabled, in error or unreachable"),
        ({"a.q", "off.q"}, [A, OFF], ""),
        ((), [A, OFF], ""),
        ({"empty.q"}, [OFF, NOWHERE], ""),
        ({"other.q"}, [OFF], ""),
        ((), [], ""),
    ],
)
def test_a_job_all_of_whose_queues_are_out_is_kept_away(
    wanted: Any, queues: list[Queue], expected: str
) -> None:
    assert closed(Needs(frozenset(wanted)), queues) == expected


def test_as_many_jobs_start_as_there_are_free_slots_for() -> None:
    queues = [Queue("a.q", 9, 0, 9), Queue("b.q", 3, 0, 3)]
    assert forecast(Needs(slots=4), queues, 0) == Forecast(0.0, 3)
    assert forecast(Needs(frozenset({"a.q"}), 4), queues, 0) == Forecast(0.0, 2)
    # The dry run found a place, whatever the sums say.
    assert forecast(Needs(slots=20), queues, 0) == Forecast(0.0, 1)


def test_those_that_wait_for_the_same_queues_come_first() -> None:
    waiting = recorded("qstat_waiting")
    everybody = count_waiting(waiting, frozenset())
    name = "<full_job_name>first</full_job_name>"
    moved = printed(waiting.out.replace(name, f"{name}<hard_req_queue>other.q</hard_req_queue>", 1))
    assert everybody > 1
    assert count_waiting(moved, frozenset({"viz.q"})) == everybody - 1
    assert count_waiting(moved, frozenset({"other.q"})) >= 1
    assert count_waiting(NOBODY, frozenset()) == 0


# -- the adapter


class Replay:
    """Answers the dry runs in turn, and the two questions of qstat."""

    def __init__(
        self, *verdicts: Completed, queues: Completed = TWO_FREE, waiting: Completed = NOBODY
    ) -> None:
        self.verdicts, self.queues, self.waiting = list(verdicts), queues, waiting
        self.asked: list[tuple[list[str], bytes]] = []

    async def run(self, argv: list[str], *, stdin: bytes = b"", timeout: float) -> Completed:
        self.asked.append((argv, stdin))
        if argv[0] == "qsub":
            return self.verdicts.pop(0)
        return self.queues if "-g" in argv else self.waiting


def scheduler(replay: Replay, **settings: Any) -> GridEngineScheduler:
    cluster = GridEngineCluster(scheduler="gridengine", **settings)
    return GridEngineScheduler(replay, cluster)  # type: ignore[arg-type]


async def test_with_room_and_nobody_waiting_a_job_starts_at_once() -> None:
    replay = Replay(FOUND)
    adapter = scheduler(replay)
    assert isinstance(adapter, Forecaster)
    assert await adapter.forecast(REQUEST) == Forecast(0.0, 2)


async def test_nothing_is_staged_the_script_goes_to_standard_input() -> None:
    replay = Replay(FOUND)
    await scheduler(replay).forecast(REQUEST)
    argv, script = replay.asked[0]
    assert argv[:4] == ["qsub", "-h", "-w", "p"]
    assert argv[-2:] == ["-l", "h_rt=3600"]
    assert REQUEST.script not in argv
    assert script == REQUEST.text.encode()


async def test_of_a_job_behind_others_no_start_is_told() -> None:
    replay = Replay(FOUND, waiting=recorded("qstat_waiting"))
    assert await scheduler(replay).forecast(REQUEST) == Forecast(None, 2)


async def test_of_a_full_queue_no_start_is_told() -> None:
    replay = Replay(FULL, recorded("qsub_verify_found"), queues=recorded("queues_full"))
    assert await scheduler(replay).forecast(REQUEST) == Forecast(None, 0)
    assert replay.asked[1][0][:4] == ["qsub", "-h", "-w", "v"]


async def test_a_disabled_queue_is_closed() -> None:
    replay = Replay(
        recorded("qsub_poke_disabled"),
        recorded("qsub_verify_found"),
        queues=recorded("queues_disabled"),
    )
    found = await scheduler(replay).forecast(REQUEST)
    assert found.closed == "all instances of viz.q are disabled, in error or unreachable"


async def test_a_job_that_no_queue_could_ever_take_would_be_refused() -> None:
    replay = Replay(FULL, recorded("qsub_verify_never"))
    with pytest.raises(JobRejected, match="no queue could ever take it"):
        await scheduler(replay).forecast(REQUEST)


async def test_without_verifying_such_a_job_waits() -> None:
    replay = Replay(FULL, queues=recorded("queues_full"))
    assert await scheduler(replay, verify=False).forecast(REQUEST) == Forecast(None, 0)


@pytest.mark.parametrize(
    "answers",
    [
        {"queues": recorded("down_queues")},
        {"waiting": recorded("down_qstat_xml")},
    ],
)
async def test_a_master_that_goes_down_in_between_was_not_asked(
    answers: dict[str, Completed],
) -> None:
    with pytest.raises(ClusterUnreachable):
        await scheduler(Replay(FOUND, **answers)).forecast(REQUEST)
