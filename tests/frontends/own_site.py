"""uvicorn with the built-in front end, and sessions behind it that have addresses of their own."""

import asyncio
import contextlib
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from aiohttp import WSMsgType, web

from hpcbridge.frontends.address import SessionAddresses
from hpcbridge.frontends.admission import Admission, Visit
from hpcbridge.frontends.embedded import front_protocol
from hpcbridge.network.addresses import Address, TCPAddress
from hpcbridge.network.counts import Counts
from tests.waiting import until

ID = "a1" * 20
ODD = "0d" * 20
GONE = "de" * 20
UNKNOWN = "77" * 20

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class OwnSite:
    """``admission`` is what the next request gets; ``odd`` speaks for the session ODD."""

    port: int
    server: uvicorn.Server
    addresses: SessionAddresses
    counts: Counts
    seen: list[web.Request] = field(default_factory=list)
    routes: dict[str, Address] = field(default_factory=dict)
    admission: Admission | None = field(default_factory=Admission)
    visits: list[Visit] = field(default_factory=list)
    odd: Serve | None = None
    heads: list[bytes] = field(default_factory=list)

    def lookup(self, session_id: str) -> Address | None:
        return self.routes.get(session_id)

    async def enters(self, visit: Visit, *, again: bool = False) -> Admission | None:
        self.visits.append(visit)
        return self.admission

    def host(self, session_id: str = ID) -> str:
        own = self.addresses.style == "host"
        return f"{session_id}.localhost:{self.port}" if own else f"127.0.0.1:{self.port}"

    def request(self, target: str = "/", *headers: str, method: str = "GET", **more: Any) -> bytes:
        """The head of a request for a session; with ``session_id``, ``host`` and ``version``."""
        session_id = more.get("session_id", ID)
        if self.addresses.style == "path":
            target = f"/session/{session_id}{target}"
        host = more.get("host", self.host(session_id))
        lines = [f"{method} {target} HTTP/{more.get('version', '1.1')}", f"Host: {host}", *headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def raw(self, *parts: bytes) -> bytes:
        """Send the parts, read until the server closes."""
        reader, writer = await self.connect()
        for part in parts:
            writer.write(part)
            await writer.drain()
        try:
            async with asyncio.timeout(30):
                return await reader.read(-1)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def answers(self, reply: bytes) -> None:
        """Let the session ODD answer each request with these bytes, and close."""

        async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(reply)
            await writer.drain()

        self.odd = odd

    async def odd_reply(self, reply: bytes, *headers: str, **more: Any) -> bytes:
        """What a client gets of a session that answers so."""
        self.answers(reply)
        headers = (
            (*headers, "Connection: close") if "Upgrade: websocket" not in headers else headers
        )
        return await self.raw(self.request("/x", *headers, session_id=ODD, **more))

    async def _odd(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self.odd is not None
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self.odd(reader, writer)
        writer.close()

    # -- the application

    def application(self) -> web.Application:
        application = web.Application(client_max_size=1 << 40)
        application.router.add_route("*", "/{path:.*}", self._answer)
        return application

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        if request.headers.get("Upgrade") == "websocket" and request.path.endswith("/socket"):
            return await _echo(request)
        if request.path.endswith("/stream"):
            return await _stream(request)
        if request.path.endswith("/file"):
            return web.Response(body=bytes(range(256)) * 256, headers={"Accept-Ranges": "bytes"})
        digest, size = hashlib.sha256(), 0
        async for part in request.content.iter_any():
            digest.update(part)
            size += len(part)
        said = {
            "method": request.method,
            "target": request.raw_path,
            "headers": {key.lower(): value for key, value in request.headers.items()},
            "size": size,
            "sha256": digest.hexdigest(),
        }
        return web.json_response(said)


async def _echo(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(max_msg_size=0, protocols=("one", "two"))
    await ws.prepare(request)
    await ws.send_str("hello")
    async for message in ws:
        if message.type is WSMsgType.BINARY:
            await ws.send_bytes(message.data)
    return ws


async def _stream(request: web.Request) -> web.StreamResponse:
    """Lines, each when the one before was acknowledged by nothing but time passing."""
    reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await reply.prepare(request)
    number = 0
    while True:
        await reply.write(f"data: {number}\n\n".encode())
        number += 1
        await asyncio.sleep(0.02)


async def api(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The portal."""
    headers = [(b"content-length", b"6"), (b"x-from", b"portal")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"portal"})


@asynccontextmanager
async def own_site(addresses: SessionAddresses) -> AsyncIterator[OwnSite]:
    """Serves until the end of the block."""
    async with AsyncExitStack() as stack:
        listener = socket.create_server(("127.0.0.1", 0))
        counts = Counts(1000, 1000, 1000)
        site: OwnSite
        protocol = front_protocol(
            type("Table", (), {"lookup": lambda self, each: site.lookup(each)})(),
            addresses=addresses,
            enters=lambda visit, again=False: site.enters(visit, again=again),
            counts=counts,
        )
        config = uvicorn.Config(api, http=protocol, ws="none", lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        site = OwnSite(listener.getsockname()[1], server, addresses, counts)
        runner = web.AppRunner(site.application(), shutdown_timeout=1, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        odd = await asyncio.start_server(site._odd, "127.0.0.1", 0, limit=1 << 20)
        stack.callback(odd.close)
        unused = stack.enter_context(socket.socket())
        unused.bind(("127.0.0.1", 0))
        ports = {
            ID: runner.addresses[0][1],
            ODD: odd.sockets[0].getsockname()[1],
            GONE: unused.getsockname()[1],
        }
        site.routes = {key: TCPAddress("127.0.0.1", port) for key, port in ports.items()}
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: server.started)
        yield site
        server.should_exit = True
        await serving


def status(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


def fields(reply: bytes) -> dict[str, list[str]]:
    """The headers of a reply, by name in lower case."""
    found: dict[str, list[str]] = {}
    for line in reply.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        found.setdefault(name.lower(), []).append(value.strip())
    return found


def said(reply: bytes) -> dict[str, Any]:
    """What the echoing application saw of a request that was not kept alive."""
    body = reply.partition(b"\r\n\r\n")[2]
    found: dict[str, Any] = json.loads(body)
    return found
