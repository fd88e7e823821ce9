"""The built-in front end: sessions on the same port as the API.

uvicorn lets its HTTP protocol class be replaced. Ours looks at the head of every request and takes
the connection over where it is for a session. At a session's own address
(:mod:`~hpcbridge.frontends.ownaddress`) that is for one request; at ``/proxy?sessionId=ID&path=ws``
it rewrites the head and splices raw bytes from then on, which costs half of what re-framing
WebSocket messages would. All other requests go on to uvicorn as they came.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine
from http import HTTPStatus
from typing import Any, Protocol

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from hpcbridge.errors import BridgeError
from hpcbridge.frontends import timed
from hpcbridge.frontends.address import SessionAddresses
from hpcbridge.frontends.admission import Admission, Enters, Visit, still_admitted
from hpcbridge.frontends.base import Headers
from hpcbridge.frontends.ends import Answer, OneRequest, PlainAnswer
from hpcbridge.frontends.forwarding import (
    HEAD_LIMIT,
    Forward,
    Refused,
    error_reply,
    is_forwarded,
    read_head,
)
from hpcbridge.frontends.origin import ANY_NAME, HostNames
from hpcbridge.frontends.ownaddress import OwnAddress
from hpcbridge.frontends.timed import TimedProtocol
from hpcbridge.frontends.visits import is_visit
from hpcbridge.network.addresses import Address, TCPAddress
from hpcbridge.network.counts import Counts
from hpcbridge.network.splice import ConnectError, Dial, Pipe, Traffic, connect, pair, tune

_log = logging.getLogger(__name__)

#: Seconds that a session's address gets to accept a connection.
CONNECT_TIMEOUT = 5.0
#: Seconds after which it is asked again whether a client may have the session.
ASK_AGAIN = 30.0
#: Seconds that a client gets to read an error.
_LAST_WORDS = 2.0


#: Where a session leads that is not in the table, as far as somebody else knows.
Coming = Callable[[str], Awaitable[Address | None]]


async def _everybody(*_: object, **__: object) -> bool:
    return True


async def _nowhere(_: str) -> None:
    return None


async def _anyone(visit: Visit, **_: object) -> Admission:
    return Admission("https" if visit.encrypted else "http", visit.peer or "")


class Admits(Protocol):
    """Whether a client may go on to a session; ``again`` where the client is there already."""

    def __call__(
        self, session_id: str, headers: Headers, peer: str | None, *, again: bool = False
    ) -> Awaitable[bool]:
        """``peer`` is the client's address, None for one that came by a unix socket."""
        ...


class Lookup(Protocol):
    """What is needed of a :class:`~hpcbridge.frontends.table.RouteTable`."""

    def lookup(self, session_id: str) -> Address | None:
        """Where the session's route leads, or None."""
        ...


def front_protocol(
    table: Lookup,
    *,
    allowed_origins: Collection[str] = (),
    own_names: HostNames = ANY_NAME,
    websocket_paths: Collection[str] = ("ws",),
    admits: Admits = _everybody,
    coming: Coming = _nowhere,
    addresses: SessionAddresses | None = None,
    enters: Enters = _anyone,
    counts: Counts | None = None,
    hsts: str | None = None,
    hints: bool = True,
) -> type[H11Protocol]:
    """A class for ``uvicorn.Config(http=...)`` that also serves the sessions of ``table``.

    ``allowed_origins`` are web pages on other hosts that may use the sessions, ``own_names`` the
    names of this host, ``websocket_paths``
    the paths that a WebSocket may ask the application for, the first being the default. ``admits``
    is asked for each client, and of a WebSocket every :data:`ASK_AGAIN` seconds again.
    ``coming`` is asked for sessions that the table lacks, and may take its time. Where there are
    ``addresses``, sessions have some of their own, and ``enters`` is asked there. ``counts`` bounds
    the connections. ``hsts`` is Strict-Transport-Security of sessions' replies over TLS.
    Without ``hints``, sessions' 103 (Early Hints) are not passed on.
    """
    values = {
        "table": table,
        "origins": tuple(allowed_origins),
        "names": own_names,
        "websocket_paths": tuple(websocket_paths),
        "admits": staticmethod(admits),
        "coming": staticmethod(coming),
        "addresses": addresses,
        "enters": staticmethod(enters),
        "strict_transport": hsts,
        "hints": hints,
        "counts": counts or Counts(1 << 20, 1 << 20, 1 << 20),
    }
    return type("FrontProtocol", (_Front,), values)


class _Front(TimedProtocol):
    table: Lookup
    origins: tuple[str, ...]
    names: HostNames
    websocket_paths: tuple[str, ...]
    admits: Admits
    coming: Coming
    addresses: SessionAddresses | None
    enters: Enters
    counts: Counts
    strict_transport: str | None
    hints: bool

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client; without TCP_NODELAY each API reply would wait 40 ms for an acknowledgement."""
        super().connection_made(transport)
        tune(transport.get_extra_info("socket"))
        if not self.counts.arrive(transport, self.client[0] if self.client else None):
            transport.write(error_reply(HTTPStatus.SERVICE_UNAVAILABLE, "Too many connections."))
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self.counts.leave(self.transport)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Every request begins here, kept-alive and pipelined ones included."""
        if self.transport.is_closing():
            return
        if self.conn.our_state is h11.IDLE and self.conn.their_state is h11.IDLE:
            received, _ = self.conn.trailing_data
            if received and self.addresses is not None:
                own = is_visit(received, self.addresses)
                if own is None and len(received) <= HEAD_LIMIT:
                    return
                if own:
                    self._visit(received, self.addresses)
                    return
            verdict = is_forwarded(received)
            if verdict is None and received:
                return
            if verdict:
                self._hand_over(received)
                return
        super().handle_events()

    def _hand_over(self, received: bytes) -> None:
        self._unset_keepalive_if_required()
        self._stop_timer()
        self.connections.discard(self)
        client = _ClientConnection(self)
        # uvicorn calls shutdown() on what is in here, and waits until it is empty.
        self.connections.add(client)  # type: ignore[arg-type]
        client.begin(self.transport, received)

    def _visit(self, received: bytes, addresses: SessionAddresses) -> None:
        self._unset_keepalive_if_required()
        self._stop_timer()
        self.connections.discard(self)
        peer = self.client[0] if self.client else None
        connection = OwnAddress(self, addresses, encrypted=self.scheme == "https", peer=peer)
        self.connections.add(connection)  # type: ignore[arg-type]
        task = connection.begin(self.transport, received)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def found(self, session_id: str) -> Address | None:
        """Where a session is, or will be in a moment."""
        return self.table.lookup(session_id) or await self.coming(session_id)

    def leave(self, connection: OwnAddress) -> None:
        """It is gone."""
        self.connections.discard(connection)
        self.counts.leave(self.transport)

    def take_back(self, connection: OwnAddress, left: bytes) -> None:
        """Go on with the client's next request, whatever it is for."""
        self.connections.discard(connection)
        fresh = type(self)(self.config, self.server_state, self.app_state, self.loop)
        self.transport.set_protocol(fresh)
        fresh.connection_made(self.transport)
        self.transport.resume_reading()
        if left:
            fresh.data_received(left)


class _ClientConnection(asyncio.Protocol):
    """One connection of a client who asked for a session, until it is spliced or refused."""

    def __init__(self, front: _Front) -> None:
        self._front = front
        self._received = bytearray()
        self._transport: asyncio.Transport
        self._near: Pipe | None = None
        self._refused = False
        self._counted: str | None = None

    def begin(self, transport: asyncio.Transport, received: bytes) -> None:
        self._transport = transport
        self._timer = self._front.loop.call_later(timed.HEAD_TIMEOUT, transport.abort)
        transport.set_protocol(self)
        transport.resume_reading()
        self.data_received(received)

    def shutdown(self) -> None:
        """The server ends."""
        if self._near is None:
            self._transport.abort()
        else:
            self._near.abort()
            self._near.other.abort()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._received += data
        front = self._front
        try:
            received, paths = bytes(self._received), front.websocket_paths
            found = read_head(received, front.origins, paths, front.names)
            if found is None:
                return
        except Refused as error:
            self._refuse(error.status, str(error))
            return
        self._timer.cancel()
        self._splice(*found)

    def connection_lost(self, exc: Exception | None) -> None:
        self._over()

    def _over(self) -> None:
        self._front.connections.discard(self)
        self._front.counts.leave(self._transport)
        if self._counted is not None:
            self._front.counts.exit(self._counted)
            self._counted = None
        self._timer.cancel()

    def _splice(self, request: Forward, rest: bytes) -> None:
        near_type, far_type = (Pipe, Answer) if request.websocket else (OneRequest, PlainAnswer)
        self._near, far = pair(Traffic(), self._over, near=near_type, far=far_type)
        self._transport.set_protocol(self._near)
        self._near.connection_made(self._transport)
        far.send(request.head)
        if rest:
            self._near.data_received(rest)
        self._run(self._connect(self._near, request))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._front.loop.create_task(work)
        self._front.tasks.add(task)
        task.add_done_callback(self._front.tasks.discard)

    async def _connect(self, near: Pipe, request: Forward) -> None:
        try:
            address = await self._address(request)
            await connect(near.other, _dial(address), CONNECT_TIMEOUT)
        except Refused as error:
            refusal = error
        except ConnectError as error:
            _log.info("a session: %s", error)
            reason = "The session cannot be reached. Has it ended?"
            refusal = Refused(HTTPStatus.BAD_GATEWAY, reason)
        except BridgeError as error:
            refusal = Refused(HTTPStatus(error.status), str(error))
        else:
            if request.websocket:
                self._ask_later(request)
            return
        near.other.abort()
        near.send(self._reply(refusal.status, str(refusal)))
        near.finish()

    async def _address(self, request: Forward) -> Address:
        """Where the session is. Raises :class:`Refused` for what this client cannot have."""
        front, session_id = self._front, request.session_id
        if not front.counts.enter(session_id):
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "The session has too many connections.")
        self._counted = session_id
        # Strangers do not learn that there is one, nor by how long it takes.
        address = await front.found(session_id) if await self._admitted(request) else None
        if address is None:
            raise Refused(HTTPStatus.NOT_FOUND, "No such session.")
        return address

    def _admitted(self, request: Forward, *, again: bool = False) -> Awaitable[bool]:
        peer = self._front.client[0] if self._front.client else None
        return self._front.admits(request.session_id, request.headers, peer, again=again)

    def _ask_later(self, request: Forward) -> None:
        if self in self._front.connections:  # is still there
            later = self._front.loop.call_later
            self._timer = later(ASK_AGAIN, lambda: self._run(self._ask_again(request)))

    async def _ask_again(self, request: Forward) -> None:
        if await still_admitted(self._admitted(request, again=True)):
            self._ask_later(request)
        else:
            self.shutdown()

    def _reply(self, status: HTTPStatus, reason: str) -> bytes:
        head_only = self._received.startswith(b"HEAD ")
        return error_reply(status, reason, with_body=not head_only)

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._refused = True
        self._timer.cancel()
        self._transport.write(self._reply(status, reason))
        # Bytes that nobody reads would turn close() into a reset, and the reply would be lost.
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._timer = self._front.loop.call_later(_LAST_WORDS, self._transport.abort)
        else:
            self._transport.close()


def _dial(address: Address) -> Dial:
    def dial(factory: Callable[[], Pipe]) -> Awaitable[object]:
        loop = asyncio.get_running_loop()
        if isinstance(address, TCPAddress):
            return loop.create_connection(factory, address.host, address.port)
        return loop.create_unix_connection(factory, str(address.path))

    return dial
