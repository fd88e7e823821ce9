"""So many jobs at a time, the others in a queue, and what those are told that wait."""

import asyncio
import time
from pathlib import Path

import pytest

from hpcbridge.errors import NoCapacity
from hpcbridge.schedulers.base import EndReason, Forecast, JobState
from tests.schedulers.local.bench import Bench, cancel, cancel_all, until_state


async def test_a_job_runs_in_its_directory_and_ends(bench: Bench) -> None:
    runner = bench.runner()
    moved = asyncio.Event()
    runner.notify(moved.set)
    request = bench.request("pwd; echo err >&2; exit 0")
    job = await until_state(runner, await runner.submit(request))
    assert (job.reason, job.exit_status) == (EndReason.FINISHED, 0)
    assert (Path(request.directory) / "scheduler.out").read_text() == f"{request.directory}\nerr\n"
    async with asyncio.timeout(60):
        await moved.wait()


async def test_the_runner_has_its_slots_and_the_others_wait_in_order(bench: Bench) -> None:
    runner = bench.runner(slots=1)
    order = bench.root / "order"
    gate = bench.root / "gate"
    script = f"while [ ! -e {gate} ]; do sleep 0.01; done; echo {{}} >> {order}"
    ids = [await runner.submit(bench.request(script.format(n))) for n in range(4)]
    jobs = (await runner.list_jobs()).jobs
    assert [jobs[each].state for each in ids] == [JobState.RUNNING] + [JobState.QUEUED] * 3
    assert jobs[ids[0]].host == "localhost"
    assert jobs[ids[2]].host is None
    assert jobs[ids[3]].detail == "waiting for a free slot"
    gate.touch()
    await until_state(runner, ids[-1])
    assert order.read_text().split() == ["0", "1", "2", "3"]


async def test_who_waits_is_told_its_place_and_its_latest_start(bench: Bench) -> None:
    runner = bench.runner(slots=1)
    ids = [await runner.submit(bench.request("sleep 60", walltime=100)) for _ in range(3)]
    told = await runner.outlook(ids)
    assert set(told) == set(ids[1:])
    assert [told[each].ahead for each in ids[1:]] == [0, 1]
    starts = [(told[each].start or 0) - time.time() for each in ids[1:]]
    assert [round(each, -1) for each in starts] == [100, 200]
    await cancel(runner, ids[1])
    assert (await runner.outlook([ids[2]]))[ids[2]].ahead == 0
    await cancel(runner, ids[2], ids[0])
    await until_state(runner, ids[0])


async def test_no_start_is_promised_behind_a_job_without_a_walltime(bench: Bench) -> None:
    runner = bench.runner(slots=1)
    running = await runner.submit(bench.request("sleep 60"))
    waiting = await runner.submit(bench.request("sleep 60"))
    assert (await runner.outlook([waiting]))[waiting].start is None
    await cancel(runner, waiting, running)
    await until_state(runner, running)


async def test_a_forecast_says_how_long_a_further_job_would_wait(bench: Bench) -> None:
    runner, further = bench.runner(slots=2, queue=1), bench.request("true", walltime=100)
    assert await runner.forecast(further) == Forecast(0.0, room=2)
    ids = [await runner.submit(bench.request("sleep 60", walltime=100))]
    assert await runner.forecast(further) == Forecast(0.0, room=1)
    ids.append(await runner.submit(bench.request("sleep 60", walltime=200)))
    full = await runner.forecast(further)
    assert (round(full.wait or 0, -1), full.room) == (100, 0)
    ids.append(await runner.submit(bench.request("sleep 60")))
    assert (await runner.forecast(further)).closed.startswith("all its slots")
    await cancel(runner, *reversed(ids))
    for each in ids:
        await until_state(runner, each)


async def test_a_full_queue_is_told_and_has_room_again_later(bench: Bench) -> None:
    runner = bench.runner(slots=1, queue=1)
    first = await runner.submit(bench.request("sleep 60"))
    await runner.submit(bench.request("sleep 60"))
    with pytest.raises(NoCapacity, match=r"All slots \(1\) and places in the queue \(1\)"):
        await runner.submit(bench.request("true"))
    await cancel(runner, first)
    await until_state(runner, first)
    await runner.submit(bench.request("true"))
    await cancel_all(runner)


async def test_a_job_is_found_by_its_name_even_when_it_is_over(bench: Bench) -> None:
    runner = bench.runner()
    request = bench.request("true")
    job_id = await runner.submit(request)
    await until_state(runner, job_id)
    assert await runner.find(request.name) == job_id
    assert await runner.find("hpcb-other") is None


async def test_many_submissions_at_once_get_an_id_each(bench: Bench) -> None:
    runner = bench.runner(slots=4, queue=30)
    requests = [bench.request("true") for _ in range(20)]
    ids = await asyncio.gather(*(runner.submit(each) for each in requests))
    assert len(set(ids)) == 20
    for job_id in ids:
        assert (await until_state(runner, job_id)).reason == EndReason.FINISHED
