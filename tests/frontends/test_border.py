"""What crosses between a client and a session at its own address, and what is refused: attacks."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from hpcbridge.frontends.address import SessionAddresses
from hpcbridge.frontends.admission import Admission

from .own_site import ID, ODD, OwnSite, fields, own_site, said, status
from .test_ownaddress import STYLES, UPGRADE

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"


@pytest.fixture(params=["host", "path"])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[OwnSite]:
    async with own_site(STYLES[request.param]) as site:
        yield site


@pytest.fixture
async def own() -> AsyncIterator[OwnSite]:
    async with own_site(SessionAddresses("host", "localhost")) as site:
        yield site


@pytest.fixture
async def below() -> AsyncIterator[OwnSite]:
    async with own_site(SessionAddresses("path")) as site:
        yield site


async def test_what_says_who_the_user_is_does_not_reach_the_session(site: OwnSite) -> None:
    private = [
        "Authorization: Bearer hpcb_000",
        "Proxy-Authorization: Basic x",
        "X-Remote-User: root",
        "X_Remote_User: root",
        "Remote-User: root",
        "X-Hpcbridge-Secret: s",
        "OIDC_access_token: t",
        "OIDC-Access-Token: t",
        "OIDC_CLAIM_email: e",
        "X-Forwarded-Access-Token: t",
        "X-Forwarded-Email: e",
        "X-Auth-Request-Access-Token: t",
        "X-Forwarded-For: 198.51.100.1",
        "X-Forwarded-Proto: gopher",
        "X-Forwarded-Prefix: /evil",
        "Forwarded: for=198.51.100.1",
        "X-Real-IP: 198.51.100.1",
        "X-Original-URL: /admin",
        "Referer: http://portal.example.org/?secret=s",
        "TE: trailers",
        "Connection: close, X-Csrf-Token",
    ]
    seen = said(await site.raw(site.request("/", *private)))["headers"]
    for name in ("authorization", "x-remote-user", "x_remote_user", "remote-user", "te",
                 "x-hpcbridge-secret", "forwarded", "x-real-ip", "x-original-url", "referer",
                 "proxy-authorization", "x-forwarded-email"):  # fmt: skip
        assert name not in seen
    assert not [name for name in seen if "oidc" in name or "token" in name]
    assert seen["x-forwarded-for"] == ""
    assert seen["x-forwarded-proto"] == "http"
    prefix = None if site.addresses.style == "host" else f"/session/{ID}"
    assert seen.get("x-forwarded-prefix") == prefix


async def test_only_the_applications_own_cookies_reach_it(own: OwnSite) -> None:
    ours = "hpcbridge=1; __Host-hpcbridge=2; HPCBRIDGE=3; hpcbridge_visitor=4"
    logins = "mod_auth_openidc_session=a; _shibsession_x=b; _oauth2_proxy_0=c"
    asked = (
        f"Cookie: {ours}; _xsrf=9; {logins}",
        "Cookie: username-localhost=8",
        "Connection: close",
    )
    seen = said(await own.raw(own.request("/", *asked)))["headers"]
    assert seen["cookie"] == "_xsrf=9; username-localhost=8"
    own.admission = Admission(cookies=("sessionid", "csrf*"))
    seen = said(
        await own.raw(
            own.request("/", "Cookie: csrftoken=1; a=2; sessionid=3", "Connection: close")
        )
    )["headers"]
    assert seen["cookie"] == "csrftoken=1; sessionid=3"


async def test_the_bridge_adds_what_the_application_wants_to_hear(site: OwnSite) -> None:
    site.admission = Admission(headers={"Authorization": "token s3"}, query={"key": "a b"})
    asked = ("Authorization: token stolen", "Connection: close")
    seen = said(await site.raw(site.request("/x?y=1", *asked)))
    assert seen["headers"]["authorization"] == "token s3"
    assert seen["target"] == "/x?y=1&key=a+b"


async def test_a_page_that_asks_for_a_launch_hears_of_its_own_session(site: OwnSite) -> None:
    ours = {"id": ID, "sessionURL": "ws://here/ws", "secret": "s3"}
    site.admission = Admission(launched=ours)
    body = b'{"application": "trame"}'
    for target in ("/paraview", "/paraview/", "/sub/paraview/"):
        head = site.request(target, f"Content-Length: {len(body)}", method="POST")
        reply = await site.raw(head + body)
        assert (status(reply), said(reply)) == (200, ours)
        assert fields(reply)["cache-control"] == ["no-store"]
    assert not site.seen
    foreign = site.request("/paraview", "Origin: http://evil.example.org", method="POST")
    assert status(await site.raw(foreign)) == 403
    site.admission = Admission()
    head = site.request("/paraview", "Content-Length: 0", "Connection: close", method="POST")
    assert said(await site.raw(head))["target"] == "/paraview"


SPEAKS_FOR_ALL = (
    b'Clear-Site-Data: "cookies"\r\nStrict-Transport-Security: max-age=9\r\n'
    b'Public-Key-Pins: x\r\nAlt-Svc: h2="evil:443"\r\nNEL: {}\r\nReport-To: {}\r\n'
    b"Set-Cookie2: a=b\r\nExpect-CT: x\r\nOnion-Location: http://x\r\nX-Unknown: y\r\n"
)


async def test_no_reply_speaks_for_more_than_its_own_address(site: OwnSite) -> None:
    reply = await site.odd_reply(OK + SPEAKS_FOR_ALL + b'ETag: "1"\r\n\r\nok')
    found = fields(reply)
    assert found["etag"] == ['"1"']
    assert set(found) <= {"content-length", "etag", "referrer-policy", "origin-agent-cluster",
                          "connection"}  # fmt: skip
    assert found["referrer-policy"] == ["same-origin"]


async def test_neither_101_nor_103_nor_others_say_more(site: OwnSite) -> None:
    cookie = b"Set-Cookie: hpcbridge=stolen\r\n"
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n" + cookie + SPEAKS_FOR_ALL
    odd = b"HTTP/1.1 102 Processing\r\n" + cookie + b"\r\n"
    reply = await site.odd_reply(early + b"\r\n" + odd + OK + b"\r\nok")
    first, second, *_ = reply.split(b"\r\n\r\n")
    assert first == b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload"
    assert second.startswith(b"HTTP/1.1 200 OK\r\n")
    switching = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    )
    reply = await site.odd_reply(switching + cookie + SPEAKS_FOR_ALL + b"\r\n\x81\x00", *UPGRADE)
    assert set(fields(reply)) == {"sec-websocket-accept", "connection", "upgrade"}
    assert reply.endswith(b"\r\n\r\n\x81\x00")


COOKIES = {
    "a=1": "a=1",
    "a=1; Domain=example.org; Path=/; HttpOnly; Secure": "a=1; HttpOnly; Secure; Path=/",
    "a=1; domain=.localhost": "a=1",
    "a=1; SameSite=Lax; X=evil": "a=1; SameSite=Lax",
    "hpcbridge=1": None,
    "HpcBridge=1; Path=/": None,
    "__Host-hpcbridge=1; Path=/; Secure": None,
    "hpcbridge_visitor=1; Path=/": None,
    "__Host-hpcbridge_visitor=1; Path=/; Secure": None,
    "=1": None,
    "nothing": None,
    "_shibsession_1=1": None,
}


@pytest.mark.parametrize("given", COOKIES)
async def test_a_sessions_cookie_is_its_own_hosts_alone(own: OwnSite, given: str) -> None:
    reply = await own.odd_reply(OK + f"Set-Cookie: {given}\r\n\r\nok".encode())
    wanted = COOKIES[given]
    assert fields(reply).get("set-cookie") == (None if wanted is None else [wanted])


@pytest.mark.parametrize(
    ("strip", "given", "path"),
    [
        (True, "a=1; Path=/", "/"),
        (True, "a=1", "/"),
        (True, "a=1; Path=/hub", "/hub"),
        (False, "a=1; Path=/", "/"),
        (False, f"a=1; Path=/session/{ODD}/lab", "/lab"),
        (False, "a=1; Path=/portal", "/"),
    ],
)
async def test_a_cookie_of_a_session_below_a_path_is_for_that_path(
    below: OwnSite, strip: bool, given: str, path: str
) -> None:
    below.admission = Admission(strip_prefix=strip, cookies=("*",))
    reply = await below.odd_reply(OK + f"Set-Cookie: {given}\r\n\r\nok".encode())
    assert fields(reply)["set-cookie"] == [f"a=1; Path=/session/{ODD}{path}"]


async def test_below_a_path_only_named_cookies_pass(below: OwnSite) -> None:
    below.admission = Admission(cookies=())
    seen = said(await below.raw(below.request("/", "Cookie: a=1", "Connection: close")))
    assert "cookie" not in seen["headers"]
    assert "set-cookie" not in fields(await below.odd_reply(OK + b"Set-Cookie: a=1\r\n\r\nok"))


LOCATIONS = {
    "/lab?a=1": "/lab?a=1",
    "next": "next",
    "?a": "?a",
    "http://127.0.0.1:34567/lab": "/lab",
    "http://localhost/": "/",
    "http://{host}/lab#x": "/lab#x",
    "https://{host}": "/",
    "//{host}/a": "/a",
    "http://evil.example.org/": None,
    "//evil.example.org/": None,
    "/\\evil.example.org": None,
    "\\\\evil.example.org": None,
    "http://{host}//evil.example.org/": None,
    "http://{host}@evil.example.org/": None,
    "http://{host}.evil.example.org/": None,
    "javascript:alert(1)": None,
    "data:text/html,x": None,
    "https:evil.example.org": None,
    "http://[": None,
}


@pytest.mark.parametrize("given", LOCATIONS)
async def test_a_redirect_stays_at_the_sessions_address(site: OwnSite, given: str) -> None:
    location = given.replace("{host}", site.host(ODD))
    head = f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n"
    reply = await site.odd_reply(head.encode())
    wanted = LOCATIONS[given]
    if wanted is None:
        assert status(reply) == 502
        assert b"evil" not in reply
        return
    prefix = f"/session/{ODD}" if site.addresses.style == "path" and wanted[0] == "/" else ""
    assert fields(reply)["location"] == [f"{prefix}{wanted}"]


async def test_a_redirect_of_an_application_below_a_path_does_not_leave_it(below: OwnSite) -> None:
    below.admission = Admission(strip_prefix=False)
    for location, expected in (
        (f"/session/{ODD}/lab", 302),
        ("/paraview", 502),
        (f"/session/{ODD}/../../paraview", 502),
        (f"/session/{ODD}/%2e%2e/x", 502),
    ):
        head = f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n"
        assert status(await below.odd_reply(head.encode())) == expected


def chunked(site: OwnSite, coding: str = "chunked", body: bytes = b"0\r\n\r\n") -> bytes:
    return site.request("/", f"Transfer-Encoding: {coding}", method="POST") + body


def smuggling(site: OwnSite) -> dict[str, bytes]:
    """Requests that two programs may read differently."""
    head = site.request("/", "Content-Length: 0", method="POST")
    plain = site.request("/")
    return {
        "two lengths": site.request("/", "Content-Length: 1", "Content-Length: 2", method="POST"),
        "the same length twice": site.request("/", "Content-Length: 0", "Content-Length: 0"),
        "a list of lengths": site.request("/", "Content-Length: 0, 0", method="POST"),
        "a length with a sign": site.request("/", "Content-Length: +0", method="POST"),
        "length and chunks": chunked(site, "chunked\r\nContent-Length: 5"),
        "chunks and length": site.request(
            "/", "Content-Length: 5", "Transfer-Encoding: chunked", method="POST"
        ),
        "chunks of another name": chunked(site, "xchunked"),
        "chunks twice": chunked(site, "chunked, chunked"),
        "chunks, then identity": chunked(site, "chunked\r\nTransfer-Encoding: identity"),
        "gzip, chunked": chunked(site, "gzip, chunked"),
        "vertical tab before chunked": chunked(site, "\x0bchunked"),
        "folded chunks": site.request("/", "Transfer-Encoding:\r\n chunked", method="POST"),
        "folded header": site.request("/", "X: a\r\n\tContent-Length: 5"),
        "space before the colon": site.request("/", "Transfer-Encoding : chunked", method="POST"),
        "a line feed alone": head.replace(b"Content-Length", b"X: y\nTransfer-Encoding: z\r\nC"),
        "line feeds alone": plain.replace(b"\r\n", b"\n"),
        "a return alone": site.request("/", "X: a\rTransfer-Encoding: chunked"),
        "NUL": site.request("/", "X: a\0b"),
        "chunks of HTTP/1.0": chunked(site).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
        "upgrade of HTTP/1.0": site.request("/socket", *UPGRADE, version="1.0"),
        "websocket with a body": site.request("/socket", *UPGRADE, "Content-Length: 3") + b"abc",
        "a tunnel": site.request("/", method="CONNECT"),
        "trace": site.request("/", method="TRACE"),
        "two hosts": site.request("/", "Host: localhost"),
        "HTTP/2": plain.replace(b"HTTP/1.1", b"HTTP/2.0"),
        "a head of 20 kB": site.request("/", "X: " + "a" * 20000),
        "a tab in the first line": plain.replace(b"GET ", b"GET\t"),
        "a fragment": plain.replace(b" HTTP", b"#x HTTP", 1),
    }


NAMES = list(smuggling(OwnSite(1, None, STYLES["host"], None)))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
async def test_a_request_that_could_be_read_differently_reaches_nobody(
    site: OwnSite, name: str
) -> None:
    follows = site.request("/smuggled")
    reply = await site.raw(smuggling(site)[name] + follows)
    assert 400 <= status(reply) < 500 or status(reply) in (501, 505)
    assert reply.count(b"HTTP/1.1 ") == 1
    assert not site.seen


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\nab\r\n0\r\n\r\n",
        b"-2\r\nab\r\n0\r\n\r\n",
        b"0x2\r\nab\r\n0\r\n\r\n",
        b"2\r\nabX\r\n0\r\n\r\n",
        b"2\nab\n0\n\n",
        b"2;" + b"x" * 600_000,
        b"ffffffffffffffffffffff\r\nab\r\n",
    ],
)
async def test_chunks_that_are_none_end_the_request(site: OwnSite, body: bytes) -> None:
    reply = await site.raw(chunked(site, body=body) + site.request("/smuggled"))
    assert status(reply) in (400, 502)
    assert "/smuggled" not in [request.path for request in site.seen]


async def test_extensions_of_chunks_do_not_cross(site: OwnSite) -> None:
    bodies: list[bytes] = []

    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        bodies.append(await reader.readuntil(b"0\r\n\r\n"))
        writer.write(OK + b"\r\nok")

    site.odd = odd
    head = site.request("/", "Transfer-Encoding: chunked", "Connection: close", method="POST",
                        session_id=ODD)  # fmt: skip
    assert status(await site.raw(head + b'2;a="b"\r\nab\r\n0;c\r\n\r\n')) == 200
    assert bodies == [b"2\r\nab\r\n0\r\n\r\n"]


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/2 200\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"",
    ],
)
async def test_an_answer_that_is_none_is_a_502(site: OwnSite, reply: bytes) -> None:
    assert status(await site.odd_reply(reply)) == 502


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nstole",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nstole",
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nstole\r\n0\r\n\r\n",
        b"HTTP/1.1 999 Caf\xe9\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 099 X\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\nETag: 1\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nETag: \xff\x80\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nETag: a\0b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nE Tag: a\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_odd_answer_is_told_as_others_read_it_or_not_at_all(
    site: OwnSite, reply: bytes, method: str
) -> None:
    got = await site.odd_reply(reply, method=method)
    assert got.count(b"HTTP/1.1 ") == 1
    assert b"stole" not in got
    assert b"\n " not in got
    assert b"\0" not in got
    head = got.partition(b"\r\n\r\n")[0]
    assert b"\n" not in head.replace(b"\r\n", b"")


async def test_what_follows_an_answer_is_nobodys(site: OwnSite) -> None:
    """A second answer would be the next request's."""
    second = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstole"
    site.answers(OK + b"\r\nok" + second)
    kept = site.request("/a", session_id=ODD)
    last = site.request("/b", "Connection: close")
    reply = await site.raw(kept + last)
    assert reply.count(b"HTTP/1.1 200") == 2
    assert b"stole" not in reply


async def test_after_a_refused_websocket_what_follows_is_no_request(site: OwnSite) -> None:
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
    site.answers(refusal)
    asked = site.request("/socket", *UPGRADE, session_id=ODD)
    reply = await site.raw(asked + site.request("/smuggled"))
    assert (status(reply), fields(reply)["connection"]) == (403, ["close"])
    assert not site.seen


FOREIGN = {
    "post": (("Origin: http://evil.example.org",), "POST", 403),
    "get of a script": (("Origin: http://evil.example.org",), "GET", 403),
    "null": (("Origin: null",), "POST", 403),
    "two": (("Origin: http://{host}", "Origin: http://{host}"), "POST", 403),
    "another port": (("Origin: http://localhost:1",), "POST", 403),
    "websocket": (("Origin: http://portal.example.org", *UPGRADE), "GET", 403),
    "image of another site": (
        ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"),
        "GET",
        403,
    ),
    "script next door": (("Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors"), "GET", 403),
    "form of another site": (
        ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"),
        "POST",
        403,
    ),
    "link": (("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"), "GET", 200),
    "own page": (("Origin: http://{host}", "Sec-Fetch-Site: same-origin"), "POST", 200),
    "typed": (("Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate"), "GET", 200),
    "program": ((), "POST", 200),
}


@pytest.mark.parametrize("name", FOREIGN)
async def test_pages_of_other_addresses_may_link_here_and_nothing_more(
    site: OwnSite, name: str
) -> None:
    lines, method, expected = FOREIGN[name]
    headers = [line.replace("{host}", site.host()) for line in lines]
    headers += [] if "Upgrade: websocket" in headers else ["Connection: close"]
    reply = await site.raw(site.request("/", "Content-Length: 0", *headers, method=method))
    assert status(reply) == expected
    assert len(site.seen) == (expected == 200)


async def test_a_sessions_page_reaches_no_api_through_its_own_address(own: OwnSite) -> None:
    reply = await own.raw(own.request("/paraview", "Connection: close", method="DELETE"))
    assert said(reply)["target"] == "/paraview"
    for host in (f"{ID}.localhost", f"x.{ID}.localhost"):
        lines = [f"GET /paraview HTTP/1.1\r\nHost: {host}", "Host: localhost", "\r\n"]
        assert status(await own.raw("\r\n".join(lines).encode())) in (400, 404)
