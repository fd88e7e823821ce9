"""How often somebody got their credentials wrong lately, in bounded memory."""

import ipaddress
import math
import time
from collections import OrderedDict

WINDOW = 60.0
"""Seconds in which failures are counted."""
MOST = 10_000
"""Keys that are remembered; the oldest are forgotten first."""


class Failures:
    """Counts failures by key: an address, a token's id. ``limit`` are allowed in a minute."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait(self, key: str) -> int:
        """Seconds until ``key`` may fail again; 0 where it may now."""
        since, count = self._counts.get(key, (0.0, 0))
        left = since + WINDOW - time.monotonic()
        return math.ceil(left) if count >= self._limit and left > 0 else 0

    def add(self, key: str) -> None:
        """One more failure."""
        now = time.monotonic()
        since, count = self._counts.pop(key, (now, 0))
        self._counts[key] = (now, 1) if now - since >= WINDOW else (since, count + 1)
        if len(self._counts) > MOST:
            self._counts.popitem(last=False)


def place(address: str) -> str:
    """The key of an address: of IPv6 the network, since a host has 2**64 addresses.

    Where a socket takes both, addresses of IPv4 come as ``::ffff:192.0.2.7`` (RFC 4291).
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
