"""Web servers with the printed configuration before the whole service, which has two users.

Each of them hands all on to the service, so that owners are asked for and lists of headers hold as
they do without it. Half of the sites have sessions at names of their own and connect by a unix
socket where the server can, the other half at paths, by a port, and by what is printed for a site's
own configuration.
"""

import asyncio
import base64
import hashlib
import io
import json
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import pytest_asyncio
from aiohttp.abc import AbstractResolver, ResolveResult
from typer.testing import CliRunner
from yarl import URL

from hpcbridge.cli.main import app
from tests.ca import CA
from tests.serviceprocess import ServiceProcess
from tests.site import Service, Site, make_site
from tests.usersite import SECRET, audited, auth

from .apache_server import free_port
from .behind_app import PROGRAM
from .webservers import PASSWORD, SERVERS, WebServer

KINDS = ("nginx",)
"""The others have files of their own with the same tests."""

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]

UNKNOWN = "77" * 20
CLAIMS = {
    "X-Remote-User": "olga",
    "X-Hpcbridge-Secret": "0" * 48,
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Host": "evil.example",
    "Forwarded": "for=203.0.113.9;host=evil.example",
    "OIDC_access_token": "t",
    "X-Forwarded-Access-Token": "t",
}
WRONG = {"clear-site-data", "strict-transport-security", "alt-svc"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test on both halves of the sites of this file's web servers."""
    kinds: tuple[str, ...] = metafunc.module.KINDS
    if "place" in metafunc.fixturenames:
        both = [(kind, paths) for kind in kinds for paths in (False, True)]
        metafunc.parametrize("place", both, indirect=True, scope="module", ids=str)
    elif "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", kinds)


class Loopback(AbstractResolver):
    """Every name is this machine."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        found = {"hostname": host, "host": "127.0.0.1", "port": port, "family": 2}
        return [ResolveResult(**found, proto=0, flags=0)]  # type: ignore[typeddict-item]

    async def close(self) -> None:
        pass


@dataclass
class World:
    """``session`` is alice's; ``page`` where it is opened, with a ticket."""

    site: Site
    service: ServiceProcess
    web: WebServer
    tls: ssl.SSLContext
    paths: bool
    session: str = ""
    websocket: str = ""

    @property
    def url(self) -> str:
        return f"https://localhost:{self.web.port}"

    @property
    def own(self) -> str:
        """The session's own address, without a slash at its end."""
        if self.paths:
            return f"{self.url}/session/{self.session}"
        return f"https://{self.session}.sessions.localhost:{self.web.port}"

    def client(self) -> aiohttp.ClientSession:
        """A browser of its own, which logs in nowhere by itself."""
        connector = aiohttp.TCPConnector(resolver=Loopback(), ssl=self.tls, force_close=True)
        return aiohttp.ClientSession(connector=connector)

    async def ask(
        self, url: str, user: str | None = None, method: str = "GET", **more: Any
    ) -> tuple[int, str]:
        """Status and body."""
        headers = {**(basic(user) if user else {}), **more.pop("headers", {})}
        async with (
            self.client() as client,
            client.request(method, url, headers=headers, allow_redirects=False, **more) as reply,
        ):
            return reply.status, await reply.text()

    async def visitor(self) -> aiohttp.ClientSession:
        """alice's browser, with the cookie of the session's own address."""
        status, text = await self.ask(f"{self.url}/paraview/{self.session}", "alice")
        assert status == 200, text
        client = self.client()
        async with client.get(json.loads(text)["page"], allow_redirects=False) as reply:
            assert reply.status == 303, await reply.text()
            assert "HttpOnly" in reply.headers["Set-Cookie"]
            assert "Secure" in reply.headers["Set-Cookie"]
        return client

    async def cookie(self) -> str:
        """What alice's browser sends to the session's own address."""
        async with await self.visitor() as browser:
            found = browser.cookie_jar.filter_cookies(URL(f"{self.own}/")).values()
            return "; ".join(f"{each.key}={each.value}" for each in found)

    async def raw(self, data: bytes, name: str = "localhost") -> bytes:
        """What is answered until the server closes, or is silent where it keeps a connection."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.web.port, ssl=self.tls, server_hostname=name
        )
        writer.write(data)
        said = b""
        try:
            async with asyncio.timeout(3):
                while more := await reader.read(65536):
                    said += more
        except (ConnectionError, TimeoutError):
            pass
        finally:
            writer.transport.abort()
        return said


def basic(user: str, password: str = PASSWORD) -> dict[str, str]:
    word = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {word}"}


def options(web: WebServer, folder: Path, *, paths: bool) -> dict[str, Any]:
    """The sections that make the site one half or the other."""
    frontend: dict[str, Any] = {"kind": web.kind, "group": web.group}
    server: dict[str, Any] = {"port": free_port()}
    if paths:
        frontend |= {"session_address": "path", "trust_applications": True}
    else:
        frontend |= {"session_domain": "sessions.localhost"}
        if web.unix:
            server = {"unix_socket": str(folder / "api.sock")}
    return {"frontend": frontend, "server": server}


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest) -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="hpcb-") as folder:
        Path(folder).chmod(0o711)  # the server's workers pass through
        yield from _place(*request.param, Path(folder))


def _place(kind: str, paths: bool, folder: Path) -> Iterator[World]:
    ca = CA(folder)
    certificate, key = ca.issue("localhost", "*.sessions.localhost")
    web = SERVERS[kind](folder, certificate, key)
    site = make_site(folder)
    program = site.program("page", f"#!{sys.executable}\n{PROGRAM}")
    cone = {"properties": {"program": program}, "viewer": "page", "cookies": ["sid", "sso"]}
    site.write(
        **options(web, folder, paths=paths),
        auth=auth(site, "header", "token"),
        applications={"cone": cone},
    )
    with Service(site, "--end-sessions") as service:
        web.start(site.path, SECRET, parts=paths)
        tls = ssl.create_default_context(cafile=str(ca.file))
        yield World(site, service, web, tls, paths)
        web.stop()
        assert service.stop() == 0
    site.end_processes()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(place: World) -> AsyncIterator[World]:
    status, text = await place.ask(
        f"{place.url}/paraview", "alice", "POST", json={"application": "cone"}, headers=CLAIMS
    )
    assert status == 200, text
    reply = json.loads(text)
    place.session, place.websocket = reply["id"], reply["sessionURL"]
    yield place


async def test_a_launch_is_the_users_who_logged_in_whatever_is_claimed(world: World) -> None:
    launched = next(each for each in audited(world.site) if each["what"] == "launch")
    assert (launched["user"], launched["from"]) == ("alice", "127.0.0.1")
    path = f"localhost:{world.web.port}/proxy?sessionId={world.session}&path=ws"
    assert world.websocket == f"wss://{path}"
    status, text = await world.ask(f"{world.url}/paraview/{world.session}", "alice", headers=CLAIMS)
    assert (status, json.loads(text)["state"]) == (200, "ready")
    assert json.loads(text)["page"].startswith(f"{world.own}/?")


async def test_a_websocket_crosses_and_nothing_of_its_client_with_it(world: World) -> None:
    private = {**CLAIMS, **basic("alice"), "Cookie": "sso=alice", "Referer": "https://x/?secret=1"}
    data = bytes(range(256)) * 4096
    async with (
        world.client() as client,
        client.ws_connect(world.websocket, headers=private, max_msg_size=0) as ws,
    ):
        told = json.loads(await ws.receive_str(timeout=60))["headers"]
        assert {key for key in told if not key.startswith("sec-websocket-")} <= {
            *("host", "connection", "upgrade", "accept", "accept-encoding", "user-agent")
        }
        assert not {key.lower() for key in ws._response.headers} & {*WRONG, "set-cookie"}
        for _ in range(4):
            await ws.send_bytes(data)
            assert await ws.receive_bytes(timeout=60) == data


async def test_a_session_is_its_owners_and_operators(world: World) -> None:
    plain = f"{world.url}/proxy?sessionId={world.session}&path=page"
    for url in (plain, f"{world.url}/paraview/{world.session}"):
        asked = [(await world.ask(url, user))[0] for user in ("alice", "olga", "bob", None)]
        assert asked == [200, 200, 404, 401]
        for claimed in (CLAIMS, CLAIMS | {"X-Remote-User": "alice"}):
            assert (await world.ask(url, "bob", headers=claimed))[0] == 404
            assert (await world.ask(url, headers=claimed))[0] == 401
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with world.client() as client:
            await client.ws_connect(world.websocket, headers=basic("bob"))
    assert caught.value.status == 404


async def test_no_client_takes_off_what_the_server_says(world: World) -> None:
    """Headers that Connection names are for one hop alone (RFC 9110, 7.6.1), but not these."""
    own = [*CLAIMS, "Authorization", "Host"]
    headers = {"Connection": ", ".join(["close", *own])}
    url = f"{world.url}/paraview/{world.session}"
    for user, status in (("alice", 200), ("bob", 404)):
        asked = (await world.ask(url, user, headers=headers | CLAIMS))[0]
        assert asked in (status, 401 if world.web.hops else status)  # takes off its own name
    async with await world.visitor() as browser:
        async with browser.get(f"{world.own}/a", headers=headers | CLAIMS) as reply:
            told = (await reply.json())["headers"]
        assert (told["x-forwarded-for"], told["x-forwarded-proto"]) == ("127.0.0.1", "https")


async def test_a_wrong_login_or_token_leads_nowhere(world: World) -> None:
    mallory = basic("alice", "guessed")
    token = {"Authorization": f"Bearer hpcb_{'0' * 12}_{'0' * 64}"}
    for headers in (mallory, token, {"Authorization": "Bearer hpcb_000"}):
        status, text = await world.ask(f"{world.url}/paraview", headers=headers)
        assert status == 401, text
        status, _ = await world.ask(
            f"{world.url}/proxy?sessionId={world.session}&path=page", headers=headers
        )
        assert status in (401, 404)
        # Nobody would look at a token there.
        for path in ("/", "/portal/portal.js"):
            status, _ = await world.ask(f"{world.url}{path}", headers=headers)
            assert status == 401, path
    assert (await world.ask(f"{world.url}/", "alice"))[0] == 200
    # Two at once: nobody is whom the one names because of the other.
    for pair in ((mallory, token), (token, mallory)):
        lines = [f"Authorization: {each['Authorization']}" for each in pair]
        lines.append("Connection: close")
        said = await world.raw(request(world, f"/paraview/{world.session}", *lines))
        assert status_of(said) in (400, 401), said


async def test_a_token_comes_through_without_a_login(world: World) -> None:
    wanted = ["--user", "alice", "--scope", "read", "--expires", "1h"]
    command = ["token", "create", str(world.site.path), *wanted]
    made = await asyncio.to_thread(CliRunner().invoke, app, command)
    assert made.exit_code == 0, made.output
    headers = {"Authorization": f"Bearer {made.stdout.split()[0]}"}
    status, text = await world.ask(
        f"{world.url}/paraview/{world.session}", headers=headers | CLAIMS
    )
    assert status == 200, text


async def test_the_own_address_opens_by_a_ticket_and_then_by_its_cookie(world: World) -> None:
    for user in (None, "alice", "bob"):
        assert (await world.ask(f"{world.own}/page", user, headers=CLAIMS))[0] == 404
    async with await world.visitor() as browser:
        asked = URL(f"{world.own}/a%2Fb/x%20y?a=1&b=%2F", encoded=True)
        async with browser.get(asked, headers=CLAIMS | {"Cookie": "sid=1; sso=x"}) as reply:
            assert reply.status == 200
            seen = await reply.json()
        assert not {key.lower() for key in reply.headers} & WRONG
        (cookie,) = reply.headers.getall("Set-Cookie")
        assert cookie.startswith("sso=stolen; ")
        assert "domain" not in cookie.lower()
        headers = seen["headers"]
        assert seen["target"] == "/a%2Fb/x%20y?a=1&b=%2F"
        assert headers["x-forwarded-for"] == "127.0.0.1"
        assert headers["x-forwarded-proto"] == "https"
        assert headers["host"] == headers["x-forwarded-host"] == urlsplit(world.own).netloc
        assert "hpcbridge" not in headers.get("cookie", "")
        assert not {key.lower() for key in CLAIMS if "user" in key.lower()} & headers.keys()
        assert not {"oidc_access_token", "x-forwarded-access-token", "forwarded"} & headers.keys()
        async with browser.get(f"{world.own}/away", allow_redirects=False) as reply:
            assert reply.status == 502


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
async def test_every_method_passes_with_its_body(world: World, method: str) -> None:
    async with (
        await world.visitor() as browser,
        browser.request(method, f"{world.own}/m", data=b"12345") as reply,
    ):
        seen = await reply.json()
        assert (seen["method"], seen["size"]) == (method, 5)


async def test_large_bodies_pass_with_a_length_and_in_chunks(world: World) -> None:
    data = bytes(range(256)) * 4096 * 8

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 1 << 16):
            yield data[start : start + (1 << 16)]

    async with await world.visitor() as browser:
        for body in (io.BytesIO(data), pieces()):
            async with browser.put(f"{world.own}/up", data=body) as reply:
                seen = await reply.json()
            assert (seen["size"], seen["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


async def test_a_body_reaches_the_session_before_it_is_complete(world: World) -> None:
    async with await world.visitor() as browser:

        async def pieces() -> AsyncIterator[bytes]:
            yield b"first"
            async with asyncio.timeout(60), browser.get(f"{world.own}/begun") as reply:
                assert reply.status == 200
            yield b"second"

        async with browser.post(f"{world.own}/slow", data=pieces()) as reply:
            assert (await reply.json())["size"] == 11


async def test_events_reach_the_browser_one_by_one(world: World) -> None:
    async with (
        await world.visitor() as browser,
        asyncio.timeout(60),
        browser.get(f"{world.own}/stream") as reply,
    ):
        assert await reply.content.readuntil(b"\n\n") == b"data: one\n\n"
        async with browser.get(f"{world.own}/go") as gone:
            assert gone.status == 200
        assert await reply.content.readuntil(b"\n\n") == b"data: two\n\n"


async def test_a_websocket_has_any_path_at_the_own_address(world: World) -> None:
    async with (
        await world.visitor() as browser,
        browser.ws_connect(f"{world.own}/a/b?c=1", headers=CLAIMS) as ws,
    ):
        seen = json.loads(await ws.receive_str(timeout=60))
        assert seen["target"] == "/a/b?c=1"
        assert seen["headers"]["x-forwarded-for"] == "127.0.0.1"
        assert not {key.lower() for key in ws._response.headers} & {*WRONG, "set-cookie"}
        await ws.send_bytes(b"x")
        assert await ws.receive_bytes(timeout=60) == b"x"


async def test_an_early_hint_brings_nothing_else_and_the_reply_after_it(world: World) -> None:
    async with await world.visitor() as browser, browser.get(f"{world.own}/hint") as reply:
        assert reply.status == 200
        assert (await reply.json())["target"] == "/hint"
    own, lines = urlsplit(world.own), (f"Cookie: {await world.cookie()}", "Connection: close")
    asked = request(world, f"{own.path}/hint", *lines, host=own.netloc)
    first, _, rest = (await world.raw(asked, own.hostname or "")).partition(b"\r\n\r\n")
    if world.web.kind == "nginx":
        assert status_of(first) == 200  # it would take a hint for the reply
    else:
        assert (status_of(first), status_of(rest)) == (103, 200)
        assert b"preload" in first
        assert b"stolen" not in first


async def test_an_unknown_session_is_not_found(world: World) -> None:
    for session in (UNKNOWN, "x", "NONE", "..", f"{world.session}%0a", f"{world.session}x", ""):
        for query in (f"sessionId={session}&path=ws", f"path=ws&sessionId={session}"):
            status, text = await world.ask(f"{world.url}/proxy?{query}", "alice")
            assert (status, list(json.loads(text))) == (404, ["error"])
    for label in (UNKNOWN, "x", world.session[:-1]):
        host = f"{label}.sessions.localhost:{world.web.port}"
        if world.paths:
            status, text = await world.ask(f"{world.url}/session/{label}/")
        else:
            status, text = await world.ask(f"https://{host}/")
        assert (status, list(json.loads(text))) == (404, ["error"])


async def test_what_is_not_the_services_is_not_handed_on(world: World) -> None:
    for path in ("/openapi.json", "/paraviewer", "/proxyx", "/server-status", "/nginx_status"):
        assert (await world.ask(f"{world.url}{path}", "alice"))[0] == 404
    for path in ("/", "/portal/portal.js"):
        assert (await world.ask(f"{world.url}{path}", "alice"))[0] == 200


async def test_a_page_of_another_site_gets_nothing(world: World) -> None:
    evil = {"Origin": "https://evil.example"}
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with world.client() as client:
            await client.ws_connect(world.websocket, headers=evil | basic("alice"))
    assert caught.value.status == 403
    launch = {"json": {"application": "cone"}, "headers": evil}
    assert (await world.ask(f"{world.url}/paraview", "alice", "POST", **launch))[0] == 403
    # DNS rebinding: its name leads here.
    lines = [f"Authorization: {basic('alice')['Authorization']}", "Connection: close"]
    for path in ("/", "/paraview/applications", f"/proxy?sessionId={world.session}"):
        for more in ((), ("Origin: https://evil.example",)):
            said = await world.raw(request(world, path, *lines, *more, host="evil.example"))
            assert status_of(said) in (404, 421), said
            assert world.session.encode() not in said


def request(
    world: World, target: str, *lines: str, host: str | None = None, first: str = "GET {} HTTP/1.1"
) -> bytes:
    named = [] if host == "" else [f"Host: {host or f'localhost:{world.web.port}'}"]
    return ("\r\n".join([first.format(target), *named, *lines]) + "\r\n\r\n").encode("latin-1")


def status_of(reply: bytes) -> int:
    assert reply.startswith(b"HTTP/1."), reply
    return int(reply.split(b" ", 2)[1])


SMUGGLED = {
    "two kinds of length": ["Content-Length: {all}", "Transfer-Encoding: chunked"],
    "the same turned round": ["Transfer-Encoding: chunked", "Content-Length: {all}"],
    "two lengths": ["Content-Length: 5", "Content-Length: {all}"],
    "two in one": ["Content-Length: 5, {all}"],
    "a sign": ["Content-Length: +5"],
    "folded": ["Content-Length: {all}", "Transfer-Encoding:", " chunked"],
    "folded value": ["Content-Length: {all}", "X: a", "\tTransfer-Encoding: chunked"],
    "a space before the colon": ["Content-Length: {all}", "Transfer-Encoding : chunked"],
    "a vertical tab": ["Content-Length: {all}", "Transfer-Encoding: \x0bchunked"],
    "another coding": ["Content-Length: {all}", "Transfer-Encoding: xchunked"],
    "a coding twice": ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
    "chunked twice": ["Transfer-Encoding: chunked, chunked"],
    "a return": ["X: a\rTransfer-Encoding: chunked", "Content-Length: {all}"],
    "a line feed": ["X: a\nTransfer-Encoding: chunked", "Content-Length: {all}"],
    "a NUL": ["X: a\0", "Transfer-Encoding: chunked", "Content-Length: {all}"],
    "chunked is kept": ["Content-Length: {all}", "Connection: close, transfer-encoding"],
    "the length is hop by hop": ["Content-Length: {all}", "Connection: keep-alive, content-length"],
    "an underscore": ["Content-Length: {all}", "Transfer_Encoding: chunked"],
}


@pytest.mark.parametrize("first", ["POST {} HTTP/1.1", "GET {} HTTP/1.1", "POST {} HTTP/1.0"])
async def test_nothing_reaches_the_service_past_the_web_server(world: World, first: str) -> None:
    """What the server did not read as a request keeps its claims; the service would believe it."""
    cookie, own = await world.cookie(), urlsplit(world.own)
    hidden = request(
        world,
        f"{own.path}/smuggled",
        f"Cookie: {cookie}",
        "X-Forwarded-For: 203.0.113.9",
        host=own.netloc,
    )
    body = b"0\r\n\r\n" + hidden
    closing = request(world, "/", "Connection: close")

    async def send(form: list[str]) -> None:
        lines = [f"Cookie: {cookie}", *(line.format(all=len(body)) for line in form)]
        head = request(world, f"{own.path}/m", *lines, host=own.netloc, first=first)
        await world.raw(head + body + closing, own.hostname or "")

    await asyncio.gather(*map(send, SMUGGLED.values()))
    async with await world.visitor() as browser, browser.get(f"{world.own}/seen") as reply:
        seen = await reply.json()
    assert [each for each in seen if each["target"].endswith("/m")]  # some forms are in order
    told = {each["headers"].get("x-forwarded-for") for each in seen}  # at /proxy it is not told
    assert told <= {"127.0.0.1", None}


@pytest.mark.parametrize(
    ("lines", "version", "upgrade"),
    [
        (["Connection: Upgrade", "Upgrade: websocket"], "1.0", True),
        (["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAA"], "1.1", 0),
        (["Connection: Upgrade", "Upgrade: TLS/1.0"], "1.1", False),
        (["Connection: Upgrade", "Upgrade: websocket, h2c"], "1.1", True),
    ],
)
async def test_no_other_upgrade_is_made(
    world: World, lines: list[str], version: str, upgrade: bool
) -> None:
    key = ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    login = f"Authorization: {basic('alice')['Authorization']}"
    target = f"/proxy?sessionId={world.session}&path={'ws' if upgrade else 'page'}"
    said = await world.raw(
        request(world, target, login, *lines, *key, "X: y", first=f"GET {{}} HTTP/{version}")
        + request(world, "/", "Connection: close")
    )
    assert (b" 101 " in said) is (version == "1.0" and world.web.hops)


async def test_browsers_speak_http_2_with_it(world: World) -> None:
    url = urlsplit(world.own if not world.paths else world.url)
    command = ["curl", "--silent", "--http2", "--cacert", str(world.site.root / "ca.pem")]
    command += ["--resolve", f"{url.hostname}:{url.port}:127.0.0.1", "--output", "/dev/null"]
    command += ["--write-out", "%{http_version} %{http_code}", f"{url.scheme}://{url.netloc}/x"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert done.stdout == "2 404"


async def test_its_log_has_nothing_that_opens_a_session(world: World) -> None:
    async with await world.visitor() as browser, browser.get(f"{world.own}/logged?a=1"):
        pass
    await world.ask(f"{world.url}/proxy?sessionId={world.session}", "alice")
    log = world.web.log
    assert world.web.logged in log
    assert world.session not in log
    assert "ticket" not in log


async def test_a_stopped_service_is_an_error_that_clients_can_show(
    kind: str, directory: Path
) -> None:
    ca = CA(directory)
    web = SERVERS[kind](directory, *ca.issue("localhost"))
    site = make_site(directory)
    site.write(**options(web, directory, paths=True))
    try:
        await asyncio.to_thread(web.start, site.path)
        tls = ssl.create_default_context(cafile=str(ca.file))
        asked = World(site, None, web, tls, True)  # type: ignore[arg-type]
        status, text = await asked.ask(f"{asked.url}/paraview/", method="POST", json={})
        if web.tells_down:
            assert (status, "not running" in json.loads(text)["error"]) == (503, True)
        else:
            assert (status, text) == (502, "Bad Gateway")
    finally:
        web.stop()
