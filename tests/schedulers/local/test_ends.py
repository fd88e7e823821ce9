"""How jobs end, and how that is told."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcbridge.schedulers.base import EndReason, JobRequest
from hpcbridge.schedulers.local import processes
from tests.schedulers.local.bench import Bench, until_state


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


@pytest.mark.parametrize("link", [os.symlink, os.link])
async def test_a_link_in_place_of_the_output_is_not_written_to(
    bench: Bench, link: Callable[[Path, Path], None]
) -> None:
    runner = bench.runner()
    request = bench.request("echo hello")
    victim, output = bench.root / "victim", Path(request.directory) / "scheduler.out"
    victim.write_text("")
    link(victim, output)
    job = await until_state(runner, await runner.submit(request))
    assert job.reason == EndReason.FINISHED
    assert victim.read_text() == ""
    assert output.read_text() == "hello\n"


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
