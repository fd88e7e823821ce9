"""What hostile clients and web pages send to the service's port, byte by byte."""

import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.usersite import auth

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


def refuses(service: Any, host: str, origin: str) -> None:
    """Whether nothing at all is answered under this name, to pages and to their links."""
    reply = say(service, launch(origin, host=host))
    assert status(reply) == 421
    assert b"does not answer to" in reply
    assert b"server.host_names" in reply
    # A page's plain GET has no Origin.
    for line in ("GET /", "GET /paraview/applications", "GET /openapi.json", "DELETE /paraview/x"):
        for more in ((origin,), ()):
            asked = head(line, "Connection: close", *more, host=host)
            assert status(say(service, asked)) == 421, (line, more)
    for more in ((origin,), ()):
        visit = head(f"GET /proxy?sessionId={'a' * 40}", *UPGRADE, *more, host=host)
        assert status(say(service, visit)) == 421


@pytest.mark.parametrize(
    "sections",
    [
        {"auth": True},
        {"server": {"host": "0.0.0.0"}},
        {"frontend": {"kind": "apache", "map_file": "map/sessions", "server_name": "a.example"}},
        {"frontend": {"kind": "nginx", "server_name": "a.example"}},
        {"frontend": {"session_address": "path", "trust_applications": True}},
    ],
)
def test_nor_does_such_a_page_get_anything_in_any_other_deployment(
    site: Any, serve: Any, sections: dict[str, Any]
) -> None:
    (site.root / "map").mkdir()
    site.write(**sections | ({"auth": auth(site)} if "auth" in sections else {}))
    service = serve()
    embedded = sections.get("frontend", {}).get("kind") != "apache"
    service.url = service.url.replace("0.0.0.0", "127.0.0.1")
    origin = f"Origin: http://{EVIL}"
    told = f"X-Forwarded-Host: {EVIL}"
    for line in ("GET /paraview/applications", "GET /"):
        assert status(say(service, head(line, "Connection: close", host=EVIL))) == 421
        hidden = head(line, "Connection: close", told, host="localhost")
        assert status(say(service, hidden)) == 421
    assert status(say(service, launch(origin, host=EVIL))) == 421
    for path in ("/proxy?sessionId=", "/session/") if embedded else ():
        visit = head(f"GET {path}{'a' * 40}", *UPGRADE, "Connection: close", host=EVIL)
        assert status(say(service, visit)) == 421


def test_nor_behind_a_unix_socket(site: Any, serve: Any) -> None:
    path = str(site.root / "api.sock")
    site.write(server={"unix_socket": path})
    serve()
    with httpx.Client(transport=httpx.HTTPTransport(uds=path)) as client:
        page = {"Origin": f"http://{EVIL}"}
        body = {"application": "cone"}
        for headers in (page, {}):
            reply = client.post(f"http://{EVIL}/paraview", json=body, headers=headers)
            assert reply.status_code == 421
            assert client.get(f"http://{EVIL}/paraview/applications").status_code == 421
        assert client.get("http://localhost/paraview/applications").status_code == 200


def test_a_site_may_have_several_names_or_any(site: Any, serve: Any) -> None:
    for names, others in ((["b.example.org"], 421), (["*"], 200)):
        site.write(server={"host_names": names})
        service = serve()
        for host, expected in (("B.example.org:81", 200), ("b.example.org.", 200), (EVIL, others)):
            asked = head("GET /paraview/applications", "Connection: close", host=host)
            assert status(say(service, asked)) == expected
        service.stop()


@pytest.mark.parametrize("host", [EVIL, f"{EVIL}:8080", "localhost.evil.example.org", "a b", "@"])
def test_a_page_whose_name_was_made_to_lead_here_may_do_nothing(
    shared_service: Any, host: str
) -> None:
    """DNS rebinding: the browser takes the service for the page's own, so both headers agree."""
    origin = f"Origin: http://{host}"
    refuses(shared_service, host, origin)


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
    assert status(say(service, launch(f"Origin: https://{EVIL}", host=EVIL))) == 421


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
