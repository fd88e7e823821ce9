"""What the built-in front end asks of the rest: may this client have that session, and how."""

import logging
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from string import Template
from typing import Protocol

from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.frontends.base import Headers
from hpcbridge.store import SessionRow

_log = logging.getLogger(__name__)

#: The cookie of a session's own address, and the same over TLS.
SESSION_COOKIES = ("hpcbridge", "__Host-hpcbridge")
#: The cookie of a browser at the portal where there are no users, and the same over TLS.
VISITOR_COOKIES = ("hpcbridge_visitor", "__Host-hpcbridge_visitor")
#: Cookies of ours; no application gets them or sets them.
COOKIES = SESSION_COOKIES + VISITOR_COOKIES
#: The argument of an address that admits once.
TICKET = "hpcbridge_ticket"


@dataclass(frozen=True)
class Visit:
    """A request for a session at its own address."""

    session_id: str
    method: str
    #: Path and query below the session's address.
    target: str
    #: The path of the session's address; "" for a host of its own.
    prefix: str
    headers: Headers
    host: str
    #: Whether it came by TLS.
    encrypted: bool
    #: The client's address, None for one that came by a unix socket.
    peer: str | None


@dataclass(frozen=True)
class Admission:
    """What goes to the session with a client's request, and how its application wants it."""

    #: ``http`` or ``https``, as the client sees it.
    scheme: str = "http"
    client: str = ""
    #: Whether the prefix of the address is taken off the path.
    strip_prefix: bool = True
    #: Names of the cookies that cross, ``*`` for any ending; None for all but known logins'.
    cookies: tuple[str, ...] | None = None
    #: Headers that the application gets from us.
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Arguments of the query that it gets from us.
    query: Mapping[str, str] = field(default_factory=dict)
    #: What its pages hear that ask for a launch; None where they may ask the application.
    launched: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Redirect:
    """The client was admitted by a ticket: it gets a cookie, and asks again without the ticket."""

    location: str
    cookie: str


def admission(
    application: ApplicationSettings | None,
    row: SessionRow,
    visit: Visit,
    session_url: str,
    scheme: str,
    client: str,
) -> Admission:
    """What the configuration says of a session's requests. ``application`` None is not there any
    more; ``session_url`` is the WebSocket's address."""
    if application is None:
        return Admission(scheme, client)
    cookies = application.cookies
    if cookies is None and visit.prefix:
        cookies = []
    values = {"id": row.id, "secret": row.secret or "", "session_url": session_url}
    launched = {"id": row.id, "sessionURL": session_url, "secret": values["secret"]}
    return Admission(
        scheme,
        client,
        application.strip_prefix,
        None if cookies is None else tuple(cookies),
        _filled(application.inject.headers, values),
        _filled(application.inject.query, values),
        launched if application.inject.launched else None,
    )


def _filled(texts: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    return {name: Template(text).substitute(values) for name, text in texts.items()}


class Enters(Protocol):
    """Whether a client may go on to a session; ``again`` where it is there already."""

    def __call__(
        self, visit: Visit, *, again: bool = False
    ) -> Awaitable[Admission | Redirect | None]:
        """None for somebody who may not. May raise a BridgeError."""
        ...


async def still_admitted(asked: Awaitable[object]) -> bool:
    """Whether a client may stay, by the answer when it is asked again.

    A question that failed ends nothing: the next one does, if it is answered.
    """
    try:
        if await asked:
            return True
    except Exception:
        _log.exception("whether a client still may have the session cannot be asked")
        return True
    _log.info("a client may not have the session any more")
    return False
