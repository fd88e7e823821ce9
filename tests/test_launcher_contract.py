"""The launcher API over real sockets, as real clients use it and as the reference answers.

``fixtures/launcher`` holds what wslink's JavaScript sent (Chromium) and what ``wslink.launcher``
answered to ``curl``.
"""

import concurrent.futures
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

FIXTURES = Path(__file__).parent / "fixtures/launcher"
CONTENT_TYPES = [
    None,
    "text/plain;charset=UTF-8",
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "nonsense",
]


@pytest.fixture(scope="module", autouse=True)
def _fields(shared_site: Any) -> None:
    shared_site.config["server"]["fields"] = ["host", "port"]
    shared_site.config["clusters"]["here"]["slots"] = 100


@pytest.fixture(scope="module")
def service(_fields: None, shared_service: Any) -> Any:
    return shared_service


@pytest.fixture(scope="module")
def address(service: Any) -> tuple[str, int]:
    url = httpx.URL(service.url)
    assert url.port is not None
    return url.host, url.port


def read_reply(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """One reply with a content length, and not a byte more."""
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(1)
        assert chunk, f"closed after {received!r}"
        received += chunk
    status, *lines = received.decode("latin-1").strip().split("\r\n")
    headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines)}
    body = b""
    while len(body) < int(headers["content-length"]):
        chunk = connection.recv(int(headers["content-length"]) - len(body))
        assert chunk, "closed in the middle of a body"
        body += chunk
    return int(status.split()[1]), headers, body


@pytest.fixture
def connection(address: tuple[str, int]) -> Iterator[socket.socket]:
    with socket.create_connection(address, 20) as connection:
        yield connection


# -- what the reference does


@dataclass
class Exchange:
    """A recorded ``curl`` and the reference's answer."""

    method: str
    path: str
    posted: Any
    status: int
    reply: Any


def exchange(name: str) -> Exchange:
    command, *_ = text = (FIXTURES / f"{name}.txt").read_text().splitlines()
    method = re.search(r"-X (\w+)", command)
    path = re.search(r"/paraview\S*", command)
    posted = re.search(r"-d (\{.*\})", command)
    assert path
    return Exchange(
        method[1] if method else "GET",
        path[0],
        json.loads(posted[1]) if posted else None,
        int(text[1].split()[1]),
        json.loads(text[text.index("") + 1]),
    )


@pytest.mark.parametrize("name", ["01-post-instant", "07-post-cone", "12-post-client-secret-host"])
def test_a_launch_is_answered_with_the_references_keys(service: Any, name: str) -> None:
    recorded = exchange(name)
    posted = recorded.posted | {"application": "cone"}
    reply = service.http.request(recorded.method, recorded.path, content=json.dumps(posted))
    assert reply.status_code == recorded.status == 200
    assert reply.headers["content-type"].startswith("application/json")
    body = reply.json()
    assert set(recorded.reply) <= set(body)
    assert "error" not in body
    for key in ("id", "secret", "sessionURL", "host", "port"):
        assert body.get(key) != recorded.posted.get(key, "not posted")


@pytest.mark.parametrize("name", ["04-post-missing-app", "15-delete-again"])
def test_a_failure_has_the_references_status_and_form(service: Any, name: str) -> None:
    recorded = exchange(name)
    content = None if recorded.posted is None else json.dumps(recorded.posted)
    reply = service.http.request(recorded.method, recorded.path, content=content)
    assert reply.status_code == recorded.status
    assert set(reply.json()) == set(recorded.reply) == {"error"}


def test_a_session_is_told_without_its_secret(service: Any) -> None:
    body = service.post({"application": "cone", "sessionManagerURL": "http://x/"}).json()
    found = service.http.get(f"/paraview/{body['id']}")
    assert exchange("08-get-cone").status == found.status_code == 200
    for key in ("application", "id", "sessionURL", "host"):
        assert found.json()[key] == body[key]
    deleted = service.http.delete(f"/paraview/{body['id']}")
    assert exchange("14-delete-cone").status == deleted.status_code == 200
    assert body["secret"] not in found.text + deleted.text


def test_what_took_the_reference_over_changes_nothing(service: Any) -> None:
    posted = exchange("21-post-property-override").posted
    reply = service.http.post("/paraview/", content=json.dumps(posted))
    assert reply.status_code == 200
    assert posted["py"] not in service.site.logs()


# -- what clients do


def test_the_browsers_own_request_is_answered(
    connection: socket.socket, address: tuple[str, int]
) -> None:
    recorded = (FIXTURES / "wslink-js-request.txt").read_text().split("=====RAW REQUEST\n")[1]
    head, _, content = recorded.strip("\n").partition("\n\n")
    assert "Content-Type: text/plain" in head
    here = f"{address[0]}:{address[1]}"
    raw = head.replace("127.0.0.1:27200", here).replace("\n", "\r\n") + "\r\n\r\n" + content
    connection.sendall(raw.encode())
    status, headers, body = read_reply(connection)
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["sessionURL"].startswith(f"ws://{here}/proxy?sessionId=")


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
@pytest.mark.parametrize("path", ["/paraview", "/paraview/", "/paraview//"])
def test_a_launch_needs_no_content_type_and_no_slash(
    service: Any, path: str, content_type: str | None
) -> None:
    """Looked at where it costs no job: the application is not there, and that is told."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    request = service.http.build_request(
        "POST", path, content='{"application":"none"}', headers=headers
    )
    reply = service.http.send(request)
    assert reply.status_code == 400
    assert "There is no application 'none'" in reply.json()["error"]
    assert not reply.history


@pytest.mark.parametrize("form", ["/{}", "//{}", "/{}/", "//{}/", "///{}//"])
def test_a_session_is_found_however_its_path_is_written(service: Any, form: str) -> None:
    session_id = service.post({"application": "cone"}).json()["id"]
    path = "/paraview" + form.format(session_id)
    assert service.http.get(path).json()["id"] == session_id
    assert service.http.delete(path).status_code == 200
    again = service.http.delete(path)
    assert again.status_code == 404
    assert set(again.json()) == {"error"}


def test_success_is_exactly_200_and_arrives_when_the_application_accepts(service: Any) -> None:
    reply = service.post({"application": "cone"})
    assert reply.status_code == 200
    body = reply.json()
    with socket.create_connection((body["host"].replace("localhost", "127.0.0.1"), body["port"])):
        pass


def test_every_launch_is_a_session_of_its_own(service: Any) -> None:
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda _: service.post({"application": "cone"}), range(6)))
    assert {each.status_code for each in replies} == {200}
    assert len({each.json()["id"] for each in replies}) == 6
    assert len({each.json()["port"] for each in replies}) == 6


@pytest.mark.parametrize(
    ("scheme", "expected"), [("https", "wss"), ("http", "ws"), ("nonsense", "ws"), (None, "ws")]
)
def test_a_trusted_proxy_tells_the_scheme(service: Any, scheme: str | None, expected: str) -> None:
    headers = {"Host": "portal.example.org"}
    if scheme is not None:
        headers["X-Forwarded-Proto"] = scheme
    body = service.post({"application": "cone"}, headers=headers).json()
    assert body["sessionURL"].startswith(f"{expected}://portal.example.org/proxy?")


def test_a_peer_that_is_not_trusted_tells_nothing(site: Any, serve: Callable[..., Any]) -> None:
    site.write(server={"trusted_proxies": ["192.0.2.1"]})
    service = serve("--end-sessions")
    headers = {"X-Forwarded-Proto": "https"}
    body = service.post({"application": "cone"}, headers=headers).json()
    assert body["sessionURL"].startswith("ws://")


# -- what attackers do


def post(path: bytes = b"/paraview", *, length: int, host: bytes = b"localhost") -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n" % (path, host, length)


def test_ten_megabytes_are_refused_and_the_connection_goes_on(connection: socket.socket) -> None:
    size = 10 * 2**20
    begun = time.monotonic()
    connection.sendall(post(length=size))
    connection.sendall(b"x" * size)
    status, _, body = read_reply(connection)
    assert status == 413
    assert set(json.loads(body)) == {"error"}
    connection.sendall(b"GET /paraview/none HTTP/1.1\r\nHost: localhost\r\n\r\n")
    status, _, body = read_reply(connection)
    assert (status, json.loads(body)) == (404, {"error": "There is no such session."})
    assert time.monotonic() - begun < 10


def test_a_large_body_in_chunks_is_refused_too(address: tuple[str, int]) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(160):
            yield b"x" * 65536

    reply = httpx.post(f"http://{address[0]}:{address[1]}/paraview", content=chunks())
    assert reply.status_code == 413


def test_a_hundred_thousand_levels_are_refused(service: Any) -> None:
    for content in ("[" * 100_000, '{"application":' * 4000, "[" * 60_000):
        reply = service.http.post("/paraview", content=content)
        assert reply.status_code in (400, 413)
        assert set(reply.json()) == {"error"}


@pytest.mark.parametrize(
    "host", [b'evil"><script>', b"user:pw@evil", b"evil evil", b"[", b"", b"evil/x?y", b"\xff"]
)
def test_a_forged_host_does_not_reach_the_session_url(
    connection: socket.socket, host: bytes
) -> None:
    content = b'{"application":"cone"}'
    connection.sendall(post(length=len(content), host=host) + content)
    status, _, body = read_reply(connection)
    assert status in (400, 421)
    assert b"sessionURL" not in body
    assert b"evil" not in body


def test_a_query_that_is_no_text_changes_nothing(connection: socket.socket) -> None:
    content = b'{"application":"cone"}'
    connection.sendall(post(b"/paraview/?a=%ff&b", length=len(content)) + content)
    assert read_reply(connection)[0] == 200


def test_a_path_that_is_no_text_is_not_there(connection: socket.socket) -> None:
    for path in (b"/paraview/%ff%fe", b"/%00", b"/paraview/" + b"%0a" * 50, b"/%2e%2e/%2e%2e/etc"):
        connection.sendall(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
        status, _, body = read_reply(connection)
        assert status == 404
        assert set(json.loads(body)) == {"error"}


def test_two_requests_on_the_wire_at_once_get_two_answers(connection: socket.socket) -> None:
    content = b'{"application":"none"}'
    connection.sendall((post(length=len(content)) + content) * 2)
    assert [read_reply(connection)[0] for _ in range(2)] == [400, 400]


def test_a_request_without_a_body_is_refused(connection: socket.socket) -> None:
    connection.sendall(b"POST /paraview/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
    status, _, body = read_reply(connection)
    assert status == 400
    assert "not JSON" in json.loads(body)["error"]


def test_old_clients_need_no_host(address: tuple[str, int]) -> None:
    with socket.create_connection(address, 20) as connection:
        content = b'{"application":"cone"}'
        length = b"Content-Length: %d" % len(content)
        connection.sendall(b"POST /paraview HTTP/1.0\r\n%s\r\n\r\n%s" % (length, content))
        status, _, body = read_reply(connection)
    assert status == 200
    assert f"//{address[0]}:{address[1]}/" in json.loads(body)["sessionURL"]


def test_a_client_may_hang_up_whenever_it_likes(service: Any, address: tuple[str, int]) -> None:
    content = b'{"application":"cone"}'
    whole = post(length=len(content)) + content
    for sent in (b"POST", post(length=1000), post(length=1000) + content, whole):
        with socket.create_connection(address) as connection:
            connection.sendall(sent)
    assert service.http.get("/openapi.json").status_code == 200


def test_none_of_this_left_a_traceback(service: Any) -> None:
    """The last test of this file, over all that the service has said so far."""
    assert "Traceback" not in service.log
    assert service.process.poll() is None
