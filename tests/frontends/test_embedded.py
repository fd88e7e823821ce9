"""The built-in front end in a real uvicorn, with real sessions behind it.

Much is asked here that test_apache.py asks too, on purpose: both must do the same.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn
import yarl

from hpcbridge.errors import StoreError
from hpcbridge.frontends import embedded, timed
from hpcbridge.frontends.embedded import front_protocol
from hpcbridge.network.addresses import Address, TCPAddress, UnixAddress
from tests.waiting import until

from .session_app import SessionApp, session_app

TCP, UNIX, GONE, UNKNOWN = "tcp" + "A" * 29, "unix" + "B" * 28, "gone" + "C" * 28, "no_" + "D" * 29


@dataclass
class Site:
    """uvicorn with an API that echoes, and the sessions behind the front end."""

    port: int
    server: uvicorn.Server
    routes: dict[str, Address]
    client: aiohttp.ClientSession
    apps: dict[str, SessionApp] = field(default_factory=dict)

    def lookup(self, session_id: str) -> Address | None:
        return self.routes.get(session_id)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def raw(self, *parts: bytes) -> bytes:
        """Send the parts one by one, read until the server closes."""
        reader, writer = await self.connect()
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        try:
            return await reader.read(-1)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def api(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Echoes the request's path and body; at /early, before that has come."""
    body, more = b"", scope["path"] != "/early"
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    reply = json.dumps(
        {"path": scope["path"], "query": scope["query_string"].decode(), "body": len(body)}
    )
    headers = [(b"content-length", str(len(reply)).encode()), (b"x-from", b"api")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": reply.encode()})


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        apps = {
            TCP: await enter(session_app("tcp")),
            UNIX: await enter(session_app("unix", tmp_path / "s")),
        }
        unused = stack.enter_context(socket.socket())
        unused.bind(("127.0.0.1", 0))
        routes: dict[str, Address] = {
            TCP: TCPAddress("127.0.0.1", apps[TCP].port),
            UNIX: UnixAddress(tmp_path / "s"),
            GONE: TCPAddress("127.0.0.1", unused.getsockname()[1]),
        }
        listener = socket.create_server(("127.0.0.1", 0))
        site: Site
        config = uvicorn.Config(
            api,
            http=front_protocol(
                type("Table", (), {"lookup": lambda self, i: site.lookup(i)})(),
                allowed_origins=["https://portal.example.org"],
            ),
            ws="none",
            lifespan="off",
            log_config=None,
        )
        server = uvicorn.Server(config)
        client = await enter(aiohttp.ClientSession())
        site = Site(listener.getsockname()[1], server, routes, client, apps)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: server.started)
        yield site
        server.should_exit = True
        await serving


def get(query: str, *headers: str, method: str = "GET", host: str = "h") -> bytes:
    lines = [f"{method} /proxy?{query} HTTP/1.1", f"Host: {host}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


UPGRADE = (
    "Connection: keep-alive, Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def status(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


def error(reply: bytes) -> str:
    head, _, body = reply.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    return str(json.loads(body)["error"])


async def test_websockets_reach_their_session_whatever_the_order_of_arguments(site: Site) -> None:
    for query, name in (
        (f"sessionId={TCP}&path=ws", "tcp"),
        (f"path=ws&sessionId={UNIX}", "unix"),
        (f"x=1&sessionId={TCP}&path=%77s&y", "tcp"),
        (f"sessionId={UNIX}", "unix"),
        (f"sessionid={TCP}&path=ws", "tcp"),  # as trame's client asks
        (f"path=ws&SESSIONID={UNIX}", "unix"),
    ):
        async with site.client.ws_connect(f"{site.url}/proxy?{query}") as ws:
            assert await ws.receive_str() == name
        assert site.apps[TCP if name == "tcp" else UNIX].last.path_qs == "/ws"


async def test_large_messages_come_back_unchanged(site: Site) -> None:
    data = bytes(range(256)) * 65536
    for session in (TCP, UNIX):
        url = f"{site.url}/proxy?sessionId={session}"
        async with site.client.ws_connect(url, max_msg_size=0) as ws:
            await ws.receive_str()
            await ws.send_bytes(data)
            assert await ws.receive_bytes() == data


async def test_all_other_requests_go_to_the_api_as_they_came(site: Site) -> None:
    for path in (
        "/",
        "/paraview/",
        "/proxy",
        "/proxy/?a",
        "/proxyx?sessionId=" + TCP,
        "/%70roxy?a",
    ):
        for method in ("GET", "POST", "PUT"):
            url = yarl.URL(f"{site.url}{path}", encoded=True)
            async with site.client.request(method, url, data=b"x" * 70000) as reply:
                assert reply.headers["x-from"] == "api"
                assert (await reply.json(content_type=None))["body"] == 70000


async def test_a_request_that_comes_byte_by_byte_is_understood(site: Site) -> None:
    for request, expected in (
        (b"GET /proxies HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", b'"path": "/proxies"'),
        (b"PROPFIND / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", b'"path": "/"'),
        (get(f"path=a&sessionId={TCP}"), b'"path": "/a"'),
    ):
        parts = [request[i : i + 1] for i in range(len(request))]
        assert expected in await site.raw(*parts)


async def test_a_kept_alive_connection_may_go_from_the_api_to_a_session(site: Site) -> None:
    reader, writer = await site.connect()
    for _ in range(2):
        writer.write(b"POST /paraview HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"x-from: api" in head
        await reader.readuntil(b"}")
    writer.write(get(f"sessionId={TCP}", *UPGRADE))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    assert await reader.readexactly(5) == b"\x81\x03tcp"
    writer.close()
    await writer.wait_closed()


async def test_a_session_request_pipelined_behind_an_api_request_is_served(site: Site) -> None:
    first = b"POST /paraview HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
    reply = await site.raw(first + get(f"sessionId={TCP}&path=page"))
    assert b"x-from: api" in reply
    assert b'"path": "/page"' in reply


async def test_an_api_body_that_looks_like_a_session_request_is_a_body(site: Site) -> None:
    body = get(f"sessionId={TCP}&path=page")
    head = f"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    reply = await site.raw(head.encode(), body)
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["body"] == len(body)
    assert not site.apps[TCP].requests


async def test_a_plain_request_reaches_the_session_without_what_is_the_visitors(site: Site) -> None:
    private = {
        "Cookie": "sso=secret",
        "Authorization": "Bearer secret",
        "Proxy-Authorization": "Basic secret",
        "Referer": "http://portal/?secret=s",
        "X-Forwarded-User": "root",
        "X_FORWARDED_USER": "root",
        "Forwarded": "for=1",
        "X-Remote-User": "root",
        "Remote_User": "root",
    }
    for query in (f"sessionId={TCP}&path=data/a-b_c.json", f"path=%2Findex.html&sessionId={UNIX}"):
        async with site.client.get(f"{site.url}/proxy?{query}", headers=private) as reply:
            assert reply.status == 200
            assert "sandbox" in reply.headers["Content-Security-Policy"]
            assert reply.headers["Connection"] == "close"
            assert "Set-Cookie" not in reply.headers
    for name, path in ((TCP, "/data/a-b_c.json"), (UNIX, "/index.html")):
        seen = site.apps[name].last
        assert seen.path_qs == path
        assert not {key.lower() for key in private} & {key.lower() for key in seen.headers}
        assert seen.headers["Connection"] == "close"
        assert seen.headers["Host"] == f"127.0.0.1:{site.port}"
    await site.raw(
        get(f"sessionId={TCP}", *UPGRADE, "Cookie: a=b", "Authorization: x") + b"\x88\x80abcd"
    )
    assert not {"Cookie", "Authorization"} & set(site.apps[TCP].last.headers)


async def test_a_sessions_error_page_is_no_less_sandboxed(site: Site) -> None:
    async with site.client.get(f"{site.url}/proxy?sessionId={TCP}&path=missing") as reply:
        assert reply.status == 404
        assert "sandbox" in reply.headers["Content-Security-Policy"]
        assert "Set-Cookie" not in reply.headers


async def test_a_visitor_who_says_no_more_still_gets_the_page(site: Site) -> None:
    reader, writer = await site.connect()
    writer.write(get(f"sessionId={TCP}&path=page"))
    writer.write_eof()
    assert status(await reader.read(-1)) == 200
    writer.close()
    await writer.wait_closed()


async def test_head_requests_have_no_body(site: Site) -> None:
    assert (await site.raw(get(f"sessionId={TCP}", method="HEAD"))).endswith(b"\r\n\r\n")
    assert (await site.raw(get(f"sessionId={UNKNOWN}", method="HEAD"))).endswith(b"\r\n\r\n")


async def test_a_second_request_on_a_sessions_connection_reaches_nobody(site: Site) -> None:
    smuggled = b"GET /admin HTTP/1.1\r\nHost: h\r\nCookie: sso=secret\r\n\r\n"
    reply = await site.raw(get(f"sessionId={TCP}&path=page") + smuggled, smuggled)
    assert reply.count(b"HTTP/1.1") == 1
    assert [request.path for request in site.apps[TCP].requests] == ["/page"]


async def test_after_a_refused_websocket_the_connection_is_closed(site: Site) -> None:
    smuggled = b"GET /admin HTTP/1.1\r\nHost: h\r\nCookie: sso=secret\r\n\r\n"
    bad = [line for line in UPGRADE if "Key" not in line]
    reply = await site.raw(get(f"sessionId={TCP}", *bad) + smuggled)
    assert status(reply) == 400
    assert "did not accept" in error(reply)
    assert "/admin" not in [request.path for request in site.apps[TCP].requests]


REFUSED = {
    "unknown session": (get(f"sessionId={UNKNOWN}"), 404),
    "no session": (get("path=ws"), 404),
    "id of another shape": (get("sessionId=../../etc/passwd"), 404),
    "session gone": (get(f"sessionId={GONE}"), 502),
    "session gone, websocket": (get(f"sessionId={GONE}", *UPGRADE), 502),
    "two ids": (get(f"sessionId={TCP}&sessionId={UNIX}"), 400),
    "two ids in two spellings": (get(f"sessionId={TCP}&sessionid={UNIX}"), 400),
    "two paths": (get(f"sessionId={TCP}&path=ws&path=x", *UPGRADE), 400),
    "websocket elsewhere": (get(f"sessionId={TCP}&path=../../admin", *UPGRADE), 400),
    "websocket at the root": (get(f"sessionId={TCP}&path=", *UPGRADE), 400),
    "websocket below": (get(f"sessionId={TCP}&path=ws/x", *UPGRADE), 400),
    "page above the root": (get(f"sessionId={TCP}&path=a/../../b"), 400),
    "encoded dots": (get(f"sessionId={TCP}&path=%2e%2e/b"), 400),
    "line break in the path": (get(f"sessionId={TCP}&path=a%0d%0aX:y"), 400),
    "space in the path": (get(f"sessionId={TCP}&path=a%20HTTP/1.1"), 400),
    "query in the path": (get(f"sessionId={TCP}&path=a%3fb"), 400),
    "bad encoding": (get(f"sessionId={TCP}&path=%ff"), 400),
    "post": (get(f"sessionId={TCP}", method="POST"), 405),
    "post with upgrade": (get(f"sessionId={TCP}", *UPGRADE, method="POST"), 405),
    "options": (get(f"sessionId={TCP}", method="OPTIONS"), 405),
    "body": (get(f"sessionId={TCP}", "Content-Length: 5") + b"12345", 400),
    "chunked": (get(f"sessionId={TCP}", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "two lengths": (get(f"sessionId={TCP}", "Content-Length: 0", "Content-Length: 9"), 400),
    "two hosts": (get(f"sessionId={TCP}", "Host: other"), 400),
    "no host": (f"GET /proxy?sessionId={TCP} HTTP/1.1\r\n\r\n".encode(), 400),
    "two origins": (get(f"sessionId={TCP}", "Origin: http://h", "Origin: http://h"), 400),
    "not a header": (get(f"sessionId={TCP}", "nonsense"), 400),
    "space before the colon": (get(f"sessionId={TCP}", "Cookie : a"), 400),
    "folded length": (get(f"sessionId={TCP}", "Content-Length:\r\n 5"), 400),
    "folded header": (get(f"sessionId={TCP}", "X: a\r\n\tb"), 400),
    "a line feed alone": (get(f"sessionId={TCP}", "X: a\nCookie: b"), 400),
    "upgrade of HTTP/1.0": (
        get(f"sessionId={TCP}", *UPGRADE).replace(b"HTTP/1.1", b"HTTP/1.0"),
        400,
    ),
    "NUL": (get(f"sessionId={TCP}", "X: a\0b"), 400),
    "not HTTP": (f"GET /proxy?sessionId={TCP} FTP/1\r\nHost: h\r\n\r\n".encode(), 400),
    "head too long": (get(f"sessionId={TCP}", "X: " + "a" * 20000), 431),
    "endless head": (f"GET /proxy?sessionId={TCP}".encode() + b"a" * 20000, 431),
    "other site": (get(f"sessionId={TCP}", "Origin: http://evil.example.org"), 403),
    "other site, websocket": (get(f"sessionId={TCP}", *UPGRADE, "Origin: http://evil"), 403),
    "sandboxed page": (get(f"sessionId={TCP}", *UPGRADE, "Origin: null"), 403),
    "similar host": (get(f"sessionId={TCP}", *UPGRADE, "Origin: http://h.evil"), 403),
    "other port": (get(f"sessionId={TCP}", *UPGRADE, "Origin: http://h:81"), 403),
    "host as user": (get(f"sessionId={TCP}", *UPGRADE, "Origin: http://h@evil"), 403),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_request_that_is_refused_gets_a_json_error(site: Site, case: str) -> None:
    request, expected = REFUSED[case]
    reply = await site.raw(request)
    assert status(reply) == expected
    assert error(reply)
    assert not any(app.requests for app in site.apps.values())
    await until(lambda: not site.server.server_state.connections)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("h", "http://h"),
        ("h", "https://H"),
        ("h:8080", "http://h:8080"),
        ("h:443", "https://h"),
        ("h", "https://portal.example.org"),
        ("[::1]:8080", "http://[::1]:8080"),
    ],
)
async def test_pages_of_this_host_and_of_listed_ones_are_welcome(
    site: Site, host: str, origin: str
) -> None:
    request = get(f"sessionId={TCP}", f"Origin: {origin}", host=host)
    assert status(await site.raw(request)) == 200


async def test_a_visitor_who_never_finishes_the_head_is_dropped(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither at a session's address nor at the API's, nor where nothing is sent at all."""
    monkeypatch.setattr(timed, "HEAD_TIMEOUT", 0.05)
    slow = b"POST /paraview HTTP/1.1\r\nHost: h\r\n"
    for start in (b"", b"GET /pro", b"GET /proxy?sess", get(f"sessionId={TCP}")[:-2], slow):
        with contextlib.suppress(ConnectionError):
            assert await site.raw(start) == b""
    await until(lambda: not site.server.server_state.connections)


async def test_a_request_that_trickles_does_not_hold_the_connection(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also behind one that was answered, and a body that nobody reads any more."""
    monkeypatch.setattr(timed, "HEAD_TIMEOUT", 0.2)
    whole = b"GET /paraview HTTP/1.1\r\nHost: h\r\n\r\n"
    early = b"POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 999999999\r\n\r\n"
    for start in (whole[:-2], whole + whole[:-2], early):
        _, writer = await site.connect()
        writer.write(start)

        def dropped(writer: asyncio.StreamWriter = writer) -> bool:
            writer.write(b"A: b\r\n")
            return writer.is_closing()

        await until(dropped)
    await until(lambda: not site.server.server_state.connections)


async def test_a_session_that_says_nonsense_is_a_bad_gateway(site: Site) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers.pop(0))
        writer.close()

    answers = [
        b"",
        b"",
        b"hello\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"x" * 70000,
    ]
    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    site.routes[GONE] = TCPAddress("127.0.0.1", server.sockets[0].getsockname()[1])
    assert status(await site.raw(get(f"sessionId={GONE}"))) == 502
    while answers:
        assert status(await site.raw(get(f"sessionId={GONE}", *UPGRADE))) == 502
    server.close()


EVIL = b"Content-Type: text/html\r\nSet-Cookie: sso=theirs\r\n\r\n<script>act()</script>"
TWO_HEADS = {
    "an interim reply": b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n" + EVIL,
    "a demand to go on": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n" + EVIL,
    "line feeds alone": b"HTTP/1.1 200 OK\n" + EVIL.replace(b"\r\n", b"\n") + b"\r\n\r\n",
    "a header behind a line feed": b"HTTP/1.1 200 OK\r\nX: y\nSet-Cookie: sso=theirs\r\n\r\n",
    "a header behind a return": b"HTTP/1.1 200 OK\r\nX: y\rSet-Cookie: sso=theirs\r\n\r\n",
    "a folded header": b"HTTP/1.1 200 OK\r\n Set-Cookie: sso=theirs\r\n\r\n",
    "a NUL": b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n",
}


@contextlib.asynccontextmanager
async def answering(site: Site, answer: bytes) -> AsyncIterator[None]:
    """The session GONE is a program that answers every request so."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    site.routes[GONE] = TCPAddress("127.0.0.1", server.sockets[0].getsockname()[1])
    yield
    server.close()


@pytest.mark.parametrize("kind", TWO_HEADS)
async def test_a_reply_that_browsers_would_read_otherwise_is_not_passed_on(
    site: Site, kind: str
) -> None:
    """Else a session's page could leave its sandbox and be the portal's own."""
    async with answering(site, TWO_HEADS[kind]):
        for headers in ((), UPGRADE):
            reply = await site.raw(get(f"sessionId={GONE}", *headers))
            assert status(reply) == 502
            assert b"theirs" not in reply
            assert b"<script>" not in reply


async def test_a_session_does_not_speak_for_the_portals_whole_origin(site: Site) -> None:
    ours = b"Content-Type: text/plain\r\nETag: a1\r\nContent-Encoding: identity\r\n"
    theirs = {
        "Set-Cookie": "sso=theirs",
        "Clear-Site-Data": '"*"',
        "Strict-Transport-Security": "max-age=31536000",
        "NEL": '{"report_to": "a", "max_age": 1}',
        "Report-To": "{}",
        "Service-Worker-Allowed": "/",
        "Alt-Svc": 'h3=":443"',
        "WWW-Authenticate": 'Basic realm="Your password, please"',
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in theirs.items()).encode()
    async with answering(site, b"HTTP/1.1 200 OK\r\n" + lines + ours + b"\r\nhello"):
        reply = await site.raw(get(f"sessionId={GONE}"))
        assert status(reply) == 200
        assert ours.strip() in reply
        assert not any(name.encode() in reply for name in theirs)
    switched = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
    async with answering(site, switched + lines + b"Connection: Upgrade\r\n\r\nhello"):
        reply = await site.raw(get(f"sessionId={GONE}", *UPGRADE))
        assert reply == switched + b"Connection: Upgrade\r\n\r\nhello"


async def test_a_session_that_is_coming_is_waited_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, came = [], asyncio.Event()

    async def coming(session_id: str) -> Address:
        asked.append(session_id)
        await came.wait()
        return site.routes[TCP]

    monkeypatch.setattr(site.server.config.http_protocol_class, "coming", staticmethod(coming))
    visit = asyncio.create_task(site.raw(get(f"sessionId={UNKNOWN}&path=index.html")))
    _, impatient = await site.connect()
    impatient.write(get(f"sessionId={UNKNOWN}", *UPGRADE))
    await until(lambda: len(asked) == 2)
    impatient.close()
    came.set()
    assert status(await visit) == 200
    assert asked == [UNKNOWN] * 2


async def test_a_session_of_which_nothing_can_be_learned_is_not_said_to_be_gone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def coming(session_id: str) -> Address:
        raise StoreError("The database is away.")

    monkeypatch.setattr(site.server.config.http_protocol_class, "coming", staticmethod(coming))
    reply = await site.raw(get(f"sessionId={UNKNOWN}"))
    assert (status(reply), error(reply)) == (503, "The database is away.")

    async def refuses(*_: Any, again: bool) -> bool:
        return False

    monkeypatch.setattr(site.server.config.http_protocol_class, "admits", staticmethod(refuses))
    reply = await site.raw(get(f"sessionId={UNKNOWN}"))
    assert (status(reply), error(reply)) == (404, "No such session.")


async def test_a_visitor_who_leaves_ends_the_sessions_connection(site: Site) -> None:
    async with site.client.ws_connect(f"{site.url}/proxy?sessionId={TCP}") as ws:
        await ws.receive_str()
        connection = site.apps[TCP].last.transport
        assert connection is not None
        response = ws._response
        assert response.connection is not None
        assert response.connection.transport is not None
        response.connection.transport.abort()
        await until(connection.is_closing)
    await until(lambda: not site.server.server_state.connections)


async def test_a_visitor_who_may_not_any_more_is_cut_off(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, asked = [True], []

    async def admits(session_id: str, headers: Any, peer: str | None, *, again: bool) -> bool:
        asked.append((session_id, dict(headers)[b"x-user"], peer, again))
        return answers[-1]

    monkeypatch.setattr(embedded, "ASK_AGAIN", 0.02)
    monkeypatch.setattr(site.server.config.http_protocol_class, "admits", staticmethod(admits))
    url, headers = f"{site.url}/proxy?sessionId={TCP}", {"X-User": "alice"}
    async with site.client.ws_connect(url, headers=headers) as ws:
        await ws.receive_str()
        await until(lambda: len(asked) > 3)
        await ws.send_bytes(b"still there")
        assert await ws.receive_bytes() == b"still there"
        answers.append(False)
        assert (await ws.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
    assert asked[:2] == [(TCP, b"alice", "127.0.0.1", again) for again in (False, True)]
    connection = site.apps[TCP].last.transport
    await until(lambda: connection is None or connection.is_closing())
    await until(lambda: not site.server.server_state.connections)


async def test_of_a_visitor_who_has_left_nothing_is_asked(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = [], asyncio.Event()

    async def admits(*_: Any, again: bool) -> bool:
        asked.append(again)
        if again:
            await answer.wait()
        return True

    monkeypatch.setattr(embedded, "ASK_AGAIN", 0.02)
    monkeypatch.setattr(site.server.config.http_protocol_class, "admits", staticmethod(admits))
    async with site.client.ws_connect(f"{site.url}/proxy?sessionId={TCP}") as ws:
        await ws.receive_str()
        await until(lambda: len(asked) == 2)
    await until(lambda: not site.server.server_state.connections)
    answer.set()
    monkeypatch.setattr(embedded, "ASK_AGAIN", 0.3)
    async with site.client.ws_connect(f"{site.url}/proxy?sessionId={TCP}") as ws:
        await ws.receive_str()
    await until(lambda: not site.server.server_state.connections)
    await asyncio.sleep(0.5)
    assert asked == [False, True, False]


async def test_a_stopping_server_ends_open_websockets(site: Site) -> None:
    async with site.client.ws_connect(f"{site.url}/proxy?sessionId={TCP}") as ws:
        await ws.receive_str()
        assert len(site.server.server_state.connections) == 1
        site.server.should_exit = True
        assert (await ws.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        await until(lambda: not site.server.server_state.connections)
