"""Commands of this machine."""

import asyncio
import fcntl
import os
import signal
import sys
from pathlib import Path
from subprocess import Popen
from threading import Event
from typing import Any

import pytest

from hpcbridge.errors import ClusterUnreachable, OutcomeUnknown
from hpcbridge.schedulers.local.processes import start_ticks
from hpcbridge.transports import local as local_module
from hpcbridge.transports.base import Slice
from hpcbridge.transports.local import LocalTransport
from tests.waiting import until


async def test_a_secret_of_the_service_does_not_reach_a_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HPCBRIDGE_STORE__URL", "s3cret")
    monkeypatch.setenv("SBATCH_EXPORT", "ALL")
    monkeypatch.setenv("SSH_AUTH_SOCK", "agent")
    done = await LocalTransport().run(["env"], timeout=60)
    keys = {line.partition("=")[0] for line in done.out.splitlines()}
    assert not keys & {"HPCBRIDGE_STORE__URL", "SBATCH_EXPORT", "SSH_AUTH_SOCK"}
    assert {"PATH", "HOME"} <= keys


async def test_without_a_path_commands_are_found_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PATH")
    assert (await LocalTransport().run(["true"], timeout=60)).exit_status == 0


async def test_a_timeout_ends_the_whole_group(tmp_path: Path) -> None:
    script = f"sleep 60 & echo $! > {tmp_path}/child; trap '' TERM; wait"
    with pytest.raises(OutcomeUnknown):
        await LocalTransport().run(["sh", "-c", script], timeout=2)
    child = int((tmp_path / "child").read_text())
    await until(lambda: start_ticks(child) is None, "the child's end")


async def test_a_child_that_keeps_the_streams_open_cannot_hold_up_a_timeout(
    tmp_path: Path,
) -> None:
    script = f"setsid sh -c 'echo $$ > {tmp_path}/child; exec sleep 60' & sleep 60"
    try:
        with pytest.raises(OutcomeUnknown):
            await LocalTransport().run(["sh", "-c", script], timeout=2)
    finally:
        os.kill(int((tmp_path / "child").read_text()), 9)


async def test_a_cancelled_command_is_ended(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"echo $$ > {pid}; exec sleep 60"
    task = asyncio.create_task(LocalTransport().run(["sh", "-c", script], timeout=60))
    await until(lambda: pid.exists() and pid.read_text(), "the command")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert start_ticks(int(pid.read_text())) is None


async def test_a_missing_command_says_what_to_do() -> None:
    with pytest.raises(ClusterUnreachable, match="Install it"):
        await LocalTransport().run(["no-such-command"], timeout=60)


async def test_a_command_that_cannot_be_killed_is_left_to_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As one that waits for a file server which is gone: it ends when that is back, or never."""
    started, create = [], asyncio.create_subprocess_exec

    async def creating(*argv: str, **how: Any) -> asyncio.subprocess.Process:
        started.append(await create(*argv, **how))
        return started[0]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", creating)
    monkeypatch.setattr(local_module.os, "killpg", lambda *_: None)
    monkeypatch.setattr(Popen, "kill", lambda _: None)
    monkeypatch.setattr(local_module, "KILL_WAIT", 0.1)
    with pytest.raises(OutcomeUnknown):
        await asyncio.wait_for(LocalTransport().run(["sleep", "300"], timeout=0.1), 60)
    monkeypatch.undo()
    os.killpg(started[0].pid, signal.SIGKILL)
    await asyncio.wait_for(started[0].wait(), 60)


async def test_a_file_server_that_is_gone_is_told_in_time_and_holds_up_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opens a file there waits for it to come back, and cannot be cancelled."""
    back, lstat = Event(), Path.is_symlink
    monkeypatch.setattr(local_module, "_read", lambda *_: back.wait(60) and None)
    monkeypatch.setattr(Path, "is_symlink", lambda path: back.wait(60) and lstat(path))
    monkeypatch.setattr(local_module, "FILES_LIMIT", 0.1)
    transport = LocalTransport()
    for _ in range(10):
        with pytest.raises(ClusterUnreachable, match="did not answer"):
            await transport.read([Slice(str(tmp_path / "log"), 0, 9)])
        with pytest.raises(ClusterUnreachable, match="did not answer"):
            await transport.remove(str(tmp_path / "s"))
    assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 60) == 1
    assert await LocalTransport().read([]) == []
    back.set()
    monkeypatch.setattr(local_module, "FILES_LIMIT", 60)
    assert await transport.read([Slice(str(tmp_path / "log"), 0, 9)]) == [None]
    await transport.close()


# -- files of two names


async def test_a_file_of_two_names_is_not_read_and_keeps_its_locks(tmp_path: Path) -> None:
    """It may be the database: SQLite would lose its locks when another descriptor is closed."""
    database, log = tmp_path / "database", tmp_path / "output.log"
    database.write_text("SQLite format 3")
    os.link(database, log)
    transport = LocalTransport()
    with database.open("r+b") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        assert await transport.read([Slice(str(log), 0, 100)]) == [None]
        script = f"import fcntl; fcntl.lockf(open('{database}', 'r+b'), fcntl.LOCK_EX | 4)"
        done = await transport.run([sys.executable, "-c", script], timeout=60)
        assert "BlockingIOError" in done.err
    log.unlink()
    assert await transport.read([Slice(str(database), 0, 100)]) == [b"SQLite format 3"]
