"""Whether the web page that sent a request may do so (cross-site requests, WebSockets included).

Browsers send ``Origin`` with every WebSocket handshake and every POST and do not let a page choose
it; programs without a page send none.
"""

import ipaddress
import re
from collections.abc import Collection
from urllib.parse import urlsplit

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/@]{1,255}?)\.?(?::[0-9]{0,5})?")
_SHOWN = re.compile(r"[A-Za-z0-9._:\[\]-]{1,100}")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class HostNames:
    """The names of this host; ``*`` among them is any.

    A browser says in ``Host`` under which name it reached us. A page whose name was made to lead
    here (DNS rebinding) counts for it as a page of ours: only that name shows that it is not.
    Addresses and ``localhost`` are nobody else's.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = {name.lower() for name in names}

    def know(self, host: str | None) -> bool:
        """Whether ``Host`` names this host; no browser comes without one."""
        found = _HOST.fullmatch(host or "")
        return host is None or (found is not None and self._ours(found[1]))

    def _ours(self, name: str) -> bool:
        if "*" in self._names or name.lower() in self._names or name.lower() == "localhost":
            return True
        try:
            return bool(ipaddress.ip_address(name.strip("[]")))
        except ValueError:
            return False


ANY_NAME = HostNames(["*"])


def unknown_name(host: str) -> str:
    """What somebody is told who asked for a host that is not ours."""
    shown = f"the name '{host}'" if _SHOWN.fullmatch(host) else "this name"
    return (
        f"This service does not answer to {shown}. If it should, its admins can add it to "
        "server.host_names."
    )


def origin_allowed(origin: str | None, host: str | None, allowed: Collection[str] = ()) -> bool:
    """Whether a page of ``origin`` may talk to ``host`` (the values of those two headers).

    Allowed are: no origin at all, the same host and port as the request's, and the origins in
    ``allowed`` (``https://portal.example.org``, or ``*`` for any). The scheme is not compared,
    because a proxy in front may end TLS. ``null``, which sandboxed pages send, is allowed only by
    name. Whether the host is ours is for :class:`HostNames` to say.
    """
    if origin is None or "*" in allowed or origin.lower() in {entry.lower() for entry in allowed}:
        return True
    page, here = _host_and_port(origin), _host_and_port(f"{origin.partition('://')[0]}://{host}")
    return page is not None and page == here


def _host_and_port(origin: str) -> tuple[str, int] | None:
    """Of ``scheme://host[:port]`` and nothing more; None where it is anything else."""
    try:
        parts = urlsplit(origin)
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
    except (ValueError, KeyError):
        return None
    if not parts.hostname or f"{parts.scheme}://{parts.netloc}" != origin or "@" in origin:
        return None
    return parts.hostname, port
