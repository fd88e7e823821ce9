"""Moving over with nothing changed: the old launcher.json behind the old documentation's Apache."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

import hpcbridge
from tests.frontends.apache_server import ApacheServer, free_port
from tests.serviceprocess import ServiceProcess
from tests.wslinkclient import WslinkClient

pytestmark = pytest.mark.servers

APPS = Path(hpcbridge.__file__).parent / "apps"
# As in ParaViewWeb's "Using Apache as a front end", but for names, ports and paths.
VIRTUAL_HOST = """
<VirtualHost *:{port}>
    ServerName localhost
    ProxyPass /paraview http://localhost:{launcher}/paraview
    RewriteEngine On
    RewriteMap session-to-port txt:{folder}/proxy.txt
    RewriteCond %{{QUERY_STRING}}     ^sessionId=(.*)&path=(.*)$ [NC]
    RewriteRule    ^/proxy.*$  ws://${{session-to-port:%1}}/%2  [P]
</VirtualHost>
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that Apache's workers may enter, with the map that both share."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def test_a_page_launches_and_shows_an_application(folder: Path) -> None:
    apache, launcher = ApacheServer(folder, free_port()), free_port()
    proxy_file = folder / "proxy.txt"
    proxy_file.touch()
    os.chown(proxy_file, -1, apache.group)  # the documentation's "chgrp mappingfileusers"
    config = {
        "configuration": {
            "host": "localhost",
            "port": launcher,
            "endpoint": "paraview",
            "proxy_file": str(proxy_file),
            "sessionURL": f"ws://localhost:{apache.port}/proxy?sessionId=${{id}}&path=ws",
            "timeout": 60,
            "log_dir": str(folder),
            "fields": [],
        },
        "resources": [{"host": "localhost", "port_range": [9001, 9003]}],
        "properties": {"python": sys.executable, "apps": str(APPS)},
        "apps": {
            "flow": {
                "cmd": ["${python}", "${apps}/flow.py", "--port", "${port}"],
                "ready_line": "Starting factory",
            }
        },
    }
    path = folder / "launcher.json"
    path.write_text(json.dumps(config))
    state = {"HPCBRIDGE_SERVER__STATE_DIR": str(folder / "state")}
    with ServiceProcess(folder, path, "--end-sessions", **state):
        try:
            text = VIRTUAL_HOST.format(port=apache.port, launcher=launcher, folder=folder)
            await asyncio.to_thread(apache.start, text)
            await _launch_and_look(f"http://localhost:{apache.port}")
        finally:
            apache.stop()


async def _launch_and_look(site: str) -> None:
    body = json.dumps({"application": "flow"})
    async with aiohttp.ClientSession() as client:
        for page, status in (("http://evil.example.org", 403), (site, 200)):
            headers = {"Origin": page, "Content-Type": "text/plain;charset=UTF-8"}
            async with client.post(f"{site}/paraview/", data=body, headers=headers) as reply:
                found = await reply.json()
                assert reply.status == status, found
    assert found["sessionURL"].startswith(site.replace("http", "ws", 1))
    async with WslinkClient.connect(found["sessionURL"], found["secret"]) as viewer:
        assert (await viewer.picture()).std() > 5
