"""ParaView's own Visualizer as a job on a node, seen through each front end."""

import grp
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcbridge.cli.main import app as command_line
from tests.frontends.apache_server import ApacheServer, free_port
from tests.serviceprocess import Start
from tests.wslinkclient import Wslink1Client, colours


@pytest.fixture
def paraview(configuration: dict[str, Any], visualizer: dict[str, str]) -> dict[str, Any]:
    """A configuration with the Visualizer."""
    configuration["applications"] = {
        "visualizer": {
            "cluster": "lab",
            "template": "xvfb.sh",
            "walltime": 600,
            "wait": 90,
            "properties": visualizer,
        }
    }
    return configuration


async def cone(url: str, secret: str) -> int:
    """How many colours the picture of a cone has that ParaView was asked for."""
    async with Wslink1Client.connect(url, secret) as view:
        await view.call("pv.proxy.manager.create", "Cone", "0")
        return colours(await view.picture())


async def test_the_visualizer_renders_through_the_built_in_front_end(
    start: Start, paraview: dict[str, Any]
) -> None:
    async with start(paraview).client() as client:
        reply = await client.post("/paraview", json={"application": "visualizer"})
        assert reply.status_code == 200, reply.text
    session = reply.json()
    assert await cone(session["sessionURL"], session["secret"]) > 20
    with pytest.raises(PermissionError):
        await cone(session["sessionURL"], "wslink-secret")


@pytest.fixture
def apache() -> Iterator[ApacheServer]:
    """A real Apache, not yet started, in a folder that its workers' account can enter."""
    folder = Path(tempfile.mkdtemp(prefix="hpcb-"))
    folder.chmod(0o711)
    server = ApacheServer(folder, free_port())
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.mark.parametrize("local_end", ["tcp", "unix"])
async def test_the_visualizer_renders_through_apache(
    start: Start,
    paraview: dict[str, Any],
    apache: ApacheServer,
    local_end: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By the text map, and by unix sockets that only Apache's group can reach."""
    group = grp.getgrgid(apache.group).gr_name
    shared = apache.directory / "shared"
    shared.mkdir()
    os.chown(shared, -1, apache.group)
    shared.chmod(0o2750)
    port = free_port()
    paraview["server"]["port"] = port
    frontend = {"kind": "apache", "local_end": local_end, "group": group}
    if local_end == "tcp":
        frontend["map_file"] = str(shared / "sessions.map")
    else:
        frontend["socket_dir"] = str(shared / "s")
    paraview["frontend"] = frontend
    service = start(paraview)
    _print_virtual_host(service.config, apache.port)
    apache.start(capsys.readouterr().out)
    through = f"http://127.0.0.1:{apache.port}"
    async with service.client() as client:
        reply = await client.post(f"{through}/paraview/", json={"application": "visualizer"})
        assert reply.status_code == 200, reply.text
        session = reply.json()
        assert session["sessionURL"].startswith(f"ws://127.0.0.1:{apache.port}/proxy?")
        assert await cone(session["sessionURL"], session["secret"]) > 20
        page = await client.get(f"{through}/")
        assert "ParaView" in page.text or "visualizer" in page.text
        assert (await client.get(f"{through}/portal/portal.js")).status_code == 200
        stopped = await client.delete(f"{through}/paraview//{session['id']}")
        assert stopped.status_code == 200


def _print_virtual_host(config: Path, port: int) -> None:
    arguments = ["frontend", "apache", str(config), "--listen", f"127.0.0.1:{port}"]
    command_line(arguments, standalone_mode=False)


async def test_paraview_without_a_display_is_told_as_a_crash(
    start: Start, paraview: dict[str, Any], tmp_path: Path
) -> None:
    """It segfaults; the client hears of it at once and not after the wait."""
    template = (Path(__file__).parent / "no_display.sh").read_text()
    (tmp_path / "no_display.sh").write_text(template)
    paraview["applications"]["visualizer"]["template"] = "no_display.sh"
    async with start(paraview).client(timeout=60) as client:
        reply = await client.post("/paraview", json={"application": "visualizer"})
    assert reply.status_code == 502
    assert "ended before it was ready" in reply.json()["error"]
