"""The SSH transport against a peer that can be made to fail."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from hpcbridge.errors import ClusterError, ClusterUnreachable, OutcomeUnknown
from hpcbridge.transports import ssh as connection_module
from hpcbridge.transports.base import Slice, StagedFile
from hpcbridge.transports.connection import SSHHost
from hpcbridge.transports.pipes import opener_on
from hpcbridge.transports.ssh import SSHTransport
from tests.sshpeer import SSHPeer
from tests.waiting import until

T = TypeVar("T")


async def reached(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer, once the peer can be reached again."""
    while True:
        with contextlib.suppress(ClusterError):
            return await ask()
        await asyncio.sleep(0.01)


async def test_a_connection_that_drops_while_a_command_runs_leaves_its_outcome_unknown(
    ssh: SSHTransport, peer: SSHPeer, tmp_path: Path
) -> None:
    running = asyncio.create_task(
        ssh.run(["sh", "-c", f"touch {tmp_path}/up; sleep 600"], timeout=300)
    )
    await until((tmp_path / "up").exists, "the command")
    peer.drop()
    with pytest.raises(OutcomeUnknown, match="was lost while sh ran"):
        async with asyncio.timeout(60):
            await running


async def test_the_next_command_after_a_drop_connects_again(
    ssh: SSHTransport, peer: SSHPeer
) -> None:
    assert (await ssh.run(["echo", "1"], timeout=60)).out == "1\n"
    peer.drop()
    done = await reached(lambda: ssh.run(["echo", "2"], timeout=60))
    assert done.out == "2\n"
    assert peer.connections == 2


async def test_files_are_read_again_after_a_drop(
    ssh: SSHTransport, peer: SSHPeer, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"hello")
    wanted = [Slice(str(path), 0, 10)]
    assert await ssh.read(wanted) == [b"hello"]
    peer.drop()
    assert await reached(lambda: ssh.read(wanted)) == [b"hello"]


async def test_a_stalled_peer_is_told_in_time(ssh: SSHTransport, peer: SSHPeer) -> None:
    await ssh.run(["true"], timeout=60)
    peer.stall()
    with pytest.raises(OutcomeUnknown, match=r"did not answer within 0.3 s"):
        await ssh.run(["true"], timeout=0.3)
    peer.resume()
    assert (await ssh.run(["true"], timeout=60)).exit_status == 0


async def test_a_stalled_read_is_told_in_time(
    ssh: SSHTransport, peer: SSHPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log").write_text("x")
    wanted = [Slice(str(tmp_path / "log"), 0, 10)]
    await ssh.read(wanted)
    peer.stall()
    with monkeypatch.context() as patched:
        patched.setattr(connection_module, "READ_LIMIT", 0.3)
        with pytest.raises(ClusterUnreachable, match="no answer in time"):
            await ssh.read(wanted)
    peer.resume()
    assert await ssh.read(wanted) == [b"x"]


async def test_removing_works_although_the_connection_with_its_open_files_was_lost(
    ssh: SSHTransport, peer: SSHPeer, tmp_path: Path
) -> None:
    directory = tmp_path / "s"
    await ssh.stage(str(directory), {"log": StagedFile(b"x")})
    await ssh.read([Slice(str(directory / "log"), 0, 10)])
    peer.drop()
    await reached(lambda: ssh.remove(str(directory)))
    assert not directory.exists()


async def test_one_connection_serves_all_who_ask_at_once(
    ssh: SSHTransport, peer: SSHPeer, tmp_path: Path
) -> None:
    (tmp_path / "log").write_text("x")
    await asyncio.gather(
        *(ssh.run(["true"], timeout=60) for _ in range(5)),
        *(ssh.read([Slice(str(tmp_path / "log"), 0, 10)]) for _ in range(5)),
        ssh.home(),
    )
    assert peer.connections == 1


async def test_a_log_that_was_replaced_is_seen_when_its_handle_is_old(
    ssh: SSHTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an NFS client needs it: only opening a file asks the server how long it is now."""
    path = tmp_path / "log"
    path.write_bytes(b"old")
    wanted = [Slice(str(path), 0, 10)]
    assert await ssh.read(wanted) == [b"old"]
    path.unlink()
    path.write_bytes(b"new")
    assert await ssh.read(wanted) == [b"old"]
    monkeypatch.setattr(connection_module, "HANDLE_AGE", 0.0)
    assert await ssh.read(wanted) == [b"new"]


async def test_no_handle_is_left_open_on_the_peer(
    ssh: SSHTransport, peer: SSHPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"log{number}" for number in range(5)]
    for path in paths:
        path.write_text("x")
    monkeypatch.setattr(connection_module, "HANDLE_AGE", 0.0)

    def opened() -> int:
        found = (each.resolve() for each in Path("/proc/self/fd").iterdir())
        return sum(each in paths for each in found)

    for _ in range(4):
        await asyncio.gather(
            *(ssh.read([Slice(str(path), 0, 9) for path in paths]) for _ in range(3))
        )
    assert opened() == len(paths)
    monkeypatch.setattr(connection_module, "HANDLE_AGE", 60.0)
    for path in paths:
        await ssh.remove(str(path))
    assert opened() == 0


async def test_no_secret_of_a_session_is_in_an_error(
    ssh: SSHTransport, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "s").mkdir()
    with pytest.raises(ClusterError) as caught:
        await ssh.stage(str(tmp_path / "s"), {"secret": StagedFile(b"s3cret")})
    assert "s3cret" not in str(caught.value) + caplog.text


async def test_a_home_that_a_noisy_login_shell_hides_is_found(
    peer: SSHPeer, host: SSHHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = peer.run_process
    monkeypatch.setattr(
        peer, "run_process", lambda channel, command: run(channel, f"echo '<<hi>>'; {command}")
    )
    assert await SSHTransport(host).home() == str(peer.home)


async def test_an_account_without_a_home_is_told(
    peer: SSHPeer, host: SSHHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = peer.run_process
    monkeypatch.setattr(peer, "run_process", lambda channel, command: run(channel, "true"))
    with pytest.raises(ClusterError, match="session_root"):
        await SSHTransport(host).home()


async def test_a_command_waits_until_the_host_has_room_for_another_session(
    ssh: SSHTransport, peer: SSHPeer
) -> None:
    await ssh.home()
    peer.refuse_sessions = 3
    assert (await ssh.run(["echo", "1"], timeout=60)).out == "1\n"
    assert peer.refuse_sessions == 0


async def test_a_command_that_waits_for_room_runs_on_the_next_connection_if_that_one_is_lost(
    ssh: SSHTransport, peer: SSHPeer
) -> None:
    await ssh.home()
    peer.refuse_sessions = 10_000
    running = asyncio.create_task(ssh.run(["echo", "1"], timeout=60))
    await until(lambda: peer.refuse_sessions < 9_998)
    peer.drop()
    peer.refuse_sessions = 0
    assert (await running).out == "1\n"
    assert peer.connections == 2


async def test_a_command_that_found_no_room_in_its_time_has_not_run(
    ssh: SSHTransport, peer: SSHPeer, tmp_path: Path
) -> None:
    await ssh.home()
    peer.refuse_sessions = 10_000
    with pytest.raises(ClusterUnreachable, match="refused to run touch") as caught:
        await ssh.run(["touch", str(tmp_path / "ran")], timeout=1.5)
    assert not isinstance(caught.value, OutcomeUnknown)
    assert not (tmp_path / "ran").exists()


def sessions(peer: SSHPeer) -> int:
    """How many channels are open on the peer."""
    channels = [each for line in peer._transports for each in line._channels.values()]
    return sum(not channel.closed for channel in channels)


@pytest.mark.parametrize("what", ["a command", "files", "a pipe"])
async def test_what_was_given_up_while_it_was_opened_is_closed_when_it_is_there(
    ssh: SSHTransport, peer: SSHPeer, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """sshd has room for ten: each that stayed open would be one less until the line is lost."""
    monkeypatch.setattr(connection_module, "READ_LIMIT", 0.3)
    await ssh.home()
    await until(lambda: not sessions(peer))
    peer.stall()
    if what == "a command":
        work: Awaitable[object] = ssh.run(["true"], timeout=0.3)
    else:
        work = opener_on(ssh._host)(["true"]) if what == "a pipe" else ssh.read([Slice("x", 0, 9)])
    with pytest.raises((ClusterUnreachable, TimeoutError)):
        await asyncio.wait_for(work, 1)
    peer.resume()
    assert (await ssh.run(["echo", "1"], timeout=60)).out == "1\n"
    await until(lambda: not sessions(peer))


async def test_a_reader_that_is_cancelled_leaves_no_further_handle_open(
    ssh: SSHTransport, tmp_path: Path
) -> None:
    paths = [tmp_path / f"log{number}" for number in range(5)]
    for path in paths:
        path.write_text("x")
    wanted = [Slice(str(path), 0, 9) for path in paths]

    def opened() -> int:
        found = (each.resolve() for each in Path("/proc/self/fd").iterdir())
        return sum(each in paths for each in found)

    await ssh.read(wanted)
    for pause in range(20):
        task = asyncio.create_task(ssh.read(wanted))
        await asyncio.wait({task}, timeout=0.002 * pause)
        task.cancel()
        await asyncio.wait({task})
    await until(lambda: opened() == len(paths))
