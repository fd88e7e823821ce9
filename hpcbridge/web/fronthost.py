"""The name under which a browser reached the Apache in front, whatever ``Host`` says here.

ParaViewWeb's documentation forwards without ``ProxyPreserveHost``: ``Host`` is then the address of
this service, and mod_proxy tells the browser's in ``X-Forwarded-Host``. It adds to what a client
sent, so the last one counts (httpd's mod_proxy, "Reverse Proxy Request Headers").
"""

import ipaddress
import re
from collections.abc import Sequence

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,255})(:[0-9]{1,5})?")
_LOCAL = "localhost"

RawHeaders = Sequence[tuple[bytes, bytes]]


def with_host(headers: RawHeaders, server_name: str) -> RawHeaders:
    """The headers of a request that Apache forwarded, with the ``Host`` that it was asked for.

    Where it does not tell (``ProxyAddHeaders Off``), and ``Host`` is this machine's own, it is
    ``server_name``. Names that are none change nothing.
    """
    told = [value for name, value in headers if name == b"x-forwarded-host"]
    here = [value for name, value in headers if name == b"host"]
    if told:
        host = told[-1].rpartition(b",")[2].strip()
    elif server_name != _LOCAL and len(here) == 1 and _is_loopback(here[0]):
        host = server_name.encode()
    else:
        return headers
    if not _HOST.fullmatch(host):
        return headers
    return [(b"host", host), *(each for each in headers if each[0] != b"host")]


def _is_loopback(host: bytes) -> bool:
    found = _HOST.fullmatch(host)
    name = found[1].decode().strip("[]") if found else ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == _LOCAL
