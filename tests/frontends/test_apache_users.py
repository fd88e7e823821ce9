"""Apache names the users: what it says to the service, what it never passes on, what clients claim.

The login is Basic here, by mod_auth_basic; the service behind it records what it is sent.
"""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hpcbridge.errors import ConfigError
from hpcbridge.frontends.apache import virtual_host

from . import apache_server
from .apache_server import ApacheServer, free_port
from .session_app import SessionApp, session_app

ID = "A" * 40
SECRET = "0123456789abcdef" * 4
LOGIN = """
    <LocationMatch "^/(paraview|proxy)">
        AuthType Basic
        AuthName site
        AuthBasicProvider file
        AuthUserFile "{users}"
        Require valid-user
        Require expr "%{{HTTP:Authorization}} =~ /^Bearer hpcb_[0-9a-f_]{{77}}$/"
    </LocationMatch>
</VirtualHost>
"""
CLAIMS = {
    "X-Remote-User": "mallory",
    "x-hpcbridge-secret": "mallory's",
    "X-Forwarded-For": "203.0.113.1",
}


@dataclass
class World:
    """Apache in front of the service, by a unix socket, and of one session."""

    url: str
    client: aiohttp.ClientSession
    api: SessionApp
    session: SessionApp

    async def get(self, path: str, **headers: str) -> int:
        async with self.client.get(self.url + path, headers=headers) as reply:
            return reply.status


@pytest.fixture
async def world(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    modules = [*apache_server.MODULES, "auth_basic", "authn_file", "authz_user"]
    monkeypatch.setattr(apache_server, "MODULES", modules)
    apache = ApacheServer(directory, free_port())
    digest = base64.b64encode(hashlib.sha1(b"secret").digest()).decode()
    users, conf = directory / "users", directory / "secret.conf"
    users.write_text(f"alice:{{SHA}}{digest}\n")
    users.chmod(0o644)
    conf.touch(mode=0o600)
    conf.write_text(f'RequestHeader set X-Hpcbridge-Secret "{SECRET}"\n')
    (directory / "s").mkdir()
    (directory / "s").chmod(0o755)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        api = await enter(session_app("api", directory / "api.sock"))
        session = await enter(session_app("one", directory / "s" / f"{ID}.sock"))
        for socket in (directory / "api.sock", directory / "s" / f"{ID}.sock"):
            socket.chmod(0o666)
        printed = virtual_host(
            server_name="portal.example.org",
            listen=f"127.0.0.1:{apache.port}",
            api_url=f"unix:{directory}/api.sock|http://hpcbridge",
            endpoint="/paraview",
            socket_dir=directory / "s",
            portal=True,
            user_header="X-Remote-User",
            secret_header="X-Hpcbridge-Secret",
            secret_conf=conf,
        )
        assert SECRET not in printed
        stack.callback(apache.stop)
        login = LOGIN.format(users=users)
        await asyncio.to_thread(apache.start, printed.replace("</VirtualHost>\n", login))
        client = await enter(aiohttp.ClientSession())
        yield World(f"http://127.0.0.1:{apache.port}", client, api, session)


def basic(user: str, password: str = "secret") -> dict[str, str]:
    word = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {word}"}


def heard(app: SessionApp) -> dict[str, Any]:
    """The last request's headers that could name somebody."""
    names = ("X-Remote-User", "X-Hpcbridge-Secret", "X-Forwarded-For")
    return {name: app.last.headers.getall(name, []) for name in names}


async def test_the_service_hears_who_logged_in_whatever_the_client_claims(world: World) -> None:
    for claims in ({}, CLAIMS):
        assert await world.get("/paraview", **basic("alice"), **claims) == 200
        assert heard(world.api) == {
            "X-Remote-User": ["alice"],
            "X-Hpcbridge-Secret": [SECRET],
            "X-Forwarded-For": ["127.0.0.1"],
        }


async def test_without_a_login_nothing_reaches_the_service_or_a_session(world: World) -> None:
    for headers in ({}, CLAIMS, basic("alice", "wrong"), basic("mallory")):
        for path in ("/paraview", f"/paraview/{ID}", f"/proxy?sessionId={ID}&path=a"):
            assert await world.get(path, **headers) == 401
    assert world.api.requests == []
    assert world.session.requests == []


async def test_a_token_comes_through_and_names_nobody_at_apache(world: World) -> None:
    token = {"Authorization": f"Bearer hpcb_{'0' * 12}_{'0' * 64}"}
    assert await world.get("/paraview", **token, **CLAIMS) == 200
    assert heard(world.api)["X-Remote-User"] in ([], [""])
    assert world.api.last.headers["Authorization"] == token["Authorization"]
    assert await world.get("/paraview", Authorization="Bearer eyJhbGciOi") == 401


async def test_a_session_hears_neither_the_user_nor_the_secret(world: World) -> None:
    path = f"/proxy?sessionId={ID}&path=a"
    assert await world.get(path, **basic("alice"), **CLAIMS) == 200
    assert world.api.requests == []
    said = heard(world.session)
    assert (said["X-Remote-User"], said["X-Hpcbridge-Secret"]) == ([], [])
    assert "Authorization" not in world.session.last.headers


async def test_the_page_is_served_from_the_unix_socket_too(world: World) -> None:
    for path in ("/", "/portal/portal.js"):
        assert await world.get(path) == 200
        assert world.api.last.path == path
    assert heard(world.api)["X-Hpcbridge-Secret"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"user_header": "X User"},
        {"user_header": 'X"\nInclude /etc/passwd'},
        {"secret_header": "X-Secret: a"},
        {"secret_conf": Path('/etc/"x')},
        {"api_url": "unix:/run/a b|http://hpcbridge"},
        {"api_url": "unix:/run/api.sock|http://localhost"},
        {"api_url": "unix:/run/api.sock|http://evil.example.org"},
        {"api_url": "unix:relative|http://hpcbridge"},
    ],
)
def test_values_that_would_mean_something_else_are_refused(wrong: dict[str, Any]) -> None:
    given: dict[str, Any] = {
        "server_name": "portal.example.org",
        "listen": "*:80",
        "api_url": "http://127.0.0.1:8080",
        "endpoint": "/paraview",
        "map_file": Path("/run/map"),
        "user_header": "X-Remote-User",
        "secret_header": "X-Hpcbridge-Secret",
        "secret_conf": Path("/etc/apache2/secret.conf"),
    }
    virtual_host(**given)
    with pytest.raises(ConfigError):
        virtual_host(**(given | wrong))
