"""What is special about PBS, the same for the fake server and a real one (``make test-pbs``)."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hpcbridge.conformance import Job
from hpcbridge.errors import JobRejected
from hpcbridge.schedulers.base import EndReason, JobState
from hpcbridge.schedulers.pbs import PBSScheduler
from tests.pbs import site
from tests.pbs.bench import PBSBench, opened

FACTS = site.facts()
pytestmark = pytest.mark.timeout(site.LIMIT)

# Held by its owner: waits on any cluster, whatever else runs there.
HELD = "#PBS -h"


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[PBSBench]:
    async with opened(tmp_path) as bench:
        yield bench


@pytest.fixture
def scheduler(bench: PBSBench) -> PBSScheduler:
    return bench.connect()


async def submitted(bench: PBSBench, scheduler: PBSScheduler, *directives: str) -> Job:
    # Of two -l in a script qsub takes the first, of two other options the last.
    lines = "\n".join([*directives, bench.directives, *directives])
    return await Job.submitted(bench, scheduler, directives=lines)


async def hopeless(job: Job) -> str:
    """Why the job can never run, as a listing tells it."""
    info = await job.listed()
    return info.hopeless if info else ""


async def scripted(bench: PBSBench, scheduler: PBSScheduler, text: str) -> Job:
    """A job of this script, submitted from the directory of another one that was staged."""
    job = await Job.staged(bench, scheduler)
    await job._tell("own", "job.sh", f"#!/bin/sh\n{bench.directives}\n{text}\n")
    script = f"{job.request.directory}/own/job.sh"
    job.request = dataclasses.replace(job.request, script=script)
    return job


@pytest.mark.parametrize(
    ("directive", "words"),
    [
        ("#PBS -q nosuchqueue", "Unknown queue"),
        ("#PBS -l select=1:nosuchthing=1", "Unknown resource"),
        ("#PBS -l walltime=abc", "Illegal attribute or resource value"),
        ("#PBS -Z bad", "qsub"),
    ],
)
async def test_what_the_server_refuses_is_told_in_its_words(
    bench: PBSBench, scheduler: PBSScheduler, directive: str, words: str
) -> None:
    with pytest.raises(JobRejected, match=words):
        await submitted(bench, scheduler, directive)


async def test_a_script_with_carriage_returns_is_refused(
    bench: PBSBench, scheduler: PBSScheduler
) -> None:
    job = await scripted(bench, scheduler, "true\r")
    with pytest.raises(JobRejected, match="cr, lf"):
        await scheduler.submit(job.request)


async def test_a_missing_script_is_refused(bench: PBSBench, scheduler: PBSScheduler) -> None:
    job = await Job.staged(bench, scheduler)
    job.request = dataclasses.replace(job.request, script=f"{bench.root}/nosuch.sh")
    with pytest.raises(JobRejected, match="No such file"):
        await scheduler.submit(job.request)


async def test_a_job_that_asks_for_too_much_is_refused_or_hopeless(
    bench: PBSBench, scheduler: PBSScheduler
) -> None:
    refusal = ""
    try:
        job = await submitted(bench, scheduler, "#PBS -l select=1:ncpus=99999")
    except JobRejected as error:
        refusal = str(error)
    if refusal:
        assert "limit" in refusal
        return

    words = await job.until(lambda: hopeless(job), "the scheduler's word on the job")
    assert "can never run" in words
    assert "99999 CPUs" in words
    assert (await job.seen(JobState.QUEUED)).host is None


async def test_a_job_that_cannot_start_is_held_for_ever_and_so_hopeless(
    bench: PBSBench, scheduler: PBSScheduler
) -> None:
    job = await Job.staged(bench, scheduler)
    missing = dataclasses.replace(job.request, directory=f"{bench.root}/nosuch")
    job.job_id = await scheduler.submit(missing)

    async def fate() -> str:
        return await hopeless(job) or await job.output()

    words = await job.until(fate, "the hold that PBS puts on the job")
    if FACTS and words == "begun\n":
        pytest.skip("the nodes spool the output of jobs ($usecp), so the job could start")
    assert "too many failed attempts" in words
    await job.cancel()
    await job.over()


async def test_a_held_job_tells_its_queue_and_whom_it_waits_for(
    bench: PBSBench, scheduler: PBSScheduler
) -> None:
    job = await submitted(bench, scheduler, HELD)
    info = await job.seen(JobState.QUEUED)
    assert (info.host, info.hopeless) == (None, "")
    outlook = (await scheduler.outlook([job.job_id]))[job.job_id]
    assert outlook.queue
    assert (outlook.ahead, outlook.start) == (None, None)
    assert outlook.waits_for == "its owner to release it"


@pytest.mark.parametrize("value", ["+5", ".5", "nan", "0012", "true", "1e999", "[1]", '{"a":1}'])
async def test_a_variable_that_breaks_the_json_leaves_the_listing_whole(
    bench: PBSBench, scheduler: PBSScheduler, value: str
) -> None:
    beside = await submitted(bench, scheduler, HELD)
    job = await submitted(bench, scheduler, HELD, f"#PBS -v HPCB_ODD={value}")
    jobs = (await scheduler.list_jobs()).jobs
    for each in (beside, job):
        assert jobs[each.job_id].name == each.request.name
        assert jobs[each.job_id].state == JobState.QUEUED


@pytest.mark.skipif(FACTS is not None and FACTS.cpus < 2, reason="the nodes have one CPU in all")
async def test_a_job_of_two_chunks_is_on_the_host_of_the_first(
    bench: PBSBench, scheduler: PBSScheduler
) -> None:
    job = await submitted(bench, scheduler, "#PBS -l select=2:ncpus=1", "#PBS -l place=free")
    assert (await job.seen(JobState.RUNNING)).host in bench.hosts


async def test_the_request_wins_over_the_scripts_directives(
    bench: PBSBench, scheduler: PBSScheduler
) -> None:
    job = await submitted(bench, scheduler, HELD, "#PBS -N other", "#PBS -o /nosuch/x")
    info = await job.until(job.listed, "the job in the listing")
    assert info.name == job.request.name


@pytest.mark.skipif(
    FACTS is not None and not FACTS.history, reason="job_history_enable is off on this server"
)
async def test_a_script_that_is_killed_has_failed(bench: PBSBench, scheduler: PBSScheduler) -> None:
    job = await scripted(bench, scheduler, "kill -9 $$")
    job.job_id = await scheduler.submit(job.request)
    info = await job.known_end()
    assert info.reason == EndReason.FAILED
    assert info.exit_status in (137, -9)  # of the login shell's child, or of the shell itself


async def test_cancelling_a_waiting_job_ends_it_at_once(
    bench: PBSBench, scheduler: PBSScheduler
) -> None:
    job = await submitted(bench, scheduler, HELD)
    await job.cancel()
    info = await job.listed()
    assert info is None or (info.state, info.reason) == (JobState.ENDED, EndReason.CANCELLED)


async def test_an_ended_job_costs_no_further_question(
    bench: PBSBench, scheduler: PBSScheduler
) -> None:
    beside = await submitted(bench, scheduler, HELD)
    assert await beside.listed()
    before = bench.asked()
    assert await beside.listed()
    for_one = bench.asked() - before
    job = await submitted(bench, scheduler, HELD)
    await job.cancel()
    await job.over()
    before = bench.asked()
    assert await beside.listed()
    assert bench.asked() - before == for_one
