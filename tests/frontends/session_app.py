"""A small session: a WebSocket echo and pages, and a memory of every request it saw."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import WSMsgType, web


@dataclass
class SessionApp:
    """``name`` is what the page says and what a WebSocket says first."""

    name: str
    requests: list[web.Request] = field(default_factory=list)
    port: int = 0

    @property
    def last(self) -> web.Request:
        return self.requests[-1]

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/ws", self._websocket)
        application.router.add_route("*", "/{path:.*}", self._page)
        return application

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse:
        self.requests.append(request)
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        await socket.send_str(self.name)
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data)
            else:
                await socket.send_str(message.data)
        return socket

    async def _page(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        status = 404 if request.path == "/missing" else 200
        reply = web.json_response({"app": self.name, "path": request.path_qs}, status=status)
        reply.set_cookie("session_app", "was here")
        reply.headers["Clear-Site-Data"] = '"cookies"'
        return reply


@asynccontextmanager
async def session_app(name: str, socket: Path | None = None) -> AsyncIterator[SessionApp]:
    """Serve on a free loopback port, or on a unix socket."""
    app = SessionApp(name)
    runner = web.AppRunner(app.application(), shutdown_timeout=1, access_log=None)
    await runner.setup()
    try:
        if socket is None:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            app.port = runner.addresses[0][1]
        else:
            await web.UnixSite(runner, str(socket)).start()
            socket.chmod(0o666)
        yield app
    finally:
        await runner.cleanup()
