"""A tunnel's local end behind another web server: what crosses is a list there as well.

Whatever that server passes on by its own configuration, no cookie, credential or user name reaches
the session, and no header of its reply speaks for more than its address. Who may come, and from
which pages, that server has decided.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from http import HTTPStatus

import h11

from hpcbridge.config.settings import Settings
from hpcbridge.frontends.address import Place, SessionAddresses
from hpcbridge.frontends.admission import Admission, Visit, admission
from hpcbridge.frontends.exchange import Exchange, Unfinished, splice
from hpcbridge.frontends.forwarding import HEAD_LIMIT, Refused, error_reply
from hpcbridge.frontends.timed import HEAD_TIMEOUT
from hpcbridge.frontends.visits import Asked, read_visit
from hpcbridge.network.relay import Reach
from hpcbridge.network.splice import ConnectError, Traffic
from hpcbridge.network.stream import Stream
from hpcbridge.store import SessionRow

#: Seconds that a web server may keep a connection to us between two requests.
KEPT = 300.0
#: Seconds that a client gets to take the last words.
LAST_WORDS = 2.0
#: Connections of clients to one session.
MOST = 512
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,255})(:[0-9]{1,5})?")

Admit = Callable[[Visit], Admission]


class LocalEnd:
    """Serves the clients of one session's local end; ``admit`` says what crosses."""

    def __init__(self, session_id: str, admit: Admit) -> None:
        self._session_id = session_id
        self._admit = admit
        self._open = 0

    def place(self, hosts: list[str], target: str) -> Place | None:
        """All that comes here is the session's."""
        return Place(self._session_id, "", target)

    async def __call__(self, client: Stream, reach: Reach, traffic: Traffic) -> None:
        """See :data:`hpcbridge.network.relay.Serve`."""
        self._open += 1
        try:
            self._check_room()
            left: bytes | None = b""
            while left is not None and (received := await _head(client, left)):
                left = await self._one(client, received, reach, traffic)
        except Refused as error:
            with contextlib.suppress(ConnectionError, TimeoutError):
                await client.send(error_reply(error.status, str(error)), LAST_WORDS)
        except (ConnectionError, TimeoutError, Unfinished):
            client.abort()
        finally:
            self._open -= 1
        await client.finish(LAST_WORDS)

    def _check_room(self) -> None:
        if self._open > MOST:
            reason = "The session has too many connections."
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, reason)

    async def _one(
        self, client: Stream, received: bytes, reach: Reach, traffic: Traffic
    ) -> bytes | None:
        """Serve a request; returns the bytes after it, or None where no other may follow."""
        asked = read_visit(received, self, origins=None)
        asked = replace(asked, visit=_as_seen_outside(asked))
        session = None
        try:
            with _counted(traffic):
                session = await reach()
                exchange = Exchange(asked, self._admit(asked.visit), client, session)
                websocket = await exchange.run()
            if websocket:
                over = asyncio.Event()
                splice(exchange, client, session, traffic, over.set)
                await over.wait()
                return None
        except ConnectError as error:
            reason = "The session cannot be reached. Has it ended?"
            raise Refused(HTTPStatus.BAD_GATEWAY, reason) from error
        finally:
            if session is not None:
                session.abort()
        ours = exchange.ours
        done = ours.our_state is h11.DONE and ours.their_state is h11.DONE
        return ours.trailing_data[0] if done else None


@contextlib.contextmanager
def _counted(traffic: Traffic) -> Iterator[None]:
    traffic.changed(1)
    try:
        yield
    finally:
        traffic.changed(-1)


async def _head(client: Stream, received: bytes) -> bytes:
    """The bytes of a request, its head to the end; b"" where there is none any more."""
    while b"\r\n\r\n" not in received:
        if len(received) > HEAD_LIMIT:
            reason = "The request's head is too long."
            raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason)
        more = await client.receive(HEAD_TIMEOUT if received else KEPT)
        if not more:
            return b""
        received += more
    return received


def _as_seen_outside(asked: Asked) -> Visit:
    """The request with the host that its client knows, as the web server tells it."""
    visit = asked.visit
    told = [value.decode("latin-1") for name, value in visit.headers if name == b"x-forwarded-host"]
    known = len(told) == 1 and _HOST.fullmatch(told[0])
    return replace(visit, host=told[0]) if known else visit


def local_end(
    row: SessionRow, settings: Settings, addresses: SessionAddresses | None
) -> LocalEnd | None:
    """What serves a session's local end; None where the built-in front end is before it."""
    if settings.frontend.built_in:
        return None
    application = settings.applications.get(row.application)  # as it is when the tunnel opens

    def admit(visit: Visit) -> Admission:
        scheme = "https" if _told(visit, b"x-forwarded-proto") == "https" else "http"
        client = _told(visit, b"x-forwarded-for")
        url, own = "", False
        if addresses is not None:
            ws = addresses.url(row.id, "wss" if scheme == "https" else "ws", visit.host)
            url = f"{ws}{settings.frontend.websocket_paths[0]}"
            place = addresses.place([visit.host], "/")
            own = place is not None and place.session_id == row.id
        found = admission(application, row, visit, url, scheme, client)
        # At the portal's host, cookies are the portal's.
        return found if own else replace(found, cookies=())

    return LocalEnd(row.id, admit)


def _told(visit: Visit, wanted: bytes) -> str:
    found = [value.decode("latin-1") for name, value in visit.headers if name == wanted]
    return found[0] if len(found) == 1 else ""
