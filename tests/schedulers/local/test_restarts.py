"""Jobs outlive the service, however it ends, and the next one takes them up."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hpcbridge.schedulers.base import EndReason, JobState
from hpcbridge.schedulers.local import processes
from tests.schedulers.local.bench import STUBBORN, Bench, cancel, cancel_all, until_state
from tests.waiting import until


async def test_jobs_go_on_when_the_service_stops_and_are_taken_up_again(bench: Bench) -> None:
    first = bench.runner(slots=1)
    request = bench.request("while [ ! -e end ]; do sleep 0.01; done; exit 7")
    job_id = await first.submit(request)
    waiting = await first.submit(bench.request("sleep 60"))
    await first.close()
    second = bench.runner(slots=1)
    jobs = (await second.list_jobs()).jobs
    assert [jobs[each].state for each in (job_id, waiting)] == [JobState.RUNNING, JobState.QUEUED]
    (Path(request.directory) / "end").touch()
    job = await until_state(second, job_id)
    assert (job.reason, job.exit_status) == (EndReason.FAILED, 7)
    await until_state(second, waiting, JobState.RUNNING)
    await cancel_all(second)


async def test_the_end_of_a_job_is_known_although_nobody_watched(bench: Bench) -> None:
    first = bench.runner()
    request = bench.request("while [ ! -e end ]; do sleep 0.01; done; exit 4")
    job_id = await first.submit(request)
    await first.close()
    (Path(request.directory) / "end").touch()
    await until(lambda: not bench.alive())
    job = await until_state(bench.runner(), job_id)
    assert (job.reason, job.exit_status) == (EndReason.FAILED, 4)


async def test_an_adopted_job_can_be_cancelled(bench: Bench) -> None:
    first = bench.runner()
    job_id = await first.submit(bench.request(STUBBORN))
    await first.close()
    second = bench.runner()
    await cancel(second, job_id)
    assert (await until_state(second, job_id)).reason == EndReason.CANCELLED


async def test_a_job_that_was_being_cancelled_is_ended_by_the_next_service(bench: Bench) -> None:
    first = bench.runner()
    request = bench.request(STUBBORN)
    job_id = await first.submit(request)
    await until((Path(request.directory) / "child").exists)
    await cancel(first, job_id)
    await first.close()
    assert bench.alive()
    assert (await until_state(bench.runner(), job_id)).reason == EndReason.CANCELLED


async def test_walltime_goes_on_while_the_service_is_away(bench: Bench) -> None:
    first = bench.runner()
    job_id = await first.submit(bench.request("sleep 60", walltime=1))
    await first.close()
    await asyncio.sleep(1)
    assert (await until_state(bench.runner(), job_id)).reason == EndReason.TIMED_OUT


async def test_a_job_whose_pid_was_not_written_down_is_found_by_its_cookie(bench: Bench) -> None:
    first = bench.runner()
    job_id = await first.submit(bench.request("sleep 60 & sleep 60 & sleep 60"))
    await first.close()
    keeper = bench.record(job_id)["pid"]
    await until(lambda: len(bench.alive()) == 5)
    bench.change_record(job_id, pid=None, ticks=None)
    second = bench.runner()
    assert (await second.list_jobs()).jobs[job_id].state == JobState.RUNNING
    assert second._runner.jobs.get(int(job_id)).pid == keeper
    await cancel_all(second)


async def test_a_job_that_was_never_started_is_not_believed_to_run(bench: Bench) -> None:
    first = bench.runner(slots=1)
    await first.submit(bench.request("sleep 60"))
    job_id = await first.submit(bench.request("true"))
    await first.close()
    bench.change_record(job_id, state="running", boot=processes.boot_id())
    second = bench.runner()
    assert (await until_state(second, job_id)).reason == EndReason.FAILED
    await cancel_all(second)


async def test_another_process_with_the_jobs_pid_is_neither_watched_nor_ended(
    bench: Bench,
) -> None:
    first = bench.runner()
    job_id = await first.submit(bench.request("exit 5"))
    await until_state(first, job_id)
    await first.close()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        ticks = processes.start_ticks(stranger.pid)
        assert ticks is not None
        bench.change_record(job_id, state="running", reason=None, pid=stranger.pid, ticks=ticks - 1)
        second = bench.runner()
        job = await until_state(second, job_id)
        assert (job.reason, job.exit_status) == (EndReason.FAILED, 5)
        await cancel(second, job_id)
        assert stranger.poll() is None
        stranger.kill()


async def test_jobs_of_before_a_reboot_have_lost_their_node(bench: Bench) -> None:
    first = bench.runner()
    job_id = await first.submit(bench.request("true"))
    await until_state(first, job_id)
    await first.close()
    bench.change_record(job_id, state="running", reason=None, boot="another", pid=1, ticks=1)
    job = (await bench.runner().list_jobs()).jobs[job_id]
    assert (job.state, job.reason) == (JobState.ENDED, EndReason.NODE_FAILED)


async def test_an_earlier_exit_status_is_not_taken_for_a_later_jobs(bench: Bench) -> None:
    directory = bench.root / "runner"
    directory.mkdir()
    (directory / "1.exit").write_text("0")
    runner = bench.runner()
    request = bench.request(STUBBORN)
    assert await runner.submit(request) == "1"
    await until((Path(request.directory) / "child").exists)
    await cancel_all(runner)
    assert (await runner.list_jobs()).jobs["1"].exit_status is None


CLEAN_STOP = """
import asyncio, sys
from pathlib import Path
from hpcbridge.schedulers.base import JobRequest
from hpcbridge.schedulers.local import LocalScheduler

async def main(watcher):
    if watcher:
        watching = getattr(asyncio, watcher)()
        watching.attach_loop(asyncio.get_running_loop())
        asyncio.get_event_loop_policy().set_child_watcher(watching)
    runner = LocalScheduler(Path(sys.argv[1]), slots=1, queue=1)
    await runner.submit(JobRequest(*sys.argv[2:5]))
    await runner.close()

asyncio.run(main(sys.argv[5] if len(sys.argv) > 5 else None))
"""


# Python 3.12 and later use PidfdChildWatcher, whose processes die with the event loop.
@pytest.mark.parametrize(
    "watcher", [None] + (["PidfdChildWatcher"] if sys.version_info < (3, 12) else [])
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_service_that_exits_takes_no_job_with_it(bench: Bench, watcher: str | None) -> None:
    request = bench.request("while [ ! -e end ]; do sleep 0.01; done; exit 6")
    arguments = [str(bench.root / "runner"), request.name, request.directory, request.script]
    service = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLEAN_STOP, *arguments, *([watcher] if watcher else [])
    )
    assert await service.wait() == 0
    runner = bench.runner()
    assert (await runner.list_jobs()).jobs["1"].state == JobState.RUNNING
    (Path(request.directory) / "end").touch()
    assert (await until_state(runner, "1")).exit_status == 6


async def test_a_killed_service_takes_no_job_with_it(bench: Bench) -> None:
    request = bench.request("while [ ! -e end ]; do sleep 0.01; done; exit 6")
    arguments = [str(bench.root / "runner"), request.name, request.directory, request.script]
    program = CLEAN_STOP.replace(
        "await runner.close()",
        "print(flush=True); import os, signal\n    os.killpg(0, signal.SIGKILL)",
    )
    service = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        *arguments,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    assert await service.wait() == -signal.SIGKILL
    (Path(request.directory) / "end").touch()
    assert (await until_state(bench.runner(), "1")).exit_status == 6
