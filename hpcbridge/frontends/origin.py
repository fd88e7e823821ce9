"""Whether the web page that sent a request may do so (cross-site requests, WebSockets included).

Browsers send ``Origin`` with every WebSocket handshake and every POST and do not let a page choose
it; programs without a page send none.
"""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


def origin_allowed(
    origin: str | None,
    host: str | None,
    allowed: Collection[str] = (),
    names: Collection[str] | None = None,
) -> bool:
    """Whether a page of ``origin`` may talk to ``host`` (the values of those two headers).

    Allowed are: no origin at all, the same host and port as the request's, and the origins in
    ``allowed`` (``https://portal.example.org``, or ``*`` for any). The scheme is not compared,
    because a proxy in front may end TLS. ``null``, which sandboxed pages send, is allowed only by
    name. Where ``names`` are given, the host is one of them, ``localhost`` or an address: of a page
    whose name was made to lead here (DNS rebinding), both headers say the same.
    """
    if origin is None or "*" in allowed or origin.lower() in {entry.lower() for entry in allowed}:
        return True
    page, here = _host_and_port(origin), _host_and_port(f"{origin.partition('://')[0]}://{host}")
    return page is not None and page == here and (names is None or _is_ours(page[0], names))


def _is_ours(host: str, names: Collection[str]) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return host == "localhost" or host in {name.lower() for name in names}


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
