"""Many connections that do nothing, from one address: nobody else has to notice."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.waiting import wait_until

MOST = 20


@pytest.fixture
def crowd() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def test_idle_connections_of_one_address_deny_service_to_nobody_else(
    site: Any, serve: Callable[..., Any], crowd: ExitStack
) -> None:
    site.write(server={"trusted_proxies": []}, limits={"connections_per_address": MOST})
    service = serve("--end-sessions")
    place = urlsplit(service.url)
    address = (place.hostname, place.port)

    def idle() -> socket.socket:
        return crowd.enter_context(
            socket.create_connection(address, 10, source_address=("127.0.0.3", 0))
        )

    connections = [idle() for _ in range(1200)]
    refused = connections[-1]
    refused.settimeout(30)
    assert refused.recv(1 << 16).startswith(b"HTTP/1.1 503")
    transport = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(transport=transport, base_url=service.url) as other:
        began = time.monotonic()
        assert other.get("/paraview/applications").status_code == 200
        assert time.monotonic() - began < 5
    # The idle ones are given up, and then their address is welcome again.
    connections[0].settimeout(30)
    assert connections[0].recv(1) == b""
    own = httpx.HTTPTransport(local_address="127.0.0.3")
    with httpx.Client(transport=own, base_url=service.url) as again:
        wait_until(lambda: again.get("/paraview/applications").status_code == 200)
    assert service.stop() == 0
    assert len(service.log) < 20_000
