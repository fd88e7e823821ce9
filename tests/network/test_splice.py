"""The byte relay: real sockets and a real SSH connection on both sides."""

import asyncio
import contextlib
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from hpcbridge.network import splice
from hpcbridge.network.addresses import ListenError, TCPAddress, UnixAddress
from hpcbridge.network.relay import Relay
from hpcbridge.network.splice import Dial, Traffic
from tests.waiting import until

ANY_PORT = TCPAddress("127.0.0.1", 0)
MEGABYTE = 1024 * 1024
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Tcp:
    """Dials a port on this machine."""

    port: int

    async def __call__(self, factory: Callable[[], splice.Pipe]) -> object:
        loop = asyncio.get_running_loop()
        return await loop.create_connection(factory, "127.0.0.1", self.port)


@contextlib.asynccontextmanager
async def application(handler: Handler) -> AsyncIterator["Tcp"]:
    """A TCP server, as something to dial."""

    visits: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        visits.add(task)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await handler(reader, writer)
        await hang_up(writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield Tcp(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        _, stuck = await asyncio.wait(visits, timeout=1) if visits else (None, set())
        for task in stuck:
            task.cancel()
        await asyncio.gather(*visits)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@contextlib.asynccontextmanager
async def relay(dial: Dial, address: Any = ANY_PORT, **kwargs: Any) -> AsyncIterator[Relay]:
    made = await Relay.listen(address, dial, **kwargs)
    try:
        yield made
    finally:
        await made.close()


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def visit(made: Relay) -> Streams:
    return await connected(made.address)


async def connected(address: TCPAddress | UnixAddress) -> Streams:
    if isinstance(address, UnixAddress):
        return await asyncio.open_unix_connection(str(address.path))
    return await asyncio.open_connection(address.host, address.port)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def reset(writer: asyncio.StreamWriter) -> None:
    """Vanish with a TCP reset."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@pytest.fixture
async def ssh() -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A connection to an SSH server that forwards to anywhere."""

    class Forwarding(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return False

        def connection_requested(self, *args: Any) -> bool:
            return True

    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_factory=Forwarding, server_host_keys=[key]
    )
    port = server.sockets[0].getsockname()[1]
    known = asyncssh.import_known_hosts(f"[127.0.0.1]:{port} {key.export_public_key().decode()}")
    async with asyncssh.connect(
        "127.0.0.1", port, known_hosts=known, username="u", config=None, client_keys=None
    ) as connection:
        yield connection
    server.close()
    await server.wait_closed()


def through(connection: asyncssh.SSHClientConnection, dial: Tcp) -> Dial:
    """The same application, dialled through SSH."""
    return lambda factory: connection.create_connection(factory, "127.0.0.1", dial.port)


@pytest.fixture(params=["tcp", "ssh"])
def dialled(request: pytest.FixtureRequest) -> Callable[[Tcp], Dial]:
    """Every test that asks for this runs with a plain connection and with an SSH channel."""
    if request.param == "tcp":
        return lambda dial: dial
    connection = request.getfixturevalue("ssh")
    return lambda dial: through(connection, dial)


Dialled = Callable[[Tcp], Dial]


async def test_bytes_come_back_unchanged_and_are_counted(dialled: Dialled) -> None:
    data = os.urandom(4 * MEGABYTE)
    async with application(echo) as dial, relay(dialled(dial)) as made:
        reader, writer = await visit(made)
        writer.write(data)
        writer.write_eof()
        assert await reader.read(-1) == data
        await hang_up(writer)
        await until(lambda: made.traffic.connections == 0)
        assert (made.traffic.bytes_in, made.traffic.bytes_out) == (len(data), len(data))


async def test_a_side_that_has_said_all_still_gets_its_answer(dialled: Dialled) -> None:
    async def answer_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = await reader.read(-1)
        writer.write(question.upper())

    async with application(answer_at_the_end) as dial, relay(dialled(dial)) as made:
        reader, writer = await visit(made)
        writer.write(b"question")
        writer.write_eof()
        assert await reader.read(-1) == b"QUESTION"
        await hang_up(writer)


async def test_an_application_that_has_said_all_still_listens(dialled: Dialled) -> None:
    heard = asyncio.get_running_loop().create_future()

    async def speak_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.write_eof()
        heard.set_result(await reader.read(-1))

    async with application(speak_first) as dial, relay(dialled(dial)) as made:
        reader, writer = await visit(made)
        assert await reader.read(-1) == b"hello"
        writer.write(b"and good bye")
        writer.write_eof()
        assert await heard == b"and good bye"
        await hang_up(writer)


async def test_a_slow_reader_holds_the_application_back(dialled: Dialled) -> None:
    total, sent = 64 * MEGABYTE, 0
    block = bytes(MEGABYTE)

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while sent < total:
            writer.write(block)
            sent += len(block)
            await writer.drain()

    async with application(pour) as dial, relay(dialled(dial)) as made:
        reader, writer = await visit(made)
        await reader.readexactly(1)
        before = -1
        while before != sent:  # until a second passes without a byte accepted
            before = sent
            await asyncio.sleep(1)
        # Kernel buffers on the way and an SSH window of 2 MiB, but not the whole.
        assert sent < total / 2
        # What has left the application and not arrived is in buffers; ours hold the least of it.
        near = next(iter(made._open))
        assert near._stream is not None
        assert near._stream.get_write_buffer_size() < MEGABYTE
        got = 1
        while data := await reader.read(MEGABYTE):
            got += len(data)
        assert got == total
        await hang_up(writer)


async def test_a_slow_application_holds_the_visitor_back(dialled: Dialled) -> None:
    go, total = asyncio.Event(), 64 * MEGABYTE
    received = 0

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await go.wait()
        while data := await reader.read(MEGABYTE):
            received += len(data)

    async with application(stall) as dial, relay(dialled(dial)) as made:
        reader, writer = await visit(made)
        for _ in range(64):
            writer.write(bytes(MEGABYTE))
        drained = asyncio.create_task(writer.drain())
        await asyncio.wait((drained,), timeout=1)
        assert made.traffic.bytes_in < total / 2
        far = next(iter(made._open)).other
        assert far._stream is not None
        assert far._stream.get_write_buffer_size() < MEGABYTE
        go.set()
        await drained
        writer.write_eof()
        assert await reader.read(-1) == b""
        assert received == total
        await hang_up(writer)


async def test_when_a_visitor_vanishes_the_application_is_told(dialled: Dialled) -> None:
    ended = asyncio.Event()

    async def until_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        with contextlib.suppress(ConnectionError):
            await reader.read(-1)
        ended.set()

    async with application(until_the_end) as dial, relay(dialled(dial)) as made:
        reader, writer = await visit(made)
        assert await reader.readexactly(5) == b"hello"
        reset(writer)
        await ended.wait()
        await until(lambda: not made._open)
        assert made.traffic.connections == 0


async def test_when_the_application_dies_the_visitor_gets_what_it_said(dialled: Dialled) -> None:
    async def last_words(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(2)
        writer.write(b"x" * MEGABYTE)
        await writer.drain()

    async with application(last_words) as dial, relay(dialled(dial)) as made:
        reader, writer = await visit(made)
        writer.write(b"go")
        assert await reader.read(-1) == b"x" * MEGABYTE
        await hang_up(writer)
        await until(lambda: not made._open)


async def test_what_a_visitor_says_before_the_application_is_connected_is_kept() -> None:
    go = asyncio.Event()
    data = os.urandom(MEGABYTE)
    async with application(echo) as dial:

        async def late(factory: Callable[[], splice.Pipe]) -> object:
            await go.wait()
            return await dial(factory)

        async with relay(late) as made:
            reader, writer = await visit(made)
            writer.write(data)
            await until(lambda: made.traffic.bytes_in > splice.EARLY_LIMIT)
            assert made.traffic.bytes_in < splice.EARLY_LIMIT + MEGABYTE // 2
            go.set()
            writer.write_eof()
            assert await reader.read(-1) == data
            await hang_up(writer)


async def test_a_visitor_who_leaves_while_connecting_leaves_nothing_behind() -> None:
    go, accepted = asyncio.Event(), asyncio.Event()

    async def until_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            assert await reader.read(-1) == b""
        accepted.set()

    async with application(until_the_end) as dial:

        async def late(factory: Callable[[], splice.Pipe]) -> object:
            await go.wait()
            return await dial(factory)

        async with relay(late) as made:
            _, writer = await visit(made)
            writer.write(b"hello")
            await until(lambda: made.traffic.bytes_in == 5)
            reset(writer)
            await until(lambda: made.traffic.connections == 0)
            assert not made._open
            go.set()
            await accepted.wait()
            await until(lambda: not made._tasks)


async def test_a_far_side_that_refuses_ends_the_visit(ssh: asyncssh.SSHClientConnection) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        loop = asyncio.get_running_loop()
        for dial in (
            lambda factory: loop.create_connection(factory, "127.0.0.1", port),
            lambda factory: ssh.create_connection(factory, "127.0.0.1", port),
        ):
            async with relay(dial) as made:
                reader, writer = await visit(made)
                assert await reader.read(-1) == b""
                await hang_up(writer)
                await until(lambda made=made: not made._open)


async def test_a_far_side_that_never_answers_is_given_up_and_dropped_when_it_does() -> None:
    go = asyncio.Event()
    ended = asyncio.Event()

    async def until_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read(-1)
        ended.set()

    async with application(until_the_end) as dial:

        async def stuck(factory: Callable[[], splice.Pipe]) -> object:
            await go.wait()
            return await dial(factory)

        async with relay(stuck, connect_timeout=0.05) as made:
            reader, writer = await visit(made)
            assert await reader.read(-1) == b""
            await hang_up(writer)
            go.set()
            await ended.wait()
            await until(lambda: not splice._late)


async def test_a_mistake_in_dialling_is_logged_and_ends_the_visit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def wrong(factory: Callable[[], splice.Pipe]) -> object:
        raise KeyError("mistake")

    async with relay(wrong) as made:
        reader, writer = await visit(made)
        assert await reader.read(-1) == b""
        await hang_up(writer)
        await until(lambda: not made._tasks)
    assert "mistake" in caplog.text


async def test_a_lost_ssh_connection_ends_its_visits(ssh: asyncssh.SSHClientConnection) -> None:
    async with application(echo) as dial, relay(through(ssh, dial)) as made:
        reader, writer = await visit(made)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        ssh.abort()
        assert await reader.read(-1) == b""
        await hang_up(writer)
        await until(lambda: not made._open)


async def test_a_visit_that_is_over_leaves_no_channel(ssh: asyncssh.SSHClientConnection) -> None:
    async with application(echo) as dial, relay(through(ssh, dial)) as made:
        for _ in range(20):
            reader, writer = await visit(made)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            await hang_up(writer)
        await until(lambda: not made._open and not ssh._channels)


async def test_half_closed_and_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splice, "HALF_CLOSED_LIMIT", 0.05)

    async def never_ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        await asyncio.Event().wait()

    async with application(never_ends) as dial, relay(dial) as made:
        reader, writer = await visit(made)
        writer.write_eof()
        assert await reader.read(-1) == b""
        await until(lambda: not made._open)
        await hang_up(writer)


async def test_a_visitor_who_does_not_take_the_last_bytes_is_dropped(
    monkeypatch: pytest.MonkeyPatch, dialled: Dialled
) -> None:
    monkeypatch.setattr(splice, "LINGER", 0.05)

    async def pour_and_leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(8 * MEGABYTE))
        await asyncio.sleep(0)
        writer.transport.abort()

    async with application(pour_and_leave) as dial, relay(dialled(dial)) as made:
        _, writer = await visit(made)
        writer.transport.pause_reading()
        writer.write_eof()
        await until(lambda: not made._open and made.traffic.connections == 0)
        writer.transport.abort()


async def test_closing_drops_every_connection_and_the_port_is_free_again(dialled: Dialled) -> None:
    async with application(echo) as dial:
        made = await Relay.listen(ANY_PORT, dialled(dial))
        visits = [await visit(made) for _ in range(10)]
        await until(lambda: made.traffic.connections == 10)
        await made.close()
        for reader, writer in visits:
            with contextlib.suppress(ConnectionError):
                assert await reader.read(-1) == b""
            await hang_up(writer)
        await until(lambda: not made._open)
        await made.close()
        again = await Relay.listen(made.address, dial)
        await again.close()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_nothing_listens_when_it_was_cancelled_on_the_way(kind: str, tmp_path: Path) -> None:
    address: Any = UnixAddress(tmp_path / "session.sock")
    if kind == "tcp":
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = TCPAddress("127.0.0.1", free.getsockname()[1])
    async with application(echo) as dial:
        for steps in range(5):
            listening = asyncio.create_task(Relay.listen(address, dial))
            for _ in range(steps):
                await asyncio.sleep(0)
            listening.cancel()
            done, _ = await asyncio.wait({listening})
            if not (task := done.pop()).cancelled():
                await task.result().close()  # it was faster
            if kind == "unix":
                assert not list(tmp_path.iterdir())
            with pytest.raises(OSError):
                await connected(address)


async def test_a_crowd_that_comes_at_once_finds_room_to_wait(directory: Path) -> None:
    """Who connects to a unix socket without waiting is refused where the queue is full."""
    address = UnixAddress(directory / "session.sock")
    async with application(echo) as dial, relay(dial, address):
        with contextlib.ExitStack() as visitors:
            for _ in range(300):  # and nobody accepts meanwhile
                each = visitors.enter_context(socket.socket(socket.AF_UNIX))
                each.setblocking(False)
                each.connect(str(address.path))


async def test_a_port_in_use_is_a_route_error() -> None:
    async with application(echo) as dial, relay(dial) as made:
        with pytest.raises(ListenError, match="Address already in use"):
            await Relay.listen(made.address, dial)


async def test_a_socket_has_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "session.sock"
    before = os.umask(0)
    try:
        async with application(echo) as dial, relay(dial, UnixAddress(path), mode=0o600) as made:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert [entry.name for entry in tmp_path.iterdir()] == ["session.sock"]
            os.umask(0o777)
            async with relay(dial, UnixAddress(tmp_path / "two")):
                assert stat.S_IMODE((tmp_path / "two").stat().st_mode) == 0o660
            reader, writer = await visit(made)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            await hang_up(writer)
    finally:
        os.umask(before)
    assert not list(tmp_path.iterdir())


async def test_a_stale_socket_is_replaced_and_a_newer_one_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "session.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with application(echo) as dial:
        first = await Relay.listen(UnixAddress(path), dial)
        async with relay(dial, UnixAddress(path)) as second:
            await first.close()
            reader, writer = await visit(second)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            await hang_up(writer)


async def test_a_socket_path_that_is_too_long_or_in_no_directory_says_so(tmp_path: Path) -> None:
    async with application(echo) as dial:
        with pytest.raises(ListenError, match="shorter socket directory"):
            await Relay.listen(UnixAddress(tmp_path / ("x" * 108)), dial)
        with pytest.raises(ListenError, match="No such file or directory"):
            await Relay.listen(UnixAddress(tmp_path / "none" / "s"), dial)
    assert not list(tmp_path.iterdir())


async def test_activity_is_seen() -> None:
    traffic = Traffic()
    began = traffic.last_activity
    async with application(echo) as dial, relay(dial, traffic=traffic) as made:
        reader, writer = await visit(made)
        writer.write(b"x")
        await reader.readexactly(1)
        assert made.traffic is traffic
        assert traffic.last_activity > began
        assert traffic.connections == 1
        await hang_up(writer)
