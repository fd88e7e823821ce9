"""What stands before every request: paths as clients write them, errors as they read them."""

import asyncio
import logging
import re
from collections.abc import Collection, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from hpcbridge.frontends import origin
from hpcbridge.network.counts import Addresses
from hpcbridge.web.fronthost import with_host

log = logging.getLogger(__name__)

T = TypeVar("T")


def error_reply(
    message: str, status: int, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The one form of every failure."""
    return JSONResponse({"error": message}, status, headers=dict(headers or {}))


def origin_allowed(request: Request, others: Collection[str]) -> bool:
    """Whether the page that sent the request may: no page, a page of this host, or a listed one.

    A POST of ``text/plain`` needs no preflight, so any page can make a browser send one.
    """
    pages: list[str | None] = [*request.headers.getlist("origin")] or [None]
    host = request.headers.get("host")
    return all(origin.origin_allowed(page, host, others) for page in pages)


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``; given up with ClientDisconnect when the client hangs up.

    The request's body must have been read.
    """
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


UNIX = "unix"
"""Stands for the address of a peer that came by a unix socket."""


# Traefik tells of a WebSocket by the scheme.
_OF_WEBSOCKETS = {"ws": "http", "wss": "https"}


class Behind:
    """Tells who is behind a request that reaches no application, as :class:`Forwarded` would."""

    def __init__(self, trusted: Collection[str]) -> None:
        self._believing = ProxyHeadersMiddleware(_nothing, [*trusted, UNIX])
        #: Tells of an address whether it is a front end's.
        self.trusted: Addresses = self._believing.trusted_hosts

    async def client(self, headers: Sequence[tuple[bytes, bytes]], peer: str | None) -> str:
        """The client's address; ``peer`` is the connection's other end, None for a unix socket."""
        return (await self.request(headers, peer, "http"))[0]

    async def request(
        self, headers: Sequence[tuple[bytes, bytes]], peer: str | None, scheme: str
    ) -> tuple[str, str]:
        """The same, and the scheme that the client used, where ``scheme`` is this connection's."""
        scope: Any = {"type": "http", "client": (peer or UNIX, 0), "headers": headers}
        scope["scheme"] = scheme
        await self._believing(scope, None, None)  # type: ignore[arg-type]
        told = str(scope["scheme"])
        return str(scope["client"][0]), _OF_WEBSOCKETS.get(told, told)


async def _nothing(*_: object) -> None:
    pass


class Forwarded:
    """Middleware: the client and the scheme as the front end tells them, the peer as it is.

    ``peer`` in the scope's ``state`` is the other end of the connection, whatever headers say.
    ``trusted`` are the front end's addresses and networks; a unix socket's peer always is one.
    ``apache`` is the name of an Apache in front, which tells what ``Host`` was, too.
    """

    def __init__(self, app: ASGIApp, trusted: Collection[str], apache: str | None = None) -> None:
        self._believing = ProxyHeadersMiddleware(app, [*trusted, UNIX])  # type: ignore[arg-type]
        self._apache = apache

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            peer = scope.get("client") or (UNIX, 0)
            state = {**scope.get("state", {}), "peer": peer[0]}
            scope = {**scope, "client": peer, "state": state}
            if self._apache and peer[0] in self._believing.trusted_hosts:
                scope["headers"] = with_host(scope["headers"], self._apache)
        await self._believing(scope, receive, send)  # type: ignore[arg-type]


class KnownHost:
    """Middleware inside of :class:`Forwarded`: nothing is answered under a name that is not ours.

    ``trusted`` are the front end's addresses and networks, whose ``X-Forwarded-Host`` counts, too.
    ``probes`` are paths that tell nothing and are answered under any name.
    """

    def __init__(
        self,
        app: ASGIApp,
        names: origin.HostNames,
        trusted: Collection[str],
        probes: Collection[str] = (),
    ) -> None:
        self._app = app
        self._probes = probes
        self._names = names
        self._trusted = Behind(trusted).trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (strange := self._strange(scope)) is not None:
            reply = error_reply(origin.unknown_name(strange), 421, {"Cache-Control": "no-store"})
            await reply(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _strange(self, scope: Scope) -> str | None:
        if scope["path"] in self._probes and scope["method"] in ("GET", "HEAD"):
            return None
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        told = [value for name, value in scope["headers"] if name == b"x-forwarded-host"]
        if told and scope["state"]["peer"] in self._trusted:
            hosts.append(told[-1].rpartition(b",")[2].strip())  # what the front end added
        names = [each.decode("latin-1") for each in hosts]
        return next((each for each in names if not self._names.know(each)), None)


class StrictTransport:
    """Middleware: Strict-Transport-Security (RFC 6797) with each reply."""

    def __init__(self, app: ASGIApp, said: str) -> None:
        self._app = app
        self._header = (b"strict-transport-security", said.encode("ascii"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), self._header]}
            await send(message)

        await self._app(scope, receive, sending)


_TWO_LENGTHS = frozenset({b"content-length", b"transfer-encoding"})
_PRIVATE = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
"""Replies under the endpoint hold ids and secrets, and what clients posted."""


class Guard:
    """Middleware under the endpoint: one path for all ways to write it, no traceback to a client.

    wslink's JavaScript writes ``/paraview/`` and ``/paraview//ID``; both are answered in place,
    since it follows no redirect on POST. A body of two lengths, of which a proxy in front may
    believe the other one, ends the connection (RFC 9112, section 6.3).
    """

    def __init__(self, app: ASGIApp, endpoint: str) -> None:
        self._app = app
        self._endpoint = endpoint
        self._under = re.compile(re.escape(endpoint) + r"(/+.*)?", re.DOTALL)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if {name for name, _ in scope["headers"]} >= _TWO_LENGTHS:
            reply = error_reply("The request has two lengths.", 400, {"Connection": "close"})
            await reply(scope, receive, send)
            return
        ours = self._under.fullmatch(scope["path"]) is not None
        if ours:
            path = re.sub(r"/+", "/", scope["path"]).rstrip("/")
            scope = {**scope, "path": path, "raw_path": path.encode()}
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            if ours and message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]}
                more = [header for header in _PRIVATE if header[0] not in there]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            log.exception("%s %s failed", scope["method"], self._endpoint)
            if begun:
                raise
            reply = error_reply("Internal error; the service's log has details.", 500)
            await reply(scope, receive, send)
