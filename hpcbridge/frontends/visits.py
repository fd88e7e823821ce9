"""Requests for sessions at their own addresses: which they are, and which of them are refused."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

import h11

from hpcbridge.frontends.address import Place, SessionAddresses
from hpcbridge.frontends.admission import Visit
from hpcbridge.frontends.forwarding import HEAD_LIMIT, TORN, Refused, is_websocket, values
from hpcbridge.frontends.origin import ANY_NAME, HostNames, origin_allowed, unknown_name

_END = re.compile(rb"\n\r?\n")  # what h11 takes for a head's end
_LENGTHS = re.compile(rb"\r\n(?:content-length|transfer-encoding)[ \t]*:[^\r]*", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """A request that is in order; ``connection`` has read its head and nothing more."""

    visit: Visit
    websocket: bool
    request: h11.Request
    connection: h11.Connection


def is_visit(received: bytes, addresses: SessionAddresses) -> bool | None:
    """Whether a request is for a session's own address; None while its head is not complete."""
    end = _END.search(received)
    if end is None:
        return None
    first, *lines = received[: end.start()].decode("latin-1").split("\n")
    _, _, target = first.partition(" ")
    pairs = [line.partition(":") for line in lines]
    hosts = [value.strip() for name, _, value in pairs if name.strip().lower() == "host"]
    return addresses.place(hosts, target.partition(" ")[0]) is not None


class Places(Protocol):
    """Tells whose address something is."""

    def place(self, hosts: list[str], target: str) -> Place | None:
        """See :meth:`~hpcbridge.frontends.address.SessionAddresses.place`."""
        ...


def read_visit(
    received: bytes,
    addresses: Places,
    *,
    encrypted: bool = False,
    peer: str | None = None,
    origins: Collection[str] | None = (),
    names: HostNames = ANY_NAME,
) -> Asked:
    """The request at the beginning of ``received``, where :func:`is_visit` says that it is one.

    ``origins`` are pages that may send it besides the address's own; None where somebody else sees
    to that. ``names`` are the portal's, whose host some addresses have.

    Raises :class:`~hpcbridge.frontends.forwarding.Refused`.
    """
    head, connection, request = _parsed(received)
    hosts = [value.decode("latin-1") for value in values(request, b"host")]
    target = request.target.decode("ascii")
    place = addresses.place(hosts, target)
    if place is None or len(hosts) != 1 or not target.startswith("/") or "#" in target:
        raise Refused(HTTPStatus.BAD_REQUEST, "One Host, and a path, please.")
    if place.session_id is None:
        raise Refused(HTTPStatus.NOT_FOUND, "No such session.")
    if place.prefix and not names.know(hosts[0]):
        raise Refused(HTTPStatus.MISDIRECTED_REQUEST, unknown_name(hosts[0]))
    websocket = _check_form(request, head)
    if origins is not None:
        _check_page(request, hosts[0], origins)
    visit = Visit(
        place.session_id,
        request.method.decode("ascii"),
        place.target,
        place.prefix,
        tuple(request.headers),
        hosts[0],
        encrypted,
        peer,
    )
    return Asked(visit, websocket, request, connection)


def _parsed(received: bytes) -> tuple[bytes, h11.Connection, h11.Request]:
    """The head as it came, and what has read it."""
    end = received.find(b"\r\n\r\n")
    if end > HEAD_LIMIT:
        raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's head is too long.")
    head = received[:end]
    if end < 0 or TORN.search(head):
        raise Refused(HTTPStatus.BAD_REQUEST, "The request's lines do not end as HTTP's do.")
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
    connection.receive_data(received)
    try:
        request = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, f"Not a valid HTTP request: {error}.") from error
    assert isinstance(request, h11.Request)  # its head is complete
    return head, connection, request


def _check_form(request: h11.Request, head: bytes) -> bool:
    """Whether it is a WebSocket. Refuses what two programs could read differently (RFC 9112)."""
    if request.method in (b"CONNECT", b"TRACE"):
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "A session takes no CONNECT and no TRACE.")
    lengths = _LENGTHS.findall(head)
    if len(lengths) > 1 or b"," in b"".join(lengths):
        raise Refused(HTTPStatus.BAD_REQUEST, "The request has two lengths.")
    if request.http_version not in (b"1.0", b"1.1"):
        raise Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "HTTP/1.1, please.")
    old = request.http_version == b"1.0"
    body = values(request, b"transfer-encoding") or values(request, b"content-length") not in (
        [],
        [b"0"],
    )
    if old and (values(request, b"transfer-encoding") or values(request, b"upgrade")):
        raise Refused(HTTPStatus.BAD_REQUEST, "HTTP/1.0 has neither chunks nor upgrades.")
    websocket = is_websocket(request)
    if websocket and body:
        raise Refused(HTTPStatus.BAD_REQUEST, "A WebSocket's handshake has no body.")
    return websocket


def _check_page(request: h11.Request, host: str, origins: Collection[str]) -> None:
    """A page of another address may link here, and nothing else; sessions next door neither.

    ``Sec-Fetch-*`` (W3C Fetch Metadata) tell of requests that have no ``Origin``.
    """
    pages = values(request, b"origin")
    site, mode = values(request, b"sec-fetch-site"), values(request, b"sec-fetch-mode")
    link = request.method in (b"GET", b"HEAD") and mode == [b"navigate"]
    elsewhere = bool(site) and site not in ([b"same-origin"], [b"none"])
    foreign = len(pages) > 1 or not origin_allowed(
        pages[0].decode("latin-1") if pages else None, host, origins
    )
    listed = bool(pages) and not foreign
    if not link and (foreign or (elsewhere and not listed)):
        raise Refused(HTTPStatus.FORBIDDEN, "Pages of other addresses may not use this session.")
