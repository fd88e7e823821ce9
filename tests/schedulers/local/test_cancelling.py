"""A job that is cancelled leaves no process behind, whatever it started."""

import itertools
from pathlib import Path

import pytest

from hpcbridge.schedulers.base import EndReason, JobState
from hpcbridge.schedulers.local import keeper, processes
from tests.schedulers.local.bench import STUBBORN, Bench, cancel, cancel_all, until_state
from tests.waiting import until


async def test_cancel_ends_even_a_child_in_its_own_session_that_ignores_term(bench: Bench) -> None:
    runner = bench.runner()
    request = bench.request(STUBBORN)
    job_id = await runner.submit(request)
    child = Path(request.directory) / "child"
    await until(lambda: child.exists() and child.read_text().strip())
    await cancel(runner, job_id)
    job = await until_state(runner, job_id)
    assert job.reason == EndReason.CANCELLED
    assert bench.alive() == []
    assert processes.start_ticks(int(child.read_text())) is None


async def test_cancel_ends_a_process_whose_environment_cannot_be_read_just_then(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the middle of execve(2), when /proc shows none."""
    runner, looks = bench.runner(), itertools.count()
    job_id = await runner.submit(bench.request("exec sleep 60"))
    find = processes.with_cookie
    monkeypatch.setattr(processes, "with_cookie", lambda name: find(name) if next(looks) else [])
    await cancel(runner, job_id)
    assert (await until_state(runner, job_id)).reason == EndReason.CANCELLED


async def test_a_script_can_clean_up_after_term(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "KILL_WAIT", 60)
    runner = bench.runner()
    request = bench.request("trap 'echo bye > bye; exit 0' TERM\ntouch up\nsleep 60 & wait")
    job_id = await runner.submit(request)
    await until((Path(request.directory) / "up").exists)
    await cancel(runner, job_id)
    job = await until_state(runner, job_id)
    assert (job.reason, job.exit_status) == (EndReason.CANCELLED, 0)
    assert (Path(request.directory) / "bye").exists()


async def test_what_a_script_leaves_behind_is_ended_with_it(bench: Bench) -> None:
    runner = bench.runner()
    request = bench.request(
        "setsid bash -c 'trap \"\" TERM; touch up; sleep 60' & \n"
        "while [ ! -e up ]; do sleep 0.01; done; exit 0"
    )
    job_id = await runner.submit(request)
    job = await until_state(runner, job_id)
    assert (job.reason, job.exit_status) == (EndReason.FINISHED, 0)
    assert bench.alive() == []


async def test_a_slot_is_free_only_when_nothing_of_the_job_is_left(bench: Bench) -> None:
    runner = bench.runner(slots=1)
    request = bench.request("setsid bash -c 'trap \"\" TERM; sleep 60' & \nsleep 0.05")
    await runner.submit(request)
    second = await runner.submit(bench.request("sleep 60"))
    await until_state(runner, second, JobState.RUNNING)
    assert processes.with_cookie(request.name) == []
    await cancel_all(runner)


@pytest.mark.skipif(not Path("/usr/bin/xvfb-run").exists(), reason="needs xvfb-run")
async def test_xvfb_run_leaves_no_server_behind(bench: Bench) -> None:
    runner = bench.runner()
    request = bench.request("xvfb-run -a bash -c 'touch up; sleep 60'")
    job_id = await runner.submit(request)
    await until((Path(request.directory) / "up").exists)
    assert len(bench.alive()) > 3
    await cancel(runner, job_id)
    await until_state(runner, job_id)
    assert bench.alive() == []


async def test_cancelling_twice_or_what_is_unknown_or_over_is_no_error(bench: Bench) -> None:
    runner = bench.runner()
    job_id = await runner.submit(bench.request(STUBBORN))
    await cancel(runner, job_id, job_id, "99", "", "-1", "abc", "²")
    await cancel(runner, job_id)
    job = await until_state(runner, job_id)
    await cancel(runner, job_id)
    assert (await runner.list_jobs()).jobs[job_id] == job


async def test_a_queued_job_ends_at_once_and_never_starts(bench: Bench) -> None:
    runner = bench.runner(slots=1)
    await runner.submit(bench.request("sleep 60"))
    request = bench.request("touch started")
    waiting = await runner.submit(request)
    await cancel(runner, waiting)
    assert (await runner.list_jobs()).jobs[waiting].reason == EndReason.CANCELLED
    await cancel_all(runner)
    assert not (Path(request.directory) / "started").exists()
