"""The embedded batch runner with real processes: queue, ends, crashes; nothing is orphaned."""

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hpcbridge.errors import ClusterError, NoCapacity
from hpcbridge.schedulers import local, processes
from hpcbridge.schedulers.base import EndReason, Forecast, JobInfo, JobRequest, JobState
from hpcbridge.schedulers.local import LocalScheduler
from tests.waiting import until


class Bench:
    """A directory of jobs, and runners on it that end with the test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names: list[str] = []
        self.runners: list[LocalScheduler] = []

    def runner(self, *, slots: int = 2, queue: int = 8) -> LocalScheduler:
        runner = LocalScheduler(self.root / "runner", slots=slots, queue=queue)
        self.runners.append(runner)
        return runner

    def request(self, script: str, *, walltime: int | None = None) -> JobRequest:
        name = f"hpcb-test-{os.getpid()}-{id(self)}-{len(self.names)}"
        self.names.append(name)
        directory = self.root / name
        directory.mkdir()
        path = directory / "job.sh"
        path.write_text("#!/bin/bash\n" + textwrap.dedent(script))
        path.chmod(0o700)
        return JobRequest(name, str(directory), str(path), walltime)

    def alive(self) -> list[int]:
        return [pid for name in self.names for pid in processes.with_cookie(name)]

    def record(self, job_id: str) -> dict:
        return json.loads((self.root / "runner" / f"{job_id}.json").read_text())

    def change_record(self, job_id: str, **changes: object) -> None:
        path = self.root / "runner" / f"{job_id}.json"
        path.write_text(json.dumps(self.record(job_id) | changes))


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(local, "KILL_WAIT", 0.3)
    bench = Bench(tmp_path)
    yield bench
    for runner in bench.runners:
        await runner.close()
    left = bench.alive()
    processes.send(signal.SIGKILL, left)
    assert left == []


async def until_state(
    runner: LocalScheduler, job_id: str, state: JobState = JobState.ENDED
) -> JobInfo:
    async def there() -> JobInfo | None:
        job = (await runner.list_jobs()).jobs[job_id]
        return job if job.state == state else None

    found: JobInfo = await until(there, f"job {job_id} {state}")
    return found


async def cancel_all(runner: LocalScheduler) -> None:
    jobs = (await runner.list_jobs()).jobs
    await runner.cancel(jobs)
    for job_id in jobs:
        await until_state(runner, job_id)


# -- slots and queue


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
    assert jobs[ids[3]].detail == "waiting for a free slot, 2 ahead"
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
    await runner.cancel([ids[1]])
    assert (await runner.outlook([ids[2]]))[ids[2]].ahead == 0
    await runner.cancel([ids[2], ids[0]])
    await until_state(runner, ids[0])


async def test_no_start_is_promised_behind_a_job_without_a_walltime(bench: Bench) -> None:
    runner = bench.runner(slots=1)
    running = await runner.submit(bench.request("sleep 60"))
    waiting = await runner.submit(bench.request("sleep 60"))
    assert (await runner.outlook([waiting]))[waiting].start is None
    await runner.cancel([waiting, running])
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
    await runner.cancel(reversed(ids))
    for each in ids:
        await until_state(runner, each)


async def test_a_full_queue_is_told_and_has_room_again_later(bench: Bench) -> None:
    runner = bench.runner(slots=1, queue=1)
    first = await runner.submit(bench.request("sleep 60"))
    await runner.submit(bench.request("sleep 60"))
    with pytest.raises(NoCapacity, match=r"All slots \(1\) and places in the queue \(1\)"):
        await runner.submit(bench.request("true"))
    await runner.cancel([first])
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


# -- how jobs end


async def test_the_exit_status_is_told(bench: Bench) -> None:
    runner = bench.runner()
    job = await until_state(runner, await runner.submit(bench.request("exit 3")))
    assert (job.reason, job.exit_status) == (EndReason.FAILED, 3)


async def test_a_signal_is_told_as_its_negated_number(bench: Bench) -> None:
    runner = bench.runner()
    job = await until_state(runner, await runner.submit(bench.request("kill -SEGV $$")))
    assert (job.reason, job.exit_status) == (EndReason.FAILED, -signal.SIGSEGV)


async def test_a_script_that_cannot_be_run_fails(bench: Bench) -> None:
    runner = bench.runner()
    request = bench.request("true")
    Path(request.script).chmod(0o600)
    job = await until_state(runner, await runner.submit(request))
    assert (job.reason, job.exit_status) == (EndReason.FAILED, 126)


async def test_a_job_without_its_directory_fails_and_says_why(bench: Bench) -> None:
    runner = bench.runner()
    request = JobRequest("hpcb-none", str(bench.root / "none"), str(bench.root / "none/job.sh"))
    job = await until_state(runner, await runner.submit(request))
    assert job.reason == EndReason.FAILED
    assert "did not start: No such file or directory" in job.detail


async def test_a_link_in_place_of_the_output_is_not_followed(bench: Bench) -> None:
    runner = bench.runner()
    request = bench.request("echo hello")
    victim = bench.root / "victim"
    victim.write_text("")
    (Path(request.directory) / "scheduler.out").symlink_to(victim)
    job = await until_state(runner, await runner.submit(request))
    assert job.reason == EndReason.FAILED
    assert victim.read_text() == ""


async def test_a_job_is_ended_when_its_time_is_over(bench: Bench) -> None:
    runner = bench.runner()
    began = time.monotonic()
    job_id = await runner.submit(bench.request("sleep 600", walltime=1))
    job = await until_state(runner, job_id)
    assert job.reason == EndReason.TIMED_OUT
    assert time.monotonic() - began > 0.9


async def test_jobs_do_not_inherit_the_services_secrets_or_ignored_signals(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPCBRIDGE_STORE__URL", "postgresql://u:s3cret@h/d")
    runner = bench.runner()
    request = bench.request("env; ls -l /proc/self/fd | wc -l; grep SigIgn /proc/self/status")
    await until_state(runner, await runner.submit(request))
    text = (Path(request.directory) / "scheduler.out").read_text()
    assert "s3cret" not in text
    assert f"{processes.COOKIE}={request.name}" in text
    ignored = int(text.rpartition("SigIgn:")[2].split()[0], 16)
    assert ignored & 0x7FFFFFFF == 0


# -- cancelling


STUBBORN = """
trap '' TERM
setsid bash -c 'trap "" TERM HUP; echo $$ > child; while :; do sleep 0.1; done' &
while :; do sleep 0.1; done
"""


async def test_cancel_ends_even_a_child_in_its_own_session_that_ignores_term(bench: Bench) -> None:
    runner = bench.runner()
    request = bench.request(STUBBORN)
    job_id = await runner.submit(request)
    child = Path(request.directory) / "child"
    await until(lambda: child.exists() and child.read_text().strip())
    await runner.cancel([job_id])
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
    await runner.cancel([job_id])
    assert (await until_state(runner, job_id)).reason == EndReason.CANCELLED


async def test_a_script_can_clean_up_after_term(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "KILL_WAIT", 60)
    runner = bench.runner()
    request = bench.request("trap 'echo bye > bye; exit 0' TERM\ntouch up\nsleep 60 & wait")
    job_id = await runner.submit(request)
    await until((Path(request.directory) / "up").exists)
    await runner.cancel([job_id])
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
    await runner.cancel([job_id])
    await until_state(runner, job_id)
    assert bench.alive() == []


async def test_cancelling_twice_or_what_is_unknown_or_over_is_no_error(bench: Bench) -> None:
    runner = bench.runner()
    job_id = await runner.submit(bench.request(STUBBORN))
    await runner.cancel([job_id, job_id, "99", "", "-1", "abc", "²"])
    await runner.cancel([job_id])
    job = await until_state(runner, job_id)
    await runner.cancel([job_id])
    assert (await runner.list_jobs()).jobs[job_id] == job


async def test_a_queued_job_ends_at_once_and_never_starts(bench: Bench) -> None:
    runner = bench.runner(slots=1)
    await runner.submit(bench.request("sleep 60"))
    request = bench.request("touch started")
    waiting = await runner.submit(request)
    await runner.cancel([waiting])
    assert (await runner.list_jobs()).jobs[waiting].reason == EndReason.CANCELLED
    await cancel_all(runner)
    assert not (Path(request.directory) / "started").exists()


# -- the service ends, crashes, and comes back


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
    await second.cancel([job_id])
    assert (await until_state(second, job_id)).reason == EndReason.CANCELLED


async def test_a_job_that_was_being_cancelled_is_ended_by_the_next_service(bench: Bench) -> None:
    first = bench.runner()
    request = bench.request(STUBBORN)
    job_id = await first.submit(request)
    await until((Path(request.directory) / "child").exists)
    await first.cancel([job_id])
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
    assert second._jobs[int(job_id)].pid == keeper
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
        await second.cancel([job_id])
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


# -- what is kept


async def test_ended_jobs_are_forgotten_after_a_while_but_ids_are_not_used_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = bench.runner()
    one = await runner.submit(bench.request("true"))
    await until_state(runner, one)
    monkeypatch.setattr(local, "REMEMBER", 0.0)
    two = await runner.submit(bench.request("true"))
    await until_state(runner, two)
    await until(lambda: int(one) not in runner._jobs)
    kept = {f"{two}.exit", f"{two}.json"}
    await until(lambda: {path.name for path in (bench.root / "runner").iterdir()} == kept)
    await runner.close()
    assert int(await bench.runner().submit(bench.request("true"))) > int(two)
    await until_state(bench.runners[-1], "3")


async def test_a_record_that_cannot_be_removed_does_not_stop_the_queue(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "REMEMBER", 0.0)
    runner = bench.runner(slots=1)
    one = await runner.submit(bench.request("true"))
    await until_state(runner, one)
    record = bench.root / "runner" / f"{one}.exit"
    record.unlink()
    record.mkdir()
    gate = bench.root / "gate"
    two = await runner.submit(bench.request(f"while [ ! -e {gate} ]; do sleep 0.01; done"))
    three = await runner.submit(bench.request("true"))
    gate.touch()
    await until_state(runner, three)
    assert two not in (await runner.list_jobs()).jobs


async def test_a_broken_job_file_does_not_stop_the_runner(bench: Bench) -> None:
    directory = bench.root / "runner"
    directory.mkdir()
    for number, text in enumerate(["", "[]", "{", '{"job_id": 3}', '{"future": 1}', "null"]):
        (directory / f"{number}.json").write_text(text)
    runner = bench.runner()
    assert (await runner.list_jobs()).jobs == {}
    job_id = await runner.submit(bench.request("true"))
    assert (await until_state(runner, job_id)).reason == EndReason.FINISHED


async def test_a_directory_that_cannot_be_written_refuses_the_job(bench: Bench) -> None:
    (bench.root / "runner").write_text("a file")
    runner = bench.runner()
    with pytest.raises(ClusterError, match="cannot write"):
        await runner.submit(bench.request("true"))
    assert (await runner.list_jobs()).jobs == {}


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Make the runner's files unwritable while on, wherever they are."""
    really, full = local._write_json, False

    def write(path: Path, data: dict) -> None:
        if full:
            raise OSError(28, "No space left on device")
        really(path, data)

    monkeypatch.setattr(local, "_write_json", write)

    def switch(on: bool) -> None:
        nonlocal full
        full = on

    return switch


async def test_a_full_disk_neither_stops_the_queue_nor_keeps_a_job_alive(
    bench: Bench, full_disk: Callable[[bool], None]
) -> None:
    runner = bench.runner(slots=1)
    running = await runner.submit(bench.request("sleep 60"))
    waiting = await runner.submit(bench.request("true"))
    full_disk(True)
    with pytest.raises(ClusterError, match="No space left"):
        await runner.submit(bench.request("true"))
    await runner.cancel([running])
    assert (await until_state(runner, running)).reason == EndReason.CANCELLED
    job = await until_state(runner, waiting)
    assert job.reason == EndReason.FAILED
    assert "No space left on device" in job.detail
    full_disk(False)
    last = await runner.submit(bench.request("true"))
    assert (await until_state(runner, last)).reason == EndReason.FINISHED


async def test_jobs_end_also_where_the_kernel_cannot_tell(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_open_process", lambda pid: None)
    runner = bench.runner()
    job = await until_state(runner, await runner.submit(bench.request("sleep 0.2; exit 2")))
    assert job.exit_status == 2


async def test_no_zombie_is_left(bench: Bench) -> None:
    runner = bench.runner()
    for script in ("true", "sleep 0.1"):
        job_id = await runner.submit(bench.request(script))
        await until_state(runner, job_id)
        pid = bench.record(job_id)["pid"]
        assert not Path(f"/proc/{pid}").exists()
