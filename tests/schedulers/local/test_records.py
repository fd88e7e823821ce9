"""What is kept of jobs on disk, and what happens when it cannot be."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hpcbridge.errors import ClusterError
from hpcbridge.schedulers.base import EndReason
from hpcbridge.schedulers.local import processes, records
from hpcbridge.schedulers.local import runner as running
from tests.schedulers.local.bench import Bench, cancel, until_state
from tests.waiting import until


async def test_ended_jobs_are_forgotten_after_a_while_but_ids_are_not_used_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = bench.runner()
    one = await runner.submit(bench.request("true"))
    await until_state(runner, one)
    monkeypatch.setattr(running, "REMEMBER", 0.0)
    two = await runner.submit(bench.request("true"))
    await until_state(runner, two)
    await until(lambda: runner._runner.jobs.get(int(one)) is None)
    kept = {f"{two}.exit", f"{two}.json"}
    await until(lambda: {path.name for path in (bench.root / "runner").iterdir()} == kept)
    await runner.close()
    assert int(await bench.runner().submit(bench.request("true"))) > int(two)
    await until_state(bench.runners[-1], "3")


async def test_a_record_that_cannot_be_removed_does_not_stop_the_queue(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "REMEMBER", 0.0)
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
    really, full = records._write_json, False

    def write(path: Path, data: dict) -> None:
        if full:
            raise OSError(28, "No space left on device")
        really(path, data)

    monkeypatch.setattr(records, "_write_json", write)

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
    await cancel(runner, running)
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
