"""A session at an address of its own: everything of HTTP passes, as it was meant."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator

import aiohttp
import pytest

from hpcbridge.frontends import exchange, ownaddress
from hpcbridge.frontends.address import SessionAddresses
from hpcbridge.frontends.admission import Admission
from tests.waiting import until

from .own_site import GONE, ID, ODD, UNKNOWN, OwnSite, fields, own_site, said, status

STYLES = {"host": SessionAddresses("host", "localhost"), "path": SessionAddresses("path")}
UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


@pytest.fixture(params=["host", "path"])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[OwnSite]:
    async with own_site(STYLES[request.param]) as site:
        yield site


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
async def test_every_method_passes_with_its_body_and_query(site: OwnSite, method: str) -> None:
    head = site.request("/api/x%20y?a=1&b=%2F", "Content-Length: 5", "Connection: close",
                        method=method)  # fmt: skip
    seen = said(await site.raw(head + b"12345"))
    assert (seen["method"], seen["target"], seen["size"]) == (method, "/api/x%20y?a=1&b=%2F", 5)


async def test_the_application_learns_how_it_is_addressed(site: OwnSite) -> None:
    site.admission = Admission("https", "192.0.2.9")
    seen = said(await site.raw(site.request("/", "Connection: close")))["headers"]
    assert seen["host"] == site.host()
    assert seen["x-forwarded-host"] == site.host()
    assert seen["x-forwarded-proto"] == "https"
    assert seen["x-forwarded-for"] == "192.0.2.9"
    prefix = None if site.addresses.style == "host" else f"/session/{ID}"
    assert seen.get("x-forwarded-prefix") == prefix


async def test_large_bodies_pass_in_pieces_both_with_a_length_and_in_chunks(site: OwnSite) -> None:
    piece, count = bytes(range(256)) * 1024, 64
    expected = hashlib.sha256(piece * count).hexdigest()
    reader, writer = await site.connect()
    for framing in (f"Content-Length: {len(piece) * count}", "Transfer-Encoding: chunked"):
        writer.write(site.request("/up", framing, method="POST"))
        for _ in range(count):
            writer.write(piece if "Length" in framing else b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
        if "chunked" in framing:
            writer.write(b"0\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(fields(head)["content-length"][0]))
        assert said(head + body)["sha256"] == expected  # and the connection was kept for both
    writer.close()
    await writer.wait_closed()


async def test_a_body_reaches_the_session_before_it_is_complete(site: OwnSite) -> None:
    came = asyncio.Event()

    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"first")
        came.set()
        await reader.readuntil(b"second")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    site.odd = odd
    reader, writer = await site.connect()
    writer.write(site.request("/", "Content-Length: 11", method="POST", session_id=ODD) + b"first")
    async with asyncio.timeout(30):
        await came.wait()
        writer.write(b"second")
        assert status(await reader.readuntil(b"\r\n\r\n")) == 200
    writer.close()
    await writer.wait_closed()


async def test_events_reach_the_client_one_by_one(site: OwnSite) -> None:
    reader, writer = await site.connect()
    writer.write(site.request("/stream"))
    async with asyncio.timeout(30):
        head = await reader.readuntil(b"\r\n\r\n")
        assert fields(head)["content-type"] == ["text/event-stream"]
        for number in range(3):  # there is no end to wait for
            assert f"data: {number}\n\n".encode() in await reader.readuntil(b"\n\n\r\n")
    writer.close()
    await writer.wait_closed()
    await until(lambda: not site.server.server_state.connections)


async def test_a_client_that_waits_for_100_hears_it_from_the_session(site: OwnSite) -> None:
    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"expect: 100-continue" in (await reader.readuntil(b"\r\n\r\n")).lower()
        writer.write(b"HTTP/1.1 100 Continue\r\nSet-Cookie: a=b\r\n\r\n")
        await reader.readuntil(b"body")
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    site.odd = odd
    reader, writer = await site.connect()
    expects = ("Content-Length: 4", "Expect: 100-continue")
    writer.write(site.request("/", *expects, method="PUT", session_id=ODD))
    async with asyncio.timeout(30):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"body")
        assert status(await reader.readuntil(b"\r\n\r\n")) == 201
    writer.close()
    await writer.wait_closed()


async def test_ranges_and_conditions_are_passed_on(site: OwnSite) -> None:
    asked = ("Range: bytes=5-9", 'If-None-Match: "x"', "Connection: close")
    seen = said(await site.raw(site.request("/", *asked)))["headers"]
    assert (seen["range"], seen["if-none-match"]) == ("bytes=5-9", '"x"')
    partial = (
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/65536\r\n"
        b"Content-Length: 5\r\n\r\n56789"
    )
    reply = await site.odd_reply(partial)
    assert status(reply) == 206
    assert fields(reply)["content-range"] == ["bytes 5-9/65536"]
    assert reply.endswith(b"\r\n\r\n56789")


async def test_trailers_pass_and_only_those_that_say_nothing_of_the_request(site: OwnSite) -> None:
    reply = await site.odd_reply(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Digest\r\n\r\n"
        b"2\r\nab\r\n0\r\nDigest: sha-256=x\r\nSet-Cookie: hpcbridge=1\r\n\r\n"
    )
    assert reply.endswith(b"2\r\nab\r\n0\r\ndigest: sha-256=x\r\n\r\n")


@pytest.mark.parametrize("target", ["/socket", "/deep/er/socket?token=1"])
async def test_a_websocket_at_any_path_carries_messages_of_any_size(
    site: OwnSite, target: str
) -> None:
    base = site.request(target).split(b" ")[1].decode()
    data = bytes(range(256)) * 8192
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(
            f"http://127.0.0.1:{site.port}{base}",
            headers={"Host": site.host(), "Origin": f"http://{site.host()}"},
            protocols=("two",),
            max_msg_size=0,
        ) as ws,
    ):
        assert ws.protocol == "two"
        assert await ws.receive_str() == "hello"
        await ws.send_bytes(data)
        assert await ws.receive_bytes() == data
    assert site.seen[-1].raw_path == target
    await until(lambda: not site.server.server_state.connections)


async def test_a_connection_is_kept_and_may_go_on_to_the_portal(site: OwnSite) -> None:
    reader, writer = await site.connect()
    for _ in range(3):
        writer.write(site.request("/file"))
        head = await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(int(fields(head)["content-length"][0]))
        writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert fields(await reader.readuntil(b"\r\n\r\n"))["x-from"] == ["portal"]
        assert await reader.readexactly(6) == b"portal"
    writer.close()
    await writer.wait_closed()
    assert len(site.visits) == 3  # each was asked for
    await until(lambda: not site.server.server_state.connections)


async def test_pipelined_requests_are_answered_in_turn(site: OwnSite) -> None:
    last = site.request("/three", "Connection: close")
    body = site.request("/two", "Content-Length: 3", method="POST") + b"abc"
    reply = await site.raw(site.request("/one") + body + last)
    assert reply.count(b"HTTP/1.1 200") == 3
    assert [request.path for request in site.seen] == ["/one", "/two", "/three"]


async def test_an_old_client_gets_a_reply_that_it_understands(site: OwnSite) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
    reply = await site.odd_reply(chunked, version="1.0")
    assert "transfer-encoding" not in fields(reply)
    assert reply.endswith(b"\r\n\r\nab")


async def test_a_head_request_gets_the_headers_alone(site: OwnSite) -> None:
    reply = await site.odd_reply(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", method="HEAD")
    assert fields(reply)["content-length"] == ["500"]
    assert reply.endswith(b"\r\n\r\n")


async def test_an_answer_before_the_body_is_passed_on_and_the_connection_closed(
    site: OwnSite,
) -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"
    reply = await site.odd_reply(refusal, "Content-Length: 1000000", method="POST")
    assert status(reply) == 413
    assert fields(reply)["connection"] == ["close"]
    assert reply.endswith(b"big")


async def test_a_session_that_ends_in_an_upload_is_told_at_once(site: OwnSite) -> None:
    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"some")
        writer.transport.abort()

    site.odd = odd
    head = site.request("/", "Content-Length: 1000", method="POST", session_id=ODD)
    assert status(await site.raw(head + b"some")) == 502


async def test_a_session_that_ends_in_its_answer_leaves_it_unfinished(site: OwnSite) -> None:
    """No client may take a part for the whole."""
    reply = await site.odd_reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
    assert status(reply) == 200
    assert not reply.endswith(b"0\r\n\r\n")


async def test_a_silent_session_is_given_up(site: OwnSite, monkeypatch: pytest.MonkeyPatch) -> None:
    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    site.odd = odd
    monkeypatch.setattr(exchange, "SILENCE", 0.1)
    monkeypatch.setattr(exchange, "HALF_CLOSED", 0.05)
    assert status(await site.raw(site.request("/", session_id=ODD))) == 504


async def test_a_client_that_stops_in_its_body_is_given_up(
    site: OwnSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "SLOW", 0.1)
    head = site.request("/", "Content-Length: 10", method="POST")
    assert status(await site.raw(head + b"abc")) == 408


async def test_a_client_that_never_reads_costs_bounded_memory_and_then_nothing(
    site: OwnSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = 0

    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        for _ in range(10_000):
            writer.write(bytes(100_000))
            await writer.drain()
            sent += 100_000

    site.odd = odd
    monkeypatch.setattr(exchange, "SLOW", 0.5)
    _, writer = await site.connect()
    writer.transport.pause_reading()
    writer.write(site.request("/", session_id=ODD))
    await until(lambda: site.visits)
    await until(lambda: not site.server.server_state.connections)
    assert sent < 100_000_000
    writer.close()


async def test_a_client_that_leaves_ends_the_sessions_request(
    site: OwnSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "HALF_CLOSED", 0.05)
    ended = asyncio.Event()

    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.read(-1)
        ended.set()

    site.odd = odd
    _, writer = await site.connect()
    writer.write(site.request("/", session_id=ODD))
    await until(lambda: site.visits)
    writer.transport.abort()
    async with asyncio.timeout(30):
        await ended.wait()
    await until(lambda: not site.server.server_state.connections)


async def test_unknown_ended_and_others_sessions_are_told_apart_by_nobody(site: OwnSite) -> None:
    unknown = await site.raw(site.request("/", session_id=UNKNOWN))
    wrong = await site.raw(site.request("/", session_id="x"))
    site.admission = None
    others = await site.raw(site.request("/"))
    assert [status(each) for each in (unknown, wrong, others)] == [404] * 3
    assert unknown == others
    assert not site.seen
    site.admission = Admission()
    assert status(await site.raw(site.request("/", session_id=GONE))) == 502


async def test_a_client_who_may_not_any_more_is_cut_off(
    site: OwnSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownaddress, "ASK_AGAIN", 0.05)
    for target, headers in (("/stream", ()), ("/socket", UPGRADE)):
        site.admission = Admission()
        reader, writer = await site.connect()
        writer.write(site.request(target, *headers))
        await reader.readuntil(b"\r\n\r\n")
        site.admission = None
        async with asyncio.timeout(30):
            with contextlib.suppress(ConnectionError):
                while await reader.read(1 << 16):
                    pass
        writer.close()
        await until(lambda: not site.server.server_state.connections)


async def test_connections_are_bounded_in_all_by_address_and_by_session(site: OwnSite) -> None:
    site.counts.per_session = 1
    reader, writer = await site.connect()
    writer.write(site.request("/socket", *UPGRADE))
    await reader.readuntil(b"\r\n\r\n")
    assert status(await site.raw(site.request("/"))) == 503
    site.counts.per_session = 9
    assert status(await site.raw(site.request("/", "Connection: close"))) == 200
    for name in ("total", "per_address"):
        setattr(site.counts, name, 1)
        assert status(await site.raw(site.request("/"))) == 503
        setattr(site.counts, name, 9)
    writer.close()
    await until(lambda: not site.server.server_state.connections)
    assert not site.counts._open
    assert not site.counts._sessions
    assert not site.counts._addresses


async def test_a_stopping_server_ends_open_streams_and_websockets(site: OwnSite) -> None:
    opened = []
    for target, headers in (("/stream", ()), ("/socket", UPGRADE)):
        reader, writer = await site.connect()
        writer.write(site.request(target, *headers))
        await reader.readuntil(b"\r\n\r\n")
        opened.append((reader, writer))
    site.server.should_exit = True
    await until(lambda: not site.server.server_state.connections)
    for _, writer in opened:
        writer.close()


async def test_a_missing_slash_is_added_so_that_pages_find_their_files() -> None:
    async with own_site(STYLES["path"]) as site:
        reply = await site.raw(site.request(""))
        assert (status(reply), fields(reply)["location"]) == (308, [f"/session/{ID}/"])
        site.admission = Admission(strip_prefix=False)
        seen = said(await site.raw(site.request("/lab?a", "Connection: close")))
        assert seen["target"] == f"/session/{ID}/lab?a"


async def test_whatever_the_name_of_the_host_the_portal_is_at_all_others() -> None:
    async with own_site(STYLES["host"]) as site:
        for host in ("localhost", "127.0.0.1", "localhost.example.org", f"x{ID}localhost"):
            reply = await site.raw(site.request("/", "Connection: close", host=host))
            assert fields(reply)["x-from"] == ["portal"]
        for host in (f"{ID}.LOCALHOST", f"{ID.upper()}.localhost.", f"{ID}.localhost:1"):
            reply = await site.raw(site.request("/", "Connection: close", host=host))
            assert status(reply) == 200
            assert "x-from" not in fields(reply)
