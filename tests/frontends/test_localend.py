"""A tunnel's local end behind another web server: whatever that passes on, a list crosses."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import asyncssh
import pytest

from hpcbridge.config.settings import Settings
from hpcbridge.frontends import localend
from hpcbridge.frontends.address import session_addresses
from hpcbridge.frontends.localend import LocalEnd, local_end
from hpcbridge.network.addresses import TCPAddress
from hpcbridge.network.relay import Relay
from hpcbridge.network.splice import Dial
from hpcbridge.store import SessionRow
from tests.waiting import until

from .own_site import ID, fields, said, status
from .session_app import session_app
from .test_border import SPEAKS_FOR_ALL
from .test_ownaddress import UPGRADE

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"


@dataclass
class World:
    """A local end, and what its session answers with."""

    relay: Relay
    reply: bytes = OK + b"\r\nok"
    head: bytes = b""

    async def ask(self, *lines: str, body: bytes = b"") -> bytes:
        """Send a request, read until the end."""
        assert isinstance(self.relay.address, TCPAddress)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.relay.address.port)
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        try:
            async with asyncio.timeout(30):
                return await reader.read(-1)
        finally:
            writer.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            self.head = await reader.readuntil(b"\r\n\r\n")
            writer.write(self.reply)
            await writer.drain()
        writer.close()


def row() -> SessionRow:
    return SessionRow(id=ID, secret="5e" * 24, application="cone", cluster="c", job_name="j")


class Forwarding(asyncssh.SSHServer):
    """Lets everybody in, and forward to anywhere."""

    def begin_auth(self, username: str) -> bool:
        return False

    def connection_requested(self, *_: object) -> bool:
        return True


@contextlib.asynccontextmanager
async def way(kind: str, port: int) -> AsyncIterator[Dial]:
    """How the session is reached: directly, or through an SSH connection."""
    if kind == "direct":
        loop = asyncio.get_running_loop()
        yield lambda factory: loop.create_connection(factory, "127.0.0.1", port)
        return
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_factory=Forwarding, server_host_keys=[key]
    )
    place = f"[127.0.0.1]:{server.get_port()}"
    known = asyncssh.import_known_hosts(f"{place} {key.export_public_key().decode()}")
    login: dict[str, Any] = {"username": "u", "config": None, "client_keys": None}
    async with (
        server,
        asyncssh.connect("127.0.0.1", server.get_port(), known_hosts=known, **login) as connection,
    ):
        yield lambda factory: connection.create_connection(factory, "127.0.0.1", port)


@contextlib.asynccontextmanager
async def world_of(settings: Settings, kind: str) -> AsyncIterator[World]:
    serve = local_end(row(), settings, session_addresses(settings))
    assert serve is not None
    world: World
    app = await asyncio.start_server(lambda *ends: world.answer(*ends), "127.0.0.1", 0)
    async with app, way(kind, app.sockets[0].getsockname()[1]) as dial:
        relay = await Relay.listen(TCPAddress("127.0.0.1", 0), dial, serve=serve)
        world = World(relay)
        yield world
        await relay.close()


def settings_of(site: Any, **cone: Any) -> Settings:
    apache = {"kind": "apache", "map_file": "map", "session_domain": "s.example.org"}
    return site.settings(frontend=apache, applications={"cone": cone})


@pytest.fixture(params=["direct", "ssh"])
async def world(site: Any, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    inject = {"headers": {"Authorization": "token ${secret}"}}
    async with world_of(settings_of(site, inject=inject), request.param) as world:
        yield world


def test_the_built_in_front_end_needs_none(site: Any) -> None:
    settings = site.settings()
    assert local_end(row(), settings, session_addresses(settings)) is None


async def test_only_what_is_on_the_list_crosses_both_ways(world: World) -> None:
    world.reply = OK + SPEAKS_FOR_ALL + b"Set-Cookie: sso=1\r\nETag: 1\r\n\r\nok"
    reply = await world.ask(
        "GET /ws HTTP/1.1", "Host: localhost", "Cookie: sso=secret", "OIDC_access_token: t",
        "Authorization: Basic x", "X-Forwarded-Access-Token: t", "X-Remote-User: alice",
        "X-Forwarded-Host: viz.example.org", "X-Forwarded-Proto: https",
        "X-Forwarded-For: 192.0.2.1", "Connection: close",
    )  # fmt: skip
    assert status(reply) == 200
    assert set(fields(reply)) == {"content-length", "etag", "referrer-policy",
                                  "origin-agent-cluster", "connection"}  # fmt: skip
    seen = fields(world.head)
    assert seen["authorization"] == ["token " + "5e" * 24]
    assert seen["host"] == seen["x-forwarded-host"] == ["viz.example.org"]
    assert (seen["x-forwarded-proto"], seen["x-forwarded-for"]) == (["https"], ["192.0.2.1"])
    assert set(seen) == {"authorization", "host", "x-forwarded-host", "x-forwarded-proto",
                         "x-forwarded-for", "connection"}  # fmt: skip


async def test_at_the_sessions_own_host_cookies_are_its_own(world: World) -> None:
    world.reply = OK + b"Set-Cookie: a=1; Domain=example.org\r\n\r\nok"
    own = f"X-Forwarded-Host: {ID}.s.example.org"
    lines = ("GET / HTTP/1.1", "Host: localhost", "Cookie: a=1; hpcbridge=2", "Connection: close")
    reply = await world.ask(*lines, own)
    assert fields(reply)["set-cookie"] == ["a=1"]
    assert fields(world.head)["cookie"] == ["a=1"]
    other = f"X-Forwarded-Host: {'cd' * 20}.s.example.org"
    assert "set-cookie" not in fields(await world.ask(*lines, other))
    assert "cookie" not in fields(world.head)


async def test_neither_101_nor_103_says_more(world: World) -> None:
    cookie = b"Set-Cookie: hpcbridge=stolen\r\n"
    world.reply = b"HTTP/1.1 103 Early Hints\r\n" + cookie + b"\r\n" + OK + b"\r\nok"
    plain = await world.ask("GET / HTTP/1.1", "Host: localhost", "Connection: close")
    assert plain.startswith(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert b"stolen" not in plain
    world.reply = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" + cookie + b"\r\n\x81\x02hi"
    )
    reply = await world.ask("GET /ws HTTP/1.1", "Host: localhost", *UPGRADE)
    assert set(fields(reply)) == {"sec-websocket-accept", "connection", "upgrade"}
    assert reply.endswith(b"\r\n\r\n\x81\x02hi")


@pytest.mark.parametrize(
    "lines",
    [
        ("GET /ws HTTP/1.0", "Host: localhost", *UPGRADE),
        ("POST / HTTP/1.1", "Host: localhost", "Transfer-Encoding:\r\n chunked"),
        ("POST / HTTP/1.1", "Host: localhost", "Content-Length: 1", "Content-Length: 2"),
        ("GET / HTTP/1.1", "Host: localhost", "X: " + "a" * 20000),
        ("GET / HTTP/1.1",),
    ],
)
async def test_what_could_be_read_differently_reaches_no_session(
    world: World, lines: tuple[str, ...]
) -> None:
    assert status(await world.ask(*lines)) in (400, 431)
    assert world.head == b""


async def test_connections_are_kept_and_use_is_counted_by_requests(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A web server's idle connection is no client that uses the session."""
    assert isinstance(world.relay.address, TCPAddress)
    reader, writer = await asyncio.open_connection("127.0.0.1", world.relay.address.port)
    asked = b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
    for _ in range(3):
        writer.write(asked)
        assert status(await reader.readuntil(b"\r\n\r\n")) == 200
        assert await reader.readexactly(2) == b"ok"
        await until(lambda: world.relay.traffic.connections == 0)
    traffic = world.relay.traffic
    assert traffic.bytes_in == 3 * len(asked)
    assert traffic.bytes_out == 3 * len(world.reply)
    monkeypatch.setattr(localend, "MOST", 1)
    assert status(await world.ask("GET / HTTP/1.1", "Host: localhost")) == 503
    writer.close()


@pytest.mark.parametrize("kind", ["direct", "ssh"])
async def test_a_websocket_passes_and_ends_with_the_relay(site: Any, kind: str) -> None:
    serve = local_end(row(), settings_of(site), None)
    assert isinstance(serve, LocalEnd)
    data = bytes(range(256)) * 8192
    async with session_app("one") as app, way(kind, app.port) as dial:
        relay = await Relay.listen(TCPAddress("127.0.0.1", 0), dial, serve=serve)
        assert isinstance(relay.address, TCPAddress)
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(f"http://127.0.0.1:{relay.address.port}/ws", max_msg_size=0) as ws,
        ):
            assert await ws.receive_str() == "one"
            assert relay.traffic.connections == 1
            await ws.send_bytes(data)
            assert await ws.receive_bytes() == data
            assert relay.traffic.bytes_in > len(data)
            assert relay.traffic.bytes_out > len(data)
            await relay.close()
            assert (await ws.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        await until(lambda: relay.traffic.connections == 0)


async def test_a_session_that_is_gone_is_a_502(site: Any) -> None:
    serve = local_end(row(), settings_of(site), None)
    async with way("direct", 1) as dial:
        relay = await Relay.listen(TCPAddress("127.0.0.1", 0), dial, serve=serve)
        reply = await World(relay).ask("GET / HTTP/1.1", "Host: localhost")
        assert status(reply) == 502
        assert "cannot be reached" in said(reply)["error"]
        await relay.close()
