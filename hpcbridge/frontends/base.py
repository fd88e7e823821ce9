"""What the rest of hpcbridge knows of a front end: routes, and someone who publishes them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from hpcbridge.errors import RouteError
from hpcbridge.network.addresses import Address, TCPAddress

#: URL-safe base64 of at least 128 random bits. Everything that writes or reads an id insists on it.
SESSION_ID = re.compile(r"[A-Za-z0-9_-]{22,64}")

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Names in lower case, and values, as ASGI has them."""

#: The only host a TCP route may name: the end of a tunnel on this machine.
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Route:
    """Where the front end must connect for a session.

    Raises :class:`~hpcbridge.errors.RouteError` for an id, host, port or socket path that could
    mean something else in a map or a URL.
    """

    session_id: str
    address: Address

    def __post_init__(self) -> None:
        if not SESSION_ID.fullmatch(self.session_id):
            raise RouteError("A session id has 22 to 64 letters, digits, '-' and '_'.")
        check_address(self.address)


def check_address(address: Address) -> None:
    """Raise :class:`~hpcbridge.errors.RouteError` unless a front end may be sent to ``address``."""
    if not isinstance(address, TCPAddress):
        if not address.path.is_absolute() or "\0" in str(address.path):
            raise RouteError(f"A route's socket needs an absolute path, not {str(address.path)!r}.")
    elif address.host != LOOPBACK:
        raise RouteError(f"A route leads to {LOOPBACK}, not to {address.host!r}.")
    elif isinstance(address.port, bool) or not 1 <= address.port <= 65535:
        raise RouteError(f"A route's port is 1 to 65535, not {address.port}.")


#: Routes by session id.
Routes = Mapping[str, Route]


class Publisher(Protocol):
    """Tells one front end. Every method raises :class:`~hpcbridge.errors.RouteError`.

    Only one call is made at a time, always with all routes; the mapping is not to be changed or
    kept.
    """

    async def start(self, routes: Routes) -> None:
        """Replace whatever an earlier run left by ``routes``."""
        ...

    async def publish(self, routes: Routes) -> None:
        """Return when the front end's next request will see exactly ``routes``."""
        ...

    async def close(self) -> None:
        """The service ends and its tunnels with it: leave no route behind."""
        ...
