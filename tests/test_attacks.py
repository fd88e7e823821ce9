"""What hostile clients and web pages send to the service's port, byte by byte."""

import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

NOSUCH = b'{"application": "nosuch"}'
EVIL = "evil.example.org"
UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def say(service: Any, request: bytes) -> bytes:
    """Everything that comes back for these bytes until the service closes."""
    place = urlsplit(service.url)
    with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
        connection.sendall(request)
        received = b""
        while part := connection.recv(65536):
            received += part
        return received


def head(line: str, *headers: str, host: str = "localhost") -> bytes:
    return "\r\n".join([f"{line} HTTP/1.1", f"Host: {host}", *headers, "", ""]).encode()


def status(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


def launch(*headers: str, host: str = "localhost") -> bytes:
    sized = ("Connection: close", f"Content-Length: {len(NOSUCH)}", *headers)
    return head("POST /paraview", *sized, host=host) + NOSUCH


def test_a_body_of_two_lengths_hides_no_second_request(shared_service: Any) -> None:
    """What a proxy takes for the body of one user's request would be read as another request."""
    hidden = b"0\r\n\r\n" + head("GET /paraview/applications")
    lengths = (f"Content-Length: {len(hidden)}", "Transfer-Encoding: chunked")
    for order in (lengths, lengths[::-1]):
        reply = say(shared_service, head("POST /paraview", *order) + hidden)
        assert status(reply) == 400
        assert b"two lengths" in reply
        assert reply.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "headers",
    [
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: \x0bchunked",),
        ("Transfer-Encoding : chunked",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: +5",),
        ("Content-Length: 5, 6",),
        ("X: a\rContent-Length: 5",),
        ("X: a\0b",),
    ],
)
def test_a_head_that_could_be_read_in_two_ways_ends_the_connection(
    shared_service: Any, headers: tuple[str, ...]
) -> None:
    reply = say(shared_service, head("POST /paraview", *headers) + head("GET /paraview/x"))
    assert status(reply) == 400
    assert reply.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("host", [EVIL, f"{EVIL}:8080", "localhost.evil.example.org"])
def test_a_page_whose_name_was_made_to_lead_here_may_do_nothing(
    shared_service: Any, host: str
) -> None:
    """DNS rebinding: the browser takes the service for the page's own, so both headers agree."""
    origin = f"Origin: http://{host}"
    assert status(say(shared_service, launch(origin, host=host))) == 403
    stop = head("DELETE /paraview/x", "Connection: close", origin, host=host)
    assert status(say(shared_service, stop)) == 403
    visit = head(f"GET /proxy?sessionId={'a' * 40}", *UPGRADE, origin, host=host)
    assert status(say(shared_service, visit)) == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080"])
def test_the_services_own_page_may_be_reached_by_address_and_as_localhost(
    shared_service: Any, host: str
) -> None:
    reply = say(shared_service, launch(f"Origin: http://{host.lower()}", host=host))
    assert status(reply) == 400
    assert b"no application 'nosuch'" in reply


def test_a_host_that_is_named_is_ours(site: Any, serve: Any) -> None:
    site.write(frontend={"server_name": "Portal.example.org"})
    service = serve()
    page = "Origin: https://portal.example.org"
    assert status(say(service, launch(page, host="portal.example.org"))) == 400
    assert status(say(service, launch(f"Origin: https://{EVIL}", host=EVIL))) == 403


def test_what_is_told_of_sessions_is_kept_by_no_cache(shared_service: Any) -> None:
    for path in ("/paraview/applications", "/paraview/nosuch", "/paraview//nosuch"):
        reply = shared_service.http.get(path)
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["x-content-type-options"] == "nosniff"


async def test_what_cannot_be_an_id_is_not_looked_for(
    launcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL takes no NUL, and a request for one would be told that the database failed."""
    async with launcher() as api:
        asked: list[str] = []
        monkeypatch.setattr(api.sessions.store, "get", asked.append)
        for strange in ("%00", "%F0%9F%98%80", "x" * 5000, "a' OR 1=1 --", "nosuch"):
            for method in ("GET", "DELETE"):
                reply = await api.client.request(method, f"/paraview/{strange}")
                assert reply.status_code == 404
                assert "no such session" in reply.json()["error"]
    assert not asked


@pytest.mark.parametrize(
    "path",
    [
        "/paraview/%00",
        "/paraview/..%2f..%2fetc%2fpasswd",
        "/portal/..%2f..%2fapi.py",
        "/portal/%2e%2e/pages.py",
        "/portal/vendor/..%2f..%2fpages.py",
        "/portal//etc/passwd",
        "//etc/passwd",
    ],
)
def test_a_path_leads_to_no_file_that_is_not_served(shared_service: Any, path: str) -> None:
    reply = say(shared_service, head(f"GET {path}", "Connection: close"))
    assert status(reply) == 404
