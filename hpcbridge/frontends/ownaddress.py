"""A client's connection at a session's own address, for one request or for a WebSocket's life.

Between requests it is uvicorn's again: a proxy in front may send anybody's requests on it.
"""

import asyncio
import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Protocol

import h11

from hpcbridge.errors import BridgeError
from hpcbridge.frontends.address import SessionAddresses
from hpcbridge.frontends.admission import Admission, Enters, Redirect, Visit, still_admitted
from hpcbridge.frontends.exchange import Exchange, Unfinished, splice
from hpcbridge.frontends.forwarding import Refused, error_reply
from hpcbridge.frontends.origin import HostNames
from hpcbridge.frontends.visits import Asked, read_visit
from hpcbridge.network.addresses import Address
from hpcbridge.network.counts import Counts
from hpcbridge.network.splice import Pipe, Traffic
from hpcbridge.network.stream import Stream, open_stream

_log = logging.getLogger(__name__)

#: Seconds that a session's address gets to accept a connection.
CONNECT_TIMEOUT = 5.0
#: Seconds after which it is asked again whether a client may have the session.
ASK_AGAIN = 30.0
#: Seconds that a client gets to take the last words.
LAST_WORDS = 2.0

NONE = "No such session, or not one of yours. Open it from the portal."
"""Said to all who may not have it, so that strangers do not learn whether there is one."""


class Front(Protocol):
    """What is needed of the front end."""

    origins: tuple[str, ...]
    names: HostNames
    enters: Enters
    counts: Counts
    strict_transport: str | None
    hints: bool

    async def found(self, session_id: str) -> Address | None:
        """Where a session is, or will be in a moment."""
        ...

    def leave(self, connection: "OwnAddress") -> None:
        """The connection is gone."""
        ...

    def take_back(self, connection: "OwnAddress", left: bytes) -> None:
        """The request is answered; ``left`` are the bytes of the next one."""
        ...


class OwnAddress:
    """``encrypted`` says that the client came by TLS; ``peer`` is its address."""

    def __init__(
        self, front: Front, addresses: SessionAddresses, *, encrypted: bool, peer: str | None
    ) -> None:
        self._front = front
        self._addresses = addresses
        self._encrypted = encrypted
        self._peer = peer
        self._session: Stream | None = None
        self._pipes: tuple[Pipe, Pipe] | None = None
        self._counted: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self.client = Stream(self._lost)

    @property
    def _strict(self) -> str | None:
        """Strict-Transport-Security (RFC 6797), which is said over TLS alone."""
        return self._front.strict_transport if self._encrypted else None

    def begin(self, transport: asyncio.Transport, received: bytes) -> asyncio.Task[None]:
        """Take the connection over; ``received`` has a whole head, and perhaps more."""
        self.transport = transport
        transport.set_protocol(self.client)
        self.client.connection_made(transport)
        transport.resume_reading()
        self._task = asyncio.create_task(self._serve(received), name="visit")
        return self._task

    def shutdown(self) -> None:
        """Drop it: the server ends, or the client may not have the session any more."""
        self._task.cancel()
        for each in self._pipes or ():
            each.abort()
        if self._session is not None:
            self._session.abort()
        self.transport.abort()

    def _lost(self) -> None:
        if self._pipes is None:
            self._task.cancel()
        self._over()

    def _over(self) -> None:
        self._quiet()
        self._front.leave(self)

    def _quiet(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._counted is not None:
            self._front.counts.exit(self._counted)
            self._counted = None

    async def _serve(self, received: bytes) -> None:
        asked = None
        try:
            asked = read_visit(
                received,
                self._addresses,
                encrypted=self._encrypted,
                peer=self._peer,
                origins=self._front.origins,
                names=self._front.names,
            )
            exchange = await self._exchange(asked)
            if exchange is not None and await exchange.run():
                self._splice(exchange)
            else:
                await self._answered(exchange)
        except Refused as error:
            await self._refuse(error, asked)
        except Unfinished as error:
            _log.info("a session: %s", error)
            self.client.abort()
        except ConnectionError:
            self.client.abort()
        except TimeoutError:
            _log.info("a client does not take its reply")
            self.client.abort()
        except BaseException:
            self.client.abort()  # it must not wait for what never comes
            raise
        finally:
            if self._session is not None and self._pipes is None:
                self._session.abort()

    async def _exchange(self, asked: Asked) -> Exchange | None:
        """Both ends, where the client may have the session; None where it has its answer."""
        visit = asked.visit
        if not self._front.counts.enter(visit.session_id):
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "The session has too many connections.")
        self._counted = visit.session_id
        address, admission = await self._admitted(visit)
        if isinstance(admission, Redirect):
            await self._redirect(HTTPStatus.SEE_OTHER, admission.location, admission.cookie)
            return None
        assert address is not None  # there is one, or the client is redirected
        if not visit.target:
            await self._redirect(HTTPStatus.PERMANENT_REDIRECT, f"{visit.prefix}/")
            return None
        if admission.launched is not None and _is_launch(visit):
            await self._launched(admission.launched)
            return None
        self._session = await _connected(address)
        self._ask_later(visit)
        return Exchange(
            asked, admission, self.client, self._session, self._strict, hints=self._front.hints
        )

    async def _admitted(self, visit: Visit) -> tuple[Address | None, Admission | Redirect]:
        """Who may, before where it is: strangers learn nothing of a session, nor by how long that
        takes. Raises :class:`Refused` for what this client cannot have."""
        try:
            admission = await self._front.enters(visit)
            if admission is None or isinstance(admission, Redirect):
                address = None
            else:
                address = await self._front.found(visit.session_id)
        except BridgeError as error:
            raise Refused(HTTPStatus(error.status), str(error)) from error
        if admission is None or (address is None and not isinstance(admission, Redirect)):
            raise Refused(HTTPStatus.NOT_FOUND, NONE)
        return address, admission

    def _ask_later(self, visit: Visit) -> None:
        loop = asyncio.get_running_loop()

        def ask() -> None:
            self._asking = loop.create_task(self._ask_again(visit), name="ask again")

        self._timer = loop.call_later(ASK_AGAIN, ask)

    async def _ask_again(self, visit: Visit) -> None:
        may = await still_admitted(self._front.enters(visit, again=True))
        if self._counted is None:  # has gone, or asks for something else
            return
        if may:
            self._ask_later(visit)
        else:
            self.shutdown()

    async def _launched(self, told: Mapping[str, str]) -> None:
        body = json.dumps(dict(told)).encode()
        lines = [
            "HTTP/1.1 200 OK",
            "content-type: application/json",
            f"content-length: {len(body)}",
            "cache-control: no-store",
            "connection: close",
        ]
        head = "\r\n".join([*lines, "", ""]).encode()
        await self.client.send(head + body, LAST_WORDS)

    async def _redirect(self, status: HTTPStatus, location: str, cookie: str = "") -> None:
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"location: {location}",
            *([f"set-cookie: {cookie}"] if cookie else []),
            *([f"strict-transport-security: {self._strict}"] if self._strict else []),
            "cache-control: no-store",
            "referrer-policy: no-referrer",
            "content-length: 0",
            "connection: close",
        ]
        await self.client.send("\r\n".join([*lines, "", ""]).encode("latin-1"), LAST_WORDS)

    async def _refuse(self, error: Refused, asked: Asked | None) -> None:
        head_only = asked is not None and asked.visit.method == "HEAD"
        reply = error_reply(error.status, str(error), with_body=not head_only, allow="")
        try:
            await self.client.send(reply, LAST_WORDS)
            await self.client.finish(LAST_WORDS)
        except (ConnectionError, TimeoutError):
            self.client.abort()

    async def _answered(self, exchange: Exchange | None) -> None:
        """Keep the client's connection where both messages are at their end."""
        ours = exchange.ours if exchange else None
        done = ours and ours.our_state is h11.DONE and ours.their_state is h11.DONE
        if not ours or not done or self.client.ended:
            await self.client.finish(LAST_WORDS)
            return
        left = ours.trailing_data[0] + self.client.detach()
        self._quiet()
        self._front.take_back(self, left)

    def _splice(self, exchange: Exchange) -> None:
        """A WebSocket: raw bytes both ways from here on."""
        session = self._session
        assert session is not None
        if self.client.lost or session.lost:
            self.shutdown()
            self._over()
            return
        self._pipes = splice(exchange, self.client, session, Traffic(), self._over)


def _is_launch(visit: Visit) -> bool:
    """Whether a page of wslink's asks its launcher; it does so below its own folder."""
    path = visit.target.partition("?")[0]
    return visit.method == "POST" and path.rstrip("/").endswith("/paraview")


async def _connected(address: Address) -> Stream:
    try:
        return await open_stream(address, CONNECT_TIMEOUT)
    except (OSError, TimeoutError) as error:
        _log.info("a session: %s", error)
        reason = "The session cannot be reached. Has it ended?"
        raise Refused(HTTPStatus.BAD_GATEWAY, reason) from error
