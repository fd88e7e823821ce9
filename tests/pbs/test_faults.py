"""What a real PBS cannot be asked to do by its users: the fake one does it on command."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hpcbridge.conformance import Job
from hpcbridge.errors import ClusterUnreachable, UnexpectedReply
from hpcbridge.schedulers.base import EndReason, JobState
from hpcbridge.schedulers.pbs import PBSScheduler
from hpcbridge.schedulers.pbs.torque import TorqueScheduler
from tests.pbs.bench import FakeBench


@pytest_asyncio.fixture(params=["pbs", "torque"])
async def bench(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[FakeBench]:
    bench = FakeBench(tmp_path, request.param)
    yield bench
    await bench.close()


@pytest.fixture
def scheduler(bench: FakeBench) -> PBSScheduler:
    return bench.connect()


async def test_a_server_that_is_down_ends_nothing_and_has_nothing(
    bench: FakeBench, scheduler: PBSScheduler
) -> None:
    job = await Job.submitted(bench, scheduler)
    await job.seen(JobState.RUNNING)
    bench.fake.set(down=True)
    for question in (
        scheduler.list_jobs(),
        scheduler.describe_end(job.job_id),
        scheduler.find(job.request.name),
        scheduler.outlook([job.job_id]),
        job.cancel(),
        scheduler.submit(job.request),
    ):
        with pytest.raises(ClusterUnreachable):
            await question
    bench.fake.set(down=False)
    assert (await job.listed()).state == JobState.RUNNING  # type: ignore[union-attr]
    assert len(bench.fake.jobs) == 1


async def test_an_answer_of_many_megabytes_is_not_read_to_its_end(
    bench: FakeBench, scheduler: PBSScheduler
) -> None:
    await Job.submitted(bench, scheduler)
    for command in ("qselect", "qstat"):
        bench.fake.spoil(**{command: {"times": -1, "out": "1.pbslab\n" * 2_000_000}})
        with pytest.raises(UnexpectedReply, match="printed more than"):
            await scheduler.list_jobs()


@pytest.mark.parametrize("fault", [{"cut": 2}, {"cut": 40}, {"out": "\xff\xfe\x00"}, {"out": ""}])
async def test_an_answer_that_is_not_whole_is_no_answer(
    bench: FakeBench, scheduler: PBSScheduler, fault: dict[str, object]
) -> None:
    job = await Job.submitted(bench, scheduler)
    bench.fake.spoil(qstat={"times": -1, **fault})
    with pytest.raises(UnexpectedReply):
        await scheduler.list_jobs()
    bench.fake.spoil()
    assert await job.listed()


async def test_one_broken_answer_is_made_good_by_the_other_format(tmp_path: Path) -> None:
    bench = FakeBench(tmp_path)
    scheduler = bench.connect()
    job = await Job.submitted(bench, scheduler)
    bench.fake.spoil(qstat={"out": '{\n\t"timestamp": 1, "pbs_version": +5'})
    assert (await job.listed()).name == job.request.name  # type: ignore[union-attr]
    assert bench.fake.calls("qstat") == 2
    await bench.close()


async def test_without_a_history_a_living_job_is_still_told_of(tmp_path: Path) -> None:
    bench = FakeBench(tmp_path)
    bench.fake.set(history=False)
    scheduler = bench.connect()
    job = await Job.submitted(bench, scheduler)
    await job.seen(JobState.RUNNING)
    known = await scheduler.describe_end(job.job_id)
    assert known is not None
    assert known.state == JobState.RUNNING
    await job.end()
    assert await job.over() is None
    assert await scheduler.find(job.request.name) is None
    await job.cancel()
    await bench.close()


async def test_the_place_in_the_queue_counts_everybodys_earlier_jobs(
    bench: FakeBench, scheduler: PBSScheduler
) -> None:
    bench.fake.hold()
    bench.fake.add_all(["a", "b", "c"], owner="alice", hold="")
    bench.fake.add_all(["d"], owner="alice", queue="short", hold="")
    bench.fake.add_all(["e"], owner="alice", hold="u")
    job = await Job.submitted(bench, scheduler)
    bench.fake.add_all(["f"], owner="alice", hold="")
    outlook = (await scheduler.outlook([job.job_id]))[job.job_id]
    assert (outlook.queue, outlook.ahead, outlook.start) == ("workq", 3, None)
    assert outlook.waits_for == "1 CPU"
    assert list((await scheduler.list_jobs()).jobs) == [job.job_id]


async def test_who_asks_for_more_than_any_host_has_is_told_that_and_no_place(
    bench: FakeBench, scheduler: PBSScheduler
) -> None:
    bench.fake.hold()
    job = await Job.submitted(bench, scheduler)
    bench.fake.change(job.job_id, ncpus=1000)
    outlook = (await scheduler.outlook([job.job_id]))[job.job_id]
    if isinstance(scheduler, TorqueScheduler):  # which tells of no chunks
        assert outlook.waits_for == "1000 CPUs"
        return
    assert outlook.waits_for.startswith("a node with 1000 CPUs, and the largest has ")
    assert outlook.ahead is None
    bench.fake.change(job.job_id, ncpus=1)
    assert (await scheduler.outlook([job.job_id]))[job.job_id].ahead == 0


async def test_an_estimated_start_is_the_same_moment_in_any_zone(
    bench: FakeBench, scheduler: PBSScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")  # 5:45 h before UTC
    bench.fake.hold()
    job = await Job.submitted(bench, scheduler)
    start = float(int(time.time()) + 3600)
    bench.fake.change(job.job_id, estimated=start)
    assert (await scheduler.outlook([job.job_id]))[job.job_id].start == start


async def test_the_jobs_of_other_accounts_are_listed_where_that_is_asked_for(
    bench: FakeBench,
) -> None:
    (theirs,) = bench.fake.add_all(["hpcb-1"], owner="alice")
    bench.fake.add_all(["hpcb-2"], owner="bob")
    bench.fake.add_all(["hpcb-3"])
    scheduler = type(bench.connect())(
        bench.transport, timeout=20, commands=bench.made, accounts=lambda: {"alice", "carol"}
    )
    jobs = (await scheduler.list_jobs()).jobs
    assert {job_id: job.account for job_id, job in jobs.items()} == {theirs: "alice"}


async def test_an_id_that_is_used_again_is_told_with_its_new_name(
    bench: FakeBench, scheduler: PBSScheduler
) -> None:
    job = await Job.submitted(bench, scheduler)
    await job.end(1)
    assert (await job.known_end()).reason == EndReason.FAILED
    bench.fake.forget_everything()
    (again,) = bench.fake.add_all(["another"])
    assert again == job.job_id
    assert (await job.listed()).name == "another"  # type: ignore[union-attr]
