"""Commands of this machine."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from hpcbridge.errors import ClusterUnreachable, OutcomeUnknown
from hpcbridge.schedulers.processes import start_ticks
from hpcbridge.transports.local import LocalTransport


async def test_a_secret_of_the_service_does_not_reach_a_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HPCBRIDGE_STORE__URL", "s3cret")
    monkeypatch.setenv("SBATCH_EXPORT", "ALL")
    monkeypatch.setenv("SSH_AUTH_SOCK", "agent")
    done = await LocalTransport().run(["env"], timeout=5)
    keys = {line.partition("=")[0] for line in done.out.splitlines()}
    assert not keys & {"HPCBRIDGE_STORE__URL", "SBATCH_EXPORT", "SSH_AUTH_SOCK"}
    assert {"PATH", "HOME"} <= keys


async def test_without_a_path_commands_are_found_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PATH")
    assert (await LocalTransport().run(["true"], timeout=5)).exit_status == 0


async def test_a_timeout_ends_the_whole_group(tmp_path: Path) -> None:
    script = f"sleep 60 & echo $! > {tmp_path}/child; trap '' TERM; wait"
    with pytest.raises(OutcomeUnknown):
        await LocalTransport().run(["sh", "-c", script], timeout=0.5)
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 5
    while start_ticks(child) is not None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_a_child_that_keeps_the_streams_open_cannot_hold_up_a_timeout(
    tmp_path: Path,
) -> None:
    script = f"setsid sh -c 'echo $$ > {tmp_path}/child; exec sleep 60' & sleep 60"
    began = time.monotonic()
    try:
        with pytest.raises(OutcomeUnknown):
            await LocalTransport().run(["sh", "-c", script], timeout=0.5)
        assert time.monotonic() - began < 5
    finally:
        os.kill(int((tmp_path / "child").read_text()), 9)


async def test_a_cancelled_command_is_ended(tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid; exec sleep 60"
    task = asyncio.create_task(LocalTransport().run(["sh", "-c", script], timeout=30))
    deadline = time.monotonic() + 5
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert start_ticks(int((tmp_path / "pid").read_text())) is None


async def test_a_missing_command_says_what_to_do() -> None:
    with pytest.raises(ClusterUnreachable, match="Install it"):
        await LocalTransport().run(["no-such-command"], timeout=5)
