"""The fault-injecting SSH peer is itself right: a real client sees what each mode promises."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import pytest_asyncio

from tests.sshpeer import SSHPeer

_WAIT = 60


@pytest_asyncio.fixture
async def echo_port() -> AsyncIterator[int]:
    handlers: list[asyncio.Task[None] | None] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    async with asyncio.timeout(_WAIT):
        await asyncio.gather(*filter(None, handlers))


def connect(peer: SSHPeer, **options: Any) -> Any:
    return asyncssh.connect("peer", config=[str(peer.config)], connect_timeout=_WAIT, **options)


async def test_a_command_runs_in_the_home_with_its_input_output_and_status(peer: SSHPeer) -> None:
    async with connect(peer) as connection:
        done = await connection.run("cat; pwd; echo $HOME; echo oops >&2; exit 3", input="in\n")
    assert done.stdout == f"in\n{peer.home}\n{peer.home}\n"
    assert (done.stderr, done.exit_status) == ("oops\n", 3)


async def test_a_big_output_arrives_whole(peer: SSHPeer) -> None:
    async with connect(peer) as connection:
        done = await connection.run("head -c 5000000 /dev/zero", encoding=None)
    assert len(done.stdout) == 5_000_000


async def test_files_are_written_read_from_an_offset_renamed_and_listed(peer: SSHPeer) -> None:
    async with connect(peer) as connection, connection.start_sftp_client() as sftp:
        await sftp.mkdir("session", asyncssh.SFTPAttrs(permissions=0o700))
        async with sftp.open("session/beside", "wb", asyncssh.SFTPAttrs(permissions=0o600)) as out:
            await out.write(b"hello world")
        await sftp.posix_rename("session/beside", "session/log")
        async with sftp.open("session/log", "rb") as file:
            assert await file.read(5, offset=6) == b"world"
        assert set(await sftp.listdir("session")) >= {"log"}
        with pytest.raises(asyncssh.SFTPNoSuchFile):
            await sftp.stat("session/beside")
    assert (peer.home / "session").stat().st_mode & 0o777 == 0o700
    assert (peer.home / "session/log").stat().st_mode & 0o777 == 0o600


async def test_a_forward_reaches_a_real_port_and_passes_the_end_on(
    peer: SSHPeer, echo_port: int
) -> None:
    async with connect(peer) as connection:
        reader, writer = await connection.open_connection("127.0.0.1", echo_port)
        writer.write(b"x" * 300_000)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), _WAIT) == b"x" * 300_000


async def test_a_closed_port_is_reported_as_such(peer: SSHPeer, unused_tcp_port: int) -> None:
    async with connect(peer) as connection:
        with pytest.raises(asyncssh.ChannelOpenError) as caught:
            await connection.open_connection("127.0.0.1", unused_tcp_port)
    assert caught.value.code == asyncssh.OPEN_CONNECT_FAILED


async def test_channels_can_be_refused_and_allowed_again(peer: SSHPeer, echo_port: int) -> None:
    async with connect(peer) as connection:
        peer.refuse_channels = True
        with pytest.raises(asyncssh.ChannelOpenError) as caught:
            await connection.open_connection("127.0.0.1", echo_port)
        assert caught.value.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED
        assert (await connection.run("echo still here")).stdout == "still here\n"
        peer.refuse_channels = False
        _, writer = await connection.open_connection("127.0.0.1", echo_port)
        writer.close()


async def test_a_refused_key_is_a_permission_error(peer: SSHPeer) -> None:
    peer.refuse_key = True
    with pytest.raises(asyncssh.PermissionDenied):
        await connect(peer)


async def test_another_host_key_is_noticed(peer: SSHPeer) -> None:
    peer.rotate_host_key()
    with pytest.raises(asyncssh.HostKeyNotVerifiable):
        await connect(peer)
    peer.trust_host_key()
    async with connect(peer) as connection:
        assert (await connection.run("echo trusted")).stdout == "trusted\n"


async def test_a_stalled_peer_answers_no_keepalives(peer: SSHPeer) -> None:
    lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    class Client(asyncssh.SSHClient):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.set_result(exc)

    await connect(peer, keepalive_interval=0.1, keepalive_count_max=2, client_factory=Client)
    peer.stall()
    assert "keepalive" in str(await asyncio.wait_for(lost, _WAIT))


async def test_a_stalled_peer_accepts_and_says_nothing(peer: SSHPeer) -> None:
    peer.stall()
    with pytest.raises(asyncssh.ConnectionLost, match="Login timeout"):
        await connect(peer, login_timeout=0.3)


async def test_nothing_is_lost_in_a_short_stall(peer: SSHPeer, echo_port: int) -> None:
    async with connect(peer) as connection:
        reader, writer = await connection.open_connection("127.0.0.1", echo_port)
        writer.write(b"before")
        assert await reader.readexactly(6) == b"before"
        peer.stall()
        writer.write(b"during")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(6), 0.3)
        peer.resume()
        assert await asyncio.wait_for(reader.readexactly(6), _WAIT) == b"during"


async def test_the_line_is_cut_after_so_many_bytes(peer: SSHPeer, echo_port: int) -> None:
    connection = await connect(peer)
    reader, writer = await connection.open_connection("127.0.0.1", echo_port)
    peer.drop_after(50_000)
    writer.write(b"x" * 300_000)
    assert len(await asyncio.wait_for(reader.readexactly(50_000), _WAIT)) == 50_000
    with pytest.raises(asyncssh.ConnectionLost):
        await asyncio.wait_for(reader.read(1), _WAIT)
    await connection.wait_closed()
    peer.drop_after(None)
    async with connect(peer) as again:
        assert (await again.run("echo back")).stdout == "back\n"


async def test_a_command_left_behind_ends_with_the_peer(tmp_path: Path) -> None:
    with SSHPeer(tmp_path) as peer:
        async with connect(peer) as connection:
            process = await connection.create_process("echo $$; exec cat /dev/zero >/dev/null")
            pid = int(await process.stdout.readline())
    assert not Path(f"/proc/{pid}").exists()
