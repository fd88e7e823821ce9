"""Debian's Apache with the printed virtual host, in front of real WebSockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hpcbridge.errors import ConfigError
from hpcbridge.frontends.apache import virtual_host
from hpcbridge.frontends.base import Route
from hpcbridge.frontends.textmap import TextMap
from hpcbridge.network.addresses import TCPAddress

from .apache_server import ApacheServer, free_port
from .session_app import SessionApp, session_app

ONE, TWO, SOCKET, UNKNOWN = "one" + "A" * 29, "two" + "B" * 29, "unix-" + "C" * 27, "no_" + "D" * 29


@dataclass
class Site:
    """Apache, the API behind it, and three sessions: two in the map, one with a socket."""

    url: str
    apache: ApacheServer
    map: TextMap
    client: aiohttp.ClientSession
    apps: dict[str, SessionApp] = field(default_factory=dict)
    api: SessionApp = field(default_factory=lambda: SessionApp("api"))

    async def greeting(self, query: str, **kwargs: Any) -> str:
        async with self.client.ws_connect(f"{self.url}/proxy?{query}", **kwargs) as socket:
            return await socket.receive_str(timeout=60)

    async def refusal(self, query: str, **kwargs: Any) -> int:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await self.greeting(query, **kwargs)
        return caught.value.status

    async def publish(self, **ports: int) -> None:
        routes = {i: Route(i, TCPAddress("127.0.0.1", port)) for i, port in ports.items()}
        await self.map.publish(routes)


@pytest.fixture
async def site(directory: Path) -> AsyncIterator[Site]:
    apache = ApacheServer(directory, free_port())
    sockets = directory / "sockets"
    sockets.mkdir()
    for name in ("sockets", "maps", "www"):
        (directory / name).mkdir(exist_ok=True)
        (directory / name).chmod(0o755)
    (directory / "www" / "index.html").write_text("the page")
    map_file = directory / "maps" / "proxy.txt"
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        apps = {ONE: await enter(session_app("one")), TWO: await enter(session_app("two"))}
        apps[SOCKET] = await enter(session_app("unix", sockets / f"{SOCKET}.sock"))
        api = await enter(session_app("api"))
        client = await enter(aiohttp.ClientSession())
        text_map = TextMap(map_file, group=apache.group)
        site = Site(f"http://127.0.0.1:{apache.port}", apache, text_map, client, apps, api)
        await site.publish(**{ONE: apps[ONE].port, TWO: apps[TWO].port})
        stack.callback(apache.stop)
        await asyncio.to_thread(
            apache.start,
            virtual_host(
                server_name="portal.example.org",
                listen=f"127.0.0.1:{apache.port}",
                api_url=f"http://127.0.0.1:{api.port}",
                endpoint="/paraview",
                map_file=map_file,
                socket_dir=sockets,
                document_root=directory / "www",
                allowed_origins=["https://other.example.org"],
            ),
        )
        yield site


async def test_each_session_reaches_its_own_application_whatever_the_order(site: Site) -> None:
    for query, name in (
        (f"sessionId={ONE}&path=ws", "one"),
        (f"path=ws&sessionId={TWO}", "two"),
        (f"sessionId={TWO}", "two"),
        (f"sessionId={SOCKET}&path=ws", "unix"),
        (f"x=1&path=ws&y=2&sessionId={SOCKET}&z", "unix"),
        (f"sessionid={ONE}&path=ws", "one"),  # as trame's client asks
        (f"path=ws&SESSIONID={SOCKET}", "unix"),
    ):
        assert await site.greeting(query) == name
    assert all(app.last.path_qs == "/ws" for app in site.apps.values())


async def test_bytes_go_both_ways(site: Site) -> None:
    data = bytes(range(256)) * 4096
    for session in (ONE, SOCKET):
        url = f"{site.url}/proxy?sessionId={session}&path=ws"
        async with site.client.ws_connect(url, max_msg_size=0) as socket:
            await socket.receive_str()
            await socket.send_bytes(data)
            assert await socket.receive_bytes() == data


async def test_an_unknown_session_is_not_found(site: Site) -> None:
    for query in (f"sessionId={UNKNOWN}&path=ws", "path=ws", "sessionId=&path=ws", "", "sessionId"):
        assert await site.refusal(query) == 404
        async with site.client.get(f"{site.url}/proxy?{query}") as reply:
            assert reply.status == 404


@pytest.mark.parametrize(
    "session",
    [
        "NONE",
        "NONE" * 6,
        "../" * 8,
        f"../sockets/{SOCKET}",
        f"{ONE}%0a{TWO}",
        f"{ONE}.sock",
        f"{ONE}%20",
        "|http://127.0.0.1:80/",
        "${env:PATH}aaaaaaaaaaaaaaaaaaaaaaa",
        "A" * 65,
    ],
)
async def test_ids_of_another_shape_lead_nowhere(site: Site, session: str) -> None:
    assert await site.refusal(f"sessionId={session}&path=ws") in (400, 404)
    assert not any(app.requests for app in site.apps.values())


@pytest.mark.parametrize(
    "path",
    ["../../admin", "admin", "/ws", "ws/../admin", "ws%2f..%2fadmin", "//evil/", "WS", "ws?a", ""],
)
async def test_a_websocket_cannot_choose_its_path(site: Site, path: str) -> None:
    for session in (ONE, SOCKET):
        assert await site.refusal(f"sessionId={session}&path={path}") == 400
        assert await site.refusal(f"path={path}&sessionId={session}") == 400
        assert await site.refusal(f"path=ws&sessionId={session}&path={path}") == 400
    assert not any(app.requests for app in site.apps.values())


async def test_a_session_named_twice_is_refused_however_it_is_spelled(site: Site) -> None:
    for query in (
        f"sessionId={ONE}&sessionId={TWO}",
        f"sessionId={ONE}&sessionid={TWO}",
        f"path=ws&SessionID={TWO}&x=1&sessionId={SOCKET}",
    ):
        assert await site.refusal(query) == 400
    assert not any(app.requests for app in site.apps.values())


async def test_pages_of_other_sites_are_refused(site: Site) -> None:
    query = f"sessionId={ONE}&path=ws"
    port = site.apache.port
    for origin in (
        "http://evil.example.org",
        "null",
        f"http://127.0.0.1:{port}.evil.example.org",
        f"http://evil.example.org/127.0.0.1:{port}",
        f"http://user@127.0.0.1:{port}",
        "http://127.0.0.1:1",
        "https://otherXexample.org",
        "https://other.example.org.evil.example.org",
    ):
        assert await site.refusal(query, origin=origin) == 403
    assert not site.apps[ONE].requests
    for origin in (f"http://127.0.0.1:{port}", "https://other.example.org"):
        assert await site.greeting(query, origin=origin) == "one"


async def test_a_plain_request_reaches_the_session_without_what_is_the_visitors(site: Site) -> None:
    headers = {
        "Cookie": "sso=secret",
        "Authorization": "Bearer secret",
        "Referer": "http://portal/?secret=s",
        "X-Forwarded-User": "root",
        "REMOTE_USER": "root",
        "X-Remote-User": "root",
    }
    for session, path in ((ONE, "data/a-b_c.json"), (SOCKET, "/index.html")):
        url = f"{site.url}/proxy?path={path}&sessionId={session}"
        async with site.client.get(url, headers=headers) as reply:
            assert reply.status == 200
            assert (await reply.json())["path"] == f"/{path.lstrip('/')}"
            assert "sandbox" in reply.headers["Content-Security-Policy"]
            assert not {"Set-Cookie", "Clear-Site-Data"} & set(reply.headers)
        await site.greeting(f"sessionId={session}", headers=headers)
        for request in site.apps[session].requests:
            assert not {name.lower() for name in headers} & {n.lower() for n in request.headers}
            assert request.headers["Host"] == f"127.0.0.1:{site.apache.port}"
            assert request.headers["X-Forwarded-Proto"] == "http"


async def test_a_sessions_error_page_is_no_less_sandboxed(site: Site) -> None:
    async with site.client.get(f"{site.url}/proxy?sessionId={ONE}&path=missing") as reply:
        assert reply.status == 404
        assert "sandbox" in reply.headers["Content-Security-Policy"]
        assert not {"Set-Cookie", "Clear-Site-Data"} & set(reply.headers)


@pytest.mark.parametrize("path", ["../admin", "a/../../b", "a%0d%0ab", "a b", "http://evil", "a?b"])
async def test_a_plain_path_stays_below_the_root(site: Site, path: str) -> None:
    url = f"{site.url}/proxy?sessionId={ONE}&path={path}"
    async with site.client.get(url) as reply:
        assert reply.status == 400
    assert not site.apps[ONE].requests


async def test_a_session_takes_no_posts(site: Site) -> None:
    async with site.client.post(f"{site.url}/proxy?sessionId={ONE}", data=b"x") as reply:
        assert reply.status == 405
    assert not site.apps[ONE].requests


async def test_the_next_handshake_sees_a_changed_map(site: Site) -> None:
    for _ in range(20):
        await site.publish(**{ONE: site.apps[TWO].port, TWO: site.apps[ONE].port})
        assert await site.greeting(f"sessionId={ONE}") == "two"
        await site.publish(**{ONE: site.apps[ONE].port})
        assert await site.greeting(f"sessionId={ONE}") == "one"
        assert await site.refusal(f"sessionId={TWO}") == 404


async def test_the_api_is_reached_in_every_form_that_clients_use(site: Site) -> None:
    headers = {"Cookie": "sso=mine", "X-Forwarded-User": "root", "Remote-User": "root"}
    for path in ("/paraview", "/paraview/", f"/paraview/{ONE}", f"/paraview//{ONE}"):
        for method in ("GET", "POST", "DELETE"):
            url = f"{site.url}{path}"
            async with site.client.request(method, url, headers=headers) as reply:
                assert reply.status == 200
            assert site.api.last.path.replace("//", "/") == path.replace("//", "/")
            assert site.api.last.headers["Cookie"] == "sso=mine"
            assert "X-Forwarded-User" not in site.api.last.headers
            assert "Remote-User" not in site.api.last.headers
    async with site.client.get(f"{site.url}/paraviewer") as reply:
        assert reply.status == 404
    async with site.client.get(f"{site.url}/") as reply:
        assert await reply.text() == "the page"


async def test_a_stopped_service_is_an_error_that_clients_can_show(directory: Path) -> None:
    apache = ApacheServer(directory, free_port())
    api_url = f"http://127.0.0.1:{free_port()}"
    settings = {"server_name": "h", "listen": f"127.0.0.1:{apache.port}", "api_url": api_url}
    text = virtual_host(**settings, endpoint="/paraview", socket_dir=directory)
    await asyncio.to_thread(apache.start, text)
    try:
        async with (
            aiohttp.ClientSession() as client,
            client.post(f"http://127.0.0.1:{apache.port}/paraview/") as reply,
        ):
            assert reply.status == 503
            assert "not running" in (await reply.json(content_type=None))["error"]
    finally:
        apache.stop()


@pytest.mark.parametrize("kind", ["map", "sockets", "both"])
def test_apache_accepts_the_configuration(directory: Path, kind: str) -> None:
    (directory / "map").touch()
    text = virtual_host(
        server_name="portal.example.org",
        listen="*:443",
        api_url="http://127.0.0.1:8080",
        endpoint="/paraview",
        map_file=directory / "map" if kind != "sockets" else None,
        socket_dir=directory if kind != "map" else None,
    )
    said = ApacheServer(directory, free_port()).check(text)
    assert said.returncode == 0
    assert "Syntax OK" in said.stderr


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("server_name", "a\nLoadModule evil"),
        ("server_name", "a b"),
        ("listen", "*:80>"),
        ("listen", "80"),
        ("api_url", 'http://h/" "x'),
        ("endpoint", "/para view"),
        ("endpoint", "/"),
        ("endpoint", "/a\n"),
        ("websocket_path", "../ws"),
        ("websocket_path", "ws$1"),
        ("map_file", Path("/a/${x}")),
        ("map_file", Path("/a/../b")),
        ("map_file", Path("relative")),
        ("socket_dir", Path("/run/a b")),
        ("socket_dir", Path("/run/a'||'")),
        ("document_root", Path('/var/"')),
        ("allowed_origins", ["https://.*"]),
        ("allowed_origins", ["https://ok.org", "ftp://x"]),
        ("timeout", 0),
    ],
)
def test_values_that_apache_would_read_as_something_else_are_refused(key: str, value: Any) -> None:
    good: dict[str, Any] = {
        "server_name": "h",
        "listen": "*:80",
        "api_url": "http://127.0.0.1:8080",
        "endpoint": "/paraview",
        "map_file": Path("/run/hpcbridge/map"),
    }
    virtual_host(**good)
    with pytest.raises(ConfigError, match=key):
        virtual_host(**{**good, key: value})


def test_without_map_and_sockets_there_is_nothing_to_print() -> None:
    with pytest.raises(ConfigError, match="neither is set"):
        virtual_host(server_name="h", listen="*:80", api_url="http://h", endpoint="/p")
