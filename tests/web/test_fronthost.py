"""Behind Apache: under which name the browser came, and what clients are told because of it."""

from typing import Any

import httpx
import pytest

from hpcbridge.web.fronthost import with_host
from tests.replies import refusal
from tests.site import Launch, Site

HERE = "localhost:9000"
NAME = "viz.example.org"
APACHE = {"kind": "apache", "map_file": "sessions.map", "server_name": NAME}


@pytest.fixture(autouse=True)
def _names(site: Site) -> None:
    site.config["server"]["host_names"] += [NAME, "other.example.org"]


@pytest.mark.parametrize(
    ("host", "forwarded", "server_name", "expected"),
    [
        (HERE, [NAME], NAME, NAME),
        (HERE, [f"{NAME}:8443"], NAME, f"{NAME}:8443"),
        (HERE, [f"evil.example, {NAME}"], NAME, NAME),  # the first is what a client sent
        (HERE, ["evil.example", NAME], NAME, NAME),
        (HERE, ["alias.example.org"], NAME, "alias.example.org"),
        (HERE, ["no host"], NAME, HERE),
        (HERE, ["a/b"], NAME, HERE),
        (HERE, [], NAME, NAME),
        ("127.0.0.1:9000", [], NAME, NAME),
        ("[::1]:9000", [], NAME, NAME),
        (HERE, [], "localhost", HERE),
        ("other.example.org", [], NAME, "other.example.org"),
    ],
)
def test_the_host_is_the_one_that_apache_was_asked_for(
    host: str, forwarded: list[str], server_name: str, expected: str
) -> None:
    told = [(b"x-forwarded-host", each.encode()) for each in forwarded]
    headers = [(b"host", host.encode()), (b"accept", b"*/*"), *told]
    found = with_host(headers, server_name)
    assert [value for name, value in found if name == b"host"] == [expected.encode()]
    assert (b"accept", b"*/*") in found


@pytest.mark.parametrize(
    ("frontend", "forwarded", "expected"),
    [
        (APACHE, NAME, f"ws://{NAME}/proxy?sessionId=ID"),
        (APACHE, None, f"ws://{NAME}/proxy?sessionId=ID"),
        ({}, NAME, f"ws://{HERE}/proxy?sessionId=ID&path=ws"),
        ({"websocket_paths": ["api/ws"]}, None, f"ws://{HERE}/proxy?sessionId=ID&path=api/ws"),
    ],
)
async def test_the_session_url_suits_the_front_end(
    launcher: Launch, tmp_path: Any, frontend: dict[str, Any], forwarded: str | None, expected: str
) -> None:
    if "map_file" in frontend:
        frontend = frontend | {"map_file": str(tmp_path / "map/sessions")}
        (tmp_path / "map").mkdir()
    headers = {"Host": HERE} | ({"X-Forwarded-Host": forwarded} if forwarded else {})
    async with launcher(frontend=frontend) as api:
        body = (await api.post({"application": "cone"}, headers=headers)).json()
        assert body["sessionURL"] == expected.replace("ID", body["id"])


async def test_the_front_ends_name_is_filled_into_a_session_url(launcher: Launch) -> None:
    server = {"session_url": "wss://${server_name}/p?sessionId=${id}"}
    async with launcher(server=server, frontend={"server_name": NAME}) as api:
        body = (await api.post({"application": "cone"})).json()
        assert body["sessionURL"] == f"wss://{NAME}/p?sessionId={body['id']}"


@pytest.mark.parametrize("origin", [f"http://{NAME}", "http://evil.example"])
async def test_pages_behind_an_apache_that_keeps_the_host_to_itself_may_launch(
    launcher: Launch, tmp_path: Any, origin: str
) -> None:
    (tmp_path / "map").mkdir()
    frontend = APACHE | {"map_file": str(tmp_path / "map/sessions")}
    headers = {"Host": HERE, "X-Forwarded-Host": NAME, "Origin": origin}
    async with launcher(frontend=frontend) as api:
        refusal(
            await api.post({"application": "nosuch"}, headers=headers),
            403 if "evil" in origin else 400,
        )


async def test_nobody_else_is_believed(launcher: Launch, tmp_path: Any) -> None:
    (tmp_path / "map").mkdir()
    frontend = APACHE | {"map_file": str(tmp_path / "map/sessions")}
    async with launcher(frontend=frontend, server={"trusted_proxies": ["192.0.2.1"]}) as api:
        transport = api.client._transport
        assert isinstance(transport, httpx.ASGITransport)
        headers = {"Host": "other.example.org", "X-Forwarded-Host": "evil.example"}
        body = (await api.post({"application": "cone"}, headers=headers)).json()
        assert body["sessionURL"].startswith("ws://other.example.org/")
