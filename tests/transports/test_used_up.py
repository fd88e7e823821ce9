"""A real sshd whose sessions are used up: by SFTP that does not start, and commands that stall."""

import asyncio
import contextlib
import os
import shlex
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from hpcbridge.errors import ClusterUnreachable, OutcomeUnknown
from hpcbridge.transports import ssh as connection_module
from hpcbridge.transports.base import Slice
from hpcbridge.transports.connection import SSHHost
from hpcbridge.transports.pipes import opener_on
from hpcbridge.transports.ssh import SSHTransport
from tests.opensshd import OpenSSHD
from tests.processes import marked
from tests.waiting import until

pytestmark = pytest.mark.servers

Start = Callable[..., SSHTransport]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts an sshd with these lines in its configuration; a transport to it."""
    async with contextlib.AsyncExitStack() as stack:

        def started(*lines: str) -> SSHTransport:
            (tmp_path / "sshd").mkdir()
            sshd = stack.enter_context(OpenSSHD(tmp_path / "sshd", *lines))
            host = SSHHost(sshd.settings())
            stack.push_async_callback(host.close)
            transport = SSHTransport(host)
            stack.push_async_callback(transport.close)
            return transport

        yield started


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[list[str]]:
    """A command that goes on; all that still do afterwards are ended."""
    mark = f"HPCB_STUCK={tmp_path}"
    yield ["env", mark, "sleep", "900"]
    for pid in marked(mark):
        os.kill(pid, 9)


async def echoed(ssh: SSHTransport) -> str:
    return (await ssh.run(["echo", "1"], timeout=8)).out


WELCOME = "Subsystem sftp /bin/sh -c 'echo Welcome to Example; exec /usr/lib/openssh/sftp-server'"
"""What ``echo`` in the shell's start-up file makes of SFTP."""


@pytest.mark.parametrize("line", [WELCOME, "Subsystem sftp /bin/false", "Subsystem sftp /bin/cat"])
async def test_sftp_that_does_not_start_costs_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr(connection_module, "READ_LIMIT", 0.3)
    ssh = start(line)
    first = await ssh._host.connection()
    for _ in range(12):
        with pytest.raises(ClusterUnreachable, match="gives no SFTP"):
            await ssh.read([Slice("/etc/hostname", 0, 10)])
    assert await echoed(ssh) == "1\n"
    assert await ssh._host.connection() is first


async def test_a_command_that_outlives_its_time_is_ended_there(
    start: Start, tmp_path: Path
) -> None:
    ssh = start()
    first = await ssh._host.connection()
    mark = f"HPCB_STALLED={tmp_path}"
    script = f"trap '' TERM HUP INT; export {mark}; sleep 900 & exec sleep 900"
    for _ in range(2):
        asked = (ssh.run(["sh", "-c", script], timeout=2) for _ in range(4))
        for each in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(each, OutcomeUnknown)
    await until(lambda: not marked(mark), "the commands' end")
    assert await echoed(ssh) == "1\n"
    assert await ssh._host.connection() is first


async def test_a_command_that_was_cancelled_is_ended_there_when_its_time_is_over(
    start: Start, tmp_path: Path
) -> None:
    ssh = start()
    mark = f"HPCB_STALLED={tmp_path}"
    running = asyncio.create_task(ssh.run(["env", mark, "sleep", "900"], timeout=4))
    await until(lambda: marked(mark), "the command")
    running.cancel()
    await until(lambda: not marked(mark), "the command's end")


async def test_a_connection_that_refuses_every_session_is_replaced(
    start: Start, stuck: list[str]
) -> None:
    """Sessions that are none of ours any more, and that sshd still counts."""
    ssh = start("MaxSessions 3")
    assert await echoed(ssh) == "1\n"
    first = await ssh._host.connection()
    await until(lambda: not first._channels, "room for three")
    for _ in range(3):
        await first.create_process(shlex.join(stuck))
    assert await echoed(ssh) == "1\n"
    assert await ssh._host.connection() is not first
    assert not first.is_closed()  # what runs over it goes on
    assert await echoed(ssh) == "1\n"


async def test_a_refused_command_has_not_run_and_the_next_one_finds_room(
    start: Start, tmp_path: Path, stuck: list[str]
) -> None:
    ssh = start("MaxSessions 1")
    assert await echoed(ssh) == "1\n"
    first = await ssh._host.connection()
    pipe = await opener_on(ssh._host)(stuck)
    with pytest.raises(ClusterUnreachable, match="refused to run touch"):
        await ssh.run(["touch", str(tmp_path / "ran")], timeout=1.2)
    assert not (tmp_path / "ran").exists()
    assert await echoed(ssh) == "1\n"
    assert await ssh._host.connection() is not first
    await pipe.close()


async def test_one_session_a_connection_is_enough(start: Start, tmp_path: Path) -> None:
    """The files keep theirs, so commands go over another connection, one after the other."""
    ssh = start("MaxSessions 1")
    (tmp_path / "log").write_text("x")
    wanted = [Slice(str(tmp_path / "log"), 0, 9)]
    assert await ssh.read(wanted) == [b"x"]
    assert await echoed(ssh) == "1\n"
    second = await ssh._host.connection()
    for _ in range(3):
        assert await ssh.read(wanted) == [b"x"]
        assert await asyncio.gather(*(echoed(ssh) for _ in range(3))) == ["1\n"] * 3
    assert await ssh._host.connection() is second


async def test_a_busy_connection_is_not_replaced(start: Start) -> None:
    ssh = start("MaxSessions 1")
    first = await ssh._host.connection()
    long = asyncio.create_task(ssh.run(["sleep", "4"], timeout=60))
    assert (await ssh.run(["echo", "1"], timeout=60)).out == "1\n"
    assert (await long).exit_status == 0
    assert await ssh._host.connection() is first


async def test_a_file_of_two_names_is_not_read(start: Start, tmp_path: Path) -> None:
    ssh = start()
    directory = tmp_path / "s"
    directory.mkdir()
    (directory / "output.log").write_text("mine")
    (tmp_path / "database").write_text("theirs")
    os.link(tmp_path / "database", directory / "status")
    wanted = [Slice(str(directory / name), 0, 9) for name in ("output.log", "status")]
    assert await ssh.read(wanted) == [b"mine", None]
