"""Apache before the whole service: what it passes on, the tunnel's local end holds back."""

import grp
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from tests.waiting import until

from .apache_server import ApacheServer, free_port

pytestmark = pytest.mark.servers

# Says over its WebSocket what it was sent; answers with all that a session must not.
PROGRAM = """
import json, sys
from aiohttp import web
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))

async def answer(request):
    ws = web.WebSocketResponse()
    ws.headers["Set-Cookie"] = "sso=stolen; Path=/"
    ws.headers["Clear-Site-Data"] = '"cookies"'
    ws.headers["Strict-Transport-Security"] = "max-age=9"
    await ws.prepare(request)
    await ws.send_str(json.dumps({key.lower(): value for key, value in request.headers.items()}))
    async for message in ws:
        await ws.send_bytes(message.data)
    return ws

async def ready(app):
    print("wslink: Starting factory", flush=True)

app = web.Application()
app.router.add_get("/ws", answer)
app.on_startup.append(ready)
web.run_app(app, host=options["--host"], port=int(options["--port"]), print=None)
"""


@pytest.fixture(params=["map", "unix"])
async def service(
    request: pytest.FixtureRequest, site: Any, serve: Callable[..., Any], directory: Path
) -> AsyncIterator[Any]:
    apache = ApacheServer(directory, free_port())
    group = grp.getgrgid(apache.group).gr_name
    ends = {"map_file": str(directory / "map")}
    if request.param == "unix":
        ends = {"local_end": "unix", "socket_dir": str(directory / "s")}
    program = site.program("echo", f"#!{sys.executable}\n{PROGRAM}")
    path = site.write(
        frontend={"kind": "apache", "group": group} | ends,
        applications={"cone": {"properties": {"program": program}}},
    )
    running = serve("--end-sessions")
    command = [sys.executable, "-m", "hpcbridge", "frontend", "apache", str(path)]
    options = [f"--listen=127.0.0.1:{apache.port}"]
    printed = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    apache.start(printed.stdout.replace("http://127.0.0.1:0", running.url))  # the port is found now
    running.front = f"127.0.0.1:{apache.port}"
    yield running
    apache.stop()
    assert running.stop() == 0


async def test_a_websocket_crosses_apache_and_nothing_of_its_client_with_it(service: Any) -> None:
    session_id = service.post({"application": "cone"}).json()["id"]
    address = f"http://{service.front}/proxy?sessionId={session_id}&path=ws"
    private = {
        "Cookie": "sso=alice",
        "OIDC_access_token": "t",
        "OIDC_CLAIM_email": "e",
        "X-Forwarded-Access-Token": "t",
        "Authorization": "Bearer hpcb_000",
    }
    data = bytes(range(256)) * 4096
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(address, headers=private, max_msg_size=0) as ws,
    ):
        seen = json.loads(await ws.receive_str())
        told = {key for key in seen if not key.startswith("sec-websocket-")}
        assert told <= {"host", "connection", "upgrade", "accept", "accept-encoding",
                        "user-agent", "x-forwarded-for", "x-forwarded-host",
                        "x-forwarded-proto"}  # fmt: skip
        answered = {key.lower() for key in ws._response.headers}
        assert not answered & {"set-cookie", "clear-site-data", "strict-transport-security"}
        await ws.send_bytes(data)
        assert await ws.receive_bytes() == data
    await until(lambda: service.state(session_id) == "ready")


async def test_a_page_whose_name_was_made_to_lead_here_gets_nothing(service: Any) -> None:
    """DNS rebinding, without users: its browser says the same in Host and Origin."""
    reply = service.post({"application": "cone"}).json()
    visit = f"/proxy?sessionId={reply['id']}&path=ws"
    page = {"Host": "evil.example", "Origin": "http://evil.example"}
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    async with httpx.AsyncClient(base_url=f"http://{service.front}", timeout=60) as client:
        for headers in (page, {"Host": "evil.example"}, {"Host": "localhost.evil.example:80"}):
            for path in ("/", "/paraview/applications", f"/paraview/{reply['id']}", visit):
                told = await client.get(path, headers=headers)
                assert told.status_code == 421, (path, headers, told.text)
            assert (await client.get(visit, headers=headers | upgrade)).status_code == 421
            launch = await client.post("/paraview", json={"application": "cone"}, headers=headers)
            assert launch.status_code == 421
            assert "secret" not in launch.text
        for host in (service.front, "localhost", "LOCALHOST:81", "[::1]:80"):
            headers = {"Host": host, "Origin": f"http://{host.lower()}"}
            told = await client.get("/paraview/applications", headers=headers)
            assert told.status_code == 200
            plain = await client.get(visit, headers={"Host": host})
            assert plain.status_code == 400  # the program wants a WebSocket there
