"""What the built-in front end makes of a request for a session: pure functions, no I/O."""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qsl

import h11

from hpcbridge.frontends.base import SESSION_ID
from hpcbridge.frontends.origin import ANY_NAME, HostNames, origin_allowed, unknown_name

#: What the target of such a request begins with.
PREFIX = b"/proxy?"
#: Bytes of a request's head.
HEAD_LIMIT = 16 * 1024

_SAFE_PATH = re.compile(r"[A-Za-z0-9._/-]*")

# An allow-list, so that no cookie, credential or user name under any spelling reaches a session:
# every other session is another user's program. No Referer: the page's address may hold a secret.
_PASSED = frozenset(
    b"accept accept-encoding accept-language cache-control host if-match if-modified-since "
    b"if-none-match if-range if-unmodified-since origin pragma range sec-websocket-extensions "
    b"sec-websocket-key sec-websocket-protocol sec-websocket-version user-agent".split()
)


class Refused(Exception):
    """The request gets an error instead of a session; ``str`` is the reply's ``error``."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Forward:
    """A request that may go to a session, and the head to send there."""

    session_id: str
    head: bytes
    websocket: bool
    #: As the client sent them; most do not go on to the session.
    headers: tuple[tuple[bytes, bytes], ...] = ()


def is_forwarded(start: bytes) -> bool | None:
    """Whether a request that starts so is for a session; None when more bytes must come first."""
    method, space, target = start.partition(b" ")
    if not method.isalpha() or len(method) > 20:
        return False if start else None
    if not space:
        return None
    if len(target) < len(PREFIX) and PREFIX.startswith(target):
        return None
    return target.startswith(PREFIX)


def read_head(
    received: bytes,
    origins: Collection[str],
    websocket_paths: Collection[str],
    names: HostNames = ANY_NAME,
) -> tuple[Forward, bytes] | None:
    """The request and the bytes after its head, or None while the head is not complete.

    Raises :class:`Refused`.
    """
    end = received.find(b"\r\n\r\n")
    if (end if end >= 0 else len(received)) > HEAD_LIMIT:
        raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's head is too long.")
    if end >= 0 and TORN.search(received[:end]):
        raise Refused(HTTPStatus.BAD_REQUEST, "The request's lines do not end as HTTP's do.")
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
    parser.receive_data(received)
    try:
        request = parser.next_event()
    except h11.RemoteProtocolError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, f"Not a valid HTTP request: {error}.") from error
    if not isinstance(request, h11.Request):
        return None
    _check_page(request, origins, names)
    return _forward(request, websocket_paths), parser.trailing_data[0]


def _check_page(request: h11.Request, origins: Collection[str], names: HostNames) -> None:
    origin, host = values(request, b"origin"), values(request, b"host")
    if len(origin) > 1 or len(host) != 1:
        raise Refused(HTTPStatus.BAD_REQUEST, "One Host and at most one Origin header, please.")
    text, here = origin[0].decode("latin-1") if origin else None, host[0].decode("latin-1")
    if not names.know(here):
        raise Refused(HTTPStatus.MISDIRECTED_REQUEST, unknown_name(here))
    if not origin_allowed(text, here, origins):
        raise Refused(HTTPStatus.FORBIDDEN, "This web page may not use the sessions here.")


def _forward(request: h11.Request, websocket_paths: Collection[str]) -> Forward:
    if request.method not in (b"GET", b"HEAD"):
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "A session takes GET and HEAD only.")
    if values(request, b"transfer-encoding") or values(request, b"content-length") not in (
        [],
        [b"0"],
    ):
        raise Refused(HTTPStatus.BAD_REQUEST, "A request for a session has no body.")
    if request.http_version != b"1.1" and values(request, b"upgrade"):
        raise Refused(HTTPStatus.BAD_REQUEST, "HTTP/1.0 has no upgrades.")
    session_id, path = _arguments(request.target)
    websocket = is_websocket(request)
    if websocket:
        path = next(iter(websocket_paths)) if path is None else path
        if path not in websocket_paths:
            raise Refused(HTTPStatus.BAD_REQUEST, "The path of a WebSocket is not free to choose.")
    else:
        path = (path or "").lstrip("/")
        if ".." in path or not _SAFE_PATH.fullmatch(path):
            raise Refused(HTTPStatus.BAD_REQUEST, "The path has characters that are not allowed.")
    head = _head(request, path, websocket)
    return Forward(session_id, head, websocket, tuple(request.headers))


def _arguments(target: bytes) -> tuple[str, str | None]:
    """Id and path of ``/proxy?sessionId=ID&path=PATH``, in any order; others are dropped.

    ``sessionId`` in any case: trame's client makes all of a session's address lower case.
    """
    arguments: dict[str, str] = {}
    try:
        pairs = parse_qsl(
            target[len(PREFIX) :].decode("ascii"), keep_blank_values=True, errors="strict"
        )
    except ValueError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, "The query is not valid.") from error
    for spelled, value in pairs:
        name = "sessionId" if spelled.lower() == "sessionid" else spelled
        if name in arguments and name in ("sessionId", "path"):
            raise Refused(HTTPStatus.BAD_REQUEST, f"{name} is given twice.")
        arguments[name] = value
    session_id = arguments.get("sessionId", "")
    if not SESSION_ID.fullmatch(session_id):
        raise Refused(HTTPStatus.NOT_FOUND, "No such session.")
    return session_id, arguments.get("path")


def is_websocket(request: h11.Request) -> bool:
    """Whether it asks for a WebSocket."""
    tokens = b",".join(values(request, b"connection")).lower().split(b",")
    wanted = [value.lower() for value in values(request, b"upgrade")] == [b"websocket"]
    return wanted and b"upgrade" in (token.strip() for token in tokens) and request.method == b"GET"


def _head(request: h11.Request, path: str, websocket: bool) -> bytes:
    lines = [b"%s /%s HTTP/%s" % (request.method, path.encode("ascii"), request.http_version)]
    lines += [b"%s: %s" % (name, value) for name, value in request.headers if name in _PASSED]
    # "close": a second request on this connection would go to the session unseen.
    lines += (
        [b"connection: Upgrade", b"upgrade: websocket"] if websocket else [b"connection: close"]
    )
    return b"\r\n".join(lines) + b"\r\n\r\n"


def values(request: h11.Request, name: bytes) -> list[bytes]:
    """The values of a header."""
    return [value for header, value in request.headers if header == name]


def error_reply(
    status: HTTPStatus, reason: str, *, with_body: bool = True, allow: str = "GET, HEAD"
) -> bytes:
    """A complete reply that closes the connection; a HEAD request gets no body."""
    body = json.dumps({"error": reason}).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(body)}\r\n"
        + (f"allow: {allow}\r\n" if status is HTTPStatus.METHOD_NOT_ALLOWED else "")
        + "cache-control: no-store\r\nconnection: close\r\n\r\n"
    )
    return head.encode("ascii") + (body if with_body else b"")


# A session is another user's program, and its pages come from the portal's own origin. Sandboxed,
# they get an origin of their own and cannot act as the client.
_PLAIN_REPLY = [
    b"content-security-policy: sandbox allow-scripts allow-downloads",
    b"x-content-type-options: nosniff",
    b"connection: close",
]

# Some headers speak for the whole origin (Set-Cookie, Clear-Site-Data, NEL), so this is a list too.
_ANSWERED = frozenset(
    b"accept-ranges access-control-allow-origin age allow cache-control content-disposition "
    b"content-encoding content-language content-length content-range content-security-policy "
    b"content-type cross-origin-embedder-policy cross-origin-opener-policy "
    b"cross-origin-resource-policy date etag expires last-modified location pragma "
    b"referrer-policy retry-after transfer-encoding vary x-frame-options".split()
)
_SWITCHED = frozenset(
    b"connection date sec-websocket-accept sec-websocket-extensions sec-websocket-protocol "
    b"upgrade".split()
)
#: Browsers take a line feed alone for a line's end, and would see other lines than we do.
TORN = re.compile(rb"\0|\r(?!\n)|(?<!\r)\n|\r\n[ \t]")


def status_of(reply_head: bytes) -> int | None:
    """The status of a reply's head, None where it is not HTTP/1 as everybody reads it.

    None for interim replies, too: what follows one is another head.
    """
    match = re.match(rb"HTTP/1\.[01] (101|[2-5][0-9]{2})[ \r]", reply_head)
    return int(match[1]) if match and not TORN.search(reply_head) else None


def clean_reply(reply_head: bytes, *, websocket: bool) -> bytes:
    """A session's reply head (with its empty line) as the client gets it."""
    passed = _SWITCHED if websocket else _ANSWERED
    status, *lines = reply_head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    kept = [line for line in lines if line.partition(b":")[0].lower() in passed]
    return b"\r\n".join([status, *kept, *([] if websocket else _PLAIN_REPLY)]) + b"\r\n\r\n"
