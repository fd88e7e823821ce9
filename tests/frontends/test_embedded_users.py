"""The built-in front end of a service with users: a session's address is its owner's alone."""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.programs import PYTHON
from tests.usersite import audited, auth, bearer, named
from tests.waiting import until

pytestmark = pytest.mark.servers

WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
# Answers every request with 200 and the request's own head.
ECHO = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))

class Echo(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(self.headers).encode())

server = HTTPServer((options["--host"], int(options["--port"])), Echo)
print("wslink: Starting factory", flush=True)
server.serve_forever()
"""


@pytest.fixture
def start(site: Any, serve: Callable[..., Any]) -> Callable[..., Any]:
    """Starts the service; users come by these ways."""

    def run(*accept: str) -> Any:
        program = site.program("echo", f"#!{PYTHON} -SE\n{ECHO}")
        cone = {"properties": {"program": program}}
        site.write(auth=auth(site, *accept), applications={"cone": cone})
        return serve("--end-sessions")

    return run


def launch(service: Any, user: str) -> str:
    """The path of a new session."""
    reply = service.post({"application": "cone"}, headers=named(user))
    assert reply.status_code == 200, reply.text
    url = urlsplit(reply.json()["sessionURL"])
    return f"{url.path}?{url.query}"


def ask(service: Any, path: str, headers: dict[str, str]) -> Any:
    return service.http.get(path.replace("&path=ws", "&path=page"), headers=headers)


def test_only_its_owner_and_operators_get_to_a_session(start: Callable[..., Any]) -> None:
    service = start("header")
    path = launch(service, "alice")
    for user, status in (("alice", 200), ("olga", 200), ("bob", 404), ("root", 404)):
        assert ask(service, path, named(user)).status_code == status
    for stranger in ({}, {"X-Remote-User": "alice"}, named("alice", **{"X-Remote-User": ""})):
        reply = ask(service, path, stranger)
        assert reply.status_code == 404
        assert reply.json() == {"error": "No such session."}
    seen = ask(service, path, named("alice")).text.lower()
    assert "x-remote-user" not in seen
    assert "x-hpcbridge-secret" not in seen
    assert service.stop() == 0


async def handshake(service: Any, path: str, user: str) -> int:
    """The status that a WebSocket's handshake gets."""
    place = urlsplit(service.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    lines = [f"{key}: {value}" for key, value in (WEBSOCKET | named(user)).items()]
    head = "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {place.netloc}", *lines, "", ""])
    writer.write(head.encode())
    async with asyncio.timeout(60):
        answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return int(answer.split()[1])


async def test_a_refused_websocket_never_reaches_the_session(
    site: Any, start: Callable[..., Any]
) -> None:
    service = start("header")
    path = launch(service, "alice")
    assert await handshake(service, path, "bob") == 404
    # This session answers, but is no WebSocket.
    assert await handshake(service, path, "alice") == 502
    await until(lambda: "GET /ws" in site.logs(), "the visit in the session's log")
    assert site.logs().count("GET /ws") == 1
    refused = audited(site)[-1]
    assert (refused["what"], refused["result"], refused["user"]) == ("visit", "refused", "bob")
    assert service.stop() == 0


def test_where_tokens_are_accepted_a_session_is_reached_by_its_id_and_secret(
    start: Callable[..., Any],
) -> None:
    """Browsers cannot send a token with a WebSocket; who does say who they are is checked."""
    service = start("header", "token")
    path = launch(service, "alice")
    assert ask(service, path, {}).status_code == 200
    assert ask(service, path, named("bob")).status_code == 404
    assert ask(service, path, bearer("hpcb_" + "0" * 12 + "_" + "0" * 64)).status_code == 404
    assert service.stop() == 0
