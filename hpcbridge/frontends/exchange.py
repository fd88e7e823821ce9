"""One request of a client, and the session's reply: both are read exactly and written anew.

So what the client sent and what the session answered mean the same to everybody: nothing is
passed on that only looks like a message's end. Bodies stream, either way, in pieces.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus

import h11

from hpcbridge.frontends import border
from hpcbridge.frontends.admission import Admission
from hpcbridge.frontends.forwarding import Refused
from hpcbridge.frontends.visits import Asked
from hpcbridge.network.splice import Pipe, Traffic, pair
from hpcbridge.network.stream import Stream

#: Seconds without a byte after which a request is given up; WebSockets may be silent for longer.
SILENCE = 900.0
#: Seconds that a client gets to take more of a reply, or to send more of a body.
SLOW = 60.0
#: Seconds without a byte from a session after which a client that sends no more is given up.
HALF_CLOSED = 60.0
#: Bytes of a reply's head, and of a trailer.
REPLY_LIMIT = 64 * 1024

_BODY = frozenset([b"content-length", b"transfer-encoding"])


class Unfinished(Exception):
    """The reply has begun and cannot be brought to its end."""


class Exchange:
    """``client`` and ``session`` are connected; ``asked`` was admitted. ``strict`` is our
    Strict-Transport-Security, since the session's does not cross. Without ``hints``, 103 (Early
    Hints) is not passed on."""

    def __init__(
        self,
        asked: Asked,
        admission: Admission,
        client: Stream,
        session: Stream,
        strict: str | None = None,
        *,
        hints: bool = True,
    ) -> None:
        self._asked = asked
        self._visit = asked.visit
        self._admission = admission
        self._client = client
        self._session = session
        self._strict = strict
        self._hints = hints and asked.request.http_version >= b"1.1"
        self.ours = asked.connection
        self.theirs = h11.Connection(h11.CLIENT, max_incomplete_event_size=REPLY_LIMIT)
        self._begun = False

    async def run(self) -> bool:
        """Whether the session began a WebSocket; the bytes after its head are for the splice.

        Raises :class:`~hpcbridge.frontends.forwarding.Refused` before the reply has begun, and
        :class:`Unfinished` after that.
        """
        try:
            if await self._send_head():
                return await self._down()
            return await self._both_ways()
        except TimeoutError as error:
            status, reason = HTTPStatus.GATEWAY_TIMEOUT, "The session does not answer."
            raise self._failure(status, reason) from error
        except ConnectionError as error:
            raise self._failure(HTTPStatus.BAD_GATEWAY, _CLOSED) from error
        except h11.LocalProtocolError as error:
            reason = f"The session's answer cannot be passed on: {error}."
            raise self._failure(HTTPStatus.BAD_GATEWAY, reason) from error

    def _failure(self, status: HTTPStatus, reason: str) -> Exception:
        return Unfinished(reason) if self._begun else Refused(status, reason)

    async def _send_head(self) -> bool:
        """Whether that is all of the request: most have no body."""
        websocket = self._asked.websocket
        headers = border.asked(self._visit, self._admission, websocket=websocket)
        request = h11.Request(
            method=self._asked.request.method,
            target=border.sent_target(self._visit, self._admission),
            headers=headers,
        )
        said = _sent(self.theirs, request)
        body = any(name in _BODY for name, _ in self._visit.headers)
        if not body and isinstance(self.ours.next_event(), h11.EndOfMessage):
            said += _sent(self.theirs, h11.EndOfMessage())
        await self._session.send(said, SLOW)
        return not body

    async def _both_ways(self) -> bool:
        up = asyncio.create_task(self._up(), name="request")
        down = asyncio.create_task(self._down(), name="reply")
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            if up.done():
                up.result()
            return await down
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _up(self) -> None:
        """The request's body, to its end or until the session takes no more."""
        while True:
            try:
                event = self.ours.next_event()
            except h11.RemoteProtocolError as error:
                raise self._failure(HTTPStatus.BAD_REQUEST, f"The body: {error}.") from error
            if event is h11.NEED_DATA:
                self.ours.receive_data(await self._more())
                continue
            if not isinstance(event, h11.Data | h11.EndOfMessage):
                return
            if isinstance(event, h11.EndOfMessage):
                chunked = any(name == b"transfer-encoding" for name, _ in self._visit.headers)
                trailers = border.trailed(event.headers) if chunked else []
                event = h11.EndOfMessage(headers=trailers)
            try:
                await self._session.send(_sent(self.theirs, event), SILENCE)
            except ConnectionError:
                return  # perhaps it has answered already
            if isinstance(event, h11.EndOfMessage):
                return

    async def _more(self) -> bytes:
        try:
            return await self._client.receive(SLOW)
        except TimeoutError as error:
            reason = "The request's body does not come."
            raise self._failure(HTTPStatus.REQUEST_TIMEOUT, reason) from error

    async def _down(self) -> bool:
        """The reply, to its end; whether it is a WebSocket instead."""
        while True:
            event = await self._next()
            if isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    await self._switch(event)
                    return True
                await self._inform(event)
            elif isinstance(event, h11.Response):
                await self._reply(event)
                return False
            else:
                raise self._failure(HTTPStatus.BAD_GATEWAY, _CLOSED)

    async def _next(self) -> h11.Event:
        """The next that the session says."""
        while True:
            try:
                event = self.theirs.next_event()
            except h11.RemoteProtocolError as error:
                reason = f"The session's answer cannot be passed on: {error}."
                raise self._failure(HTTPStatus.BAD_GATEWAY, reason) from error
            if event is h11.PAUSED:
                raise self._failure(HTTPStatus.BAD_GATEWAY, _CLOSED)
            if isinstance(event, h11.Event):
                return event
            self.theirs.receive_data(await self._answer())

    async def _answer(self) -> bytes:
        left = SILENCE
        while True:
            pause = min(left, HALF_CLOSED)
            try:
                return await self._session.receive(pause)
            except TimeoutError:
                left -= pause
                if left <= 0 or self._client.ended:
                    raise

    async def _inform(self, event: h11.InformationalResponse) -> None:
        if event.status_code == 100 and self.ours.they_are_waiting_for_100_continue:
            headers = []
        elif event.status_code == 103 and self._hints:
            headers = border.hinted(event.headers)
        else:
            return
        said = h11.InformationalResponse(
            status_code=event.status_code, headers=headers, reason=_reason(event.status_code)
        )
        await self._client.send(_sent(self.ours, said), SLOW)

    async def _switch(self, event: h11.InformationalResponse) -> None:
        upgrade = [value.lower() for name, value in event.headers if name == b"upgrade"]
        if not self._asked.websocket or upgrade != [b"websocket"]:
            raise self._failure(HTTPStatus.BAD_GATEWAY, "The session began what nobody asked for.")
        headers = border.switched(event.headers)
        headers += [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
        said = h11.InformationalResponse(status_code=101, headers=headers, reason=_reason(101))
        self._begun = True
        await self._client.send(_sent(self.ours, said), SLOW)

    async def _reply(self, event: h11.Response) -> None:
        try:
            headers = border.answered(event.headers, self._visit, self._admission)
        except border.Astray as error:
            reason = "The session's answer leads to another place, and is not passed on."
            raise Refused(HTTPStatus.BAD_GATEWAY, reason) from error
        if self._strict is not None:
            headers.append((b"strict-transport-security", self._strict.encode("ascii")))
        if self._asked.websocket or self.ours.their_state is not h11.DONE:
            # What the client goes on to send is no request.
            headers.append((b"connection", b"close"))
        said = h11.Response(status_code=event.status_code, headers=headers, reason=event.reason)
        self._begun = True
        await self._client.send(_sent(self.ours, said), SLOW)
        await self._body(any(name == b"transfer-encoding" for name, _ in event.headers))

    async def _body(self, chunked: bool) -> None:
        chunked = chunked and self._asked.request.http_version >= b"1.1"
        while True:
            event = await self._next()
            if isinstance(event, h11.Data):
                await self._client.send(_sent(self.ours, event), SLOW)
            elif isinstance(event, h11.EndOfMessage):
                trailers = border.trailed(event.headers) if chunked else []
                end = h11.EndOfMessage(headers=trailers)
                await self._client.send(_sent(self.ours, end), SLOW)
                return
            else:
                raise Unfinished(_CLOSED)


def splice(
    exchange: Exchange,
    client: Stream,
    session: Stream,
    traffic: Traffic,
    on_closed: Callable[[], None],
) -> tuple[Pipe, Pipe]:
    """Raw bytes both ways from here on; the exchange has begun a WebSocket."""
    ends = near, far = pair(traffic, on_closed)
    held = (
        exchange.ours.trailing_data[0] + client.detach(),
        exchange.theirs.trailing_data[0] + session.detach(),
    )
    for pipe, stream in ((near, client), (far, session)):
        stream.become(pipe)
    for pipe, data in zip(ends, held, strict=True):
        if data:
            pipe.data_received(data)
    for pipe, stream in ((near, client), (far, session)):
        if stream.lost:
            pipe.connection_lost(None)
        elif stream.ended:
            pipe.eof_received()
    return ends


_CLOSED = "The session closed the connection."


def _sent(connection: h11.Connection, event: h11.Event) -> bytes:
    return connection.send(event) or b""


def _reason(status: int) -> str:
    return {100: "Continue", 101: "Switching Protocols", 103: "Early Hints"}[status]
