"""What the built-in front end asks of the rest: may this client have that session, and how."""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from hpcbridge.frontends.base import Headers

#: Cookies of ours; no application gets them or sets them.
COOKIES = ("hpcbridge", "__Host-hpcbridge")
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


class Enters(Protocol):
    """Whether a client may go on to a session; ``again`` where it is there already."""

    def __call__(
        self, visit: Visit, *, again: bool = False
    ) -> Awaitable[Admission | Redirect | None]:
        """None for somebody who may not. May raise a BridgeError."""
        ...
