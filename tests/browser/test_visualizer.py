"""ParaView's own Visualizer page, unmodified, with a real pvpython, through each front end."""

import grp
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Response

from hpcbridge.schedulers.local.processes import COOKIE
from scripts import demo, software
from tests.browser import driver, visualizerpage
from tests.frontends.apache_server import ApacheServer, free_port
from tests.processes import marked
from tests.serviceprocess import ServiceProcess
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]  # for slow machines
ROOT = Path(__file__).resolve().parents[2]
PARAVIEW = ROOT / ".demo/paraview"
NAME = "viz.localhost"  # Chromium finds it on this machine
# As in ParaViewWeb's "Using Apache as a front end", but for names, ports and paths.
OLD_VIRTUAL_HOST = """
<VirtualHost *:{port}>
    ServerName {name}
    DocumentRoot {folder}/www
    <Directory {folder}/www>
        Options Indexes FollowSymLinks
        AllowOverride None
        Require all granted
    </Directory>
    ProxyPass /paraview http://localhost:{launcher}/paraview
    RewriteEngine On
    RewriteMap session-to-port txt:{folder}/proxy.txt
    RewriteCond %{{QUERY_STRING}} ^sessionId=(.*)$
    RewriteRule ^/proxy.*$ ws://${{session-to-port:%1}}/ws [P]
</VirtualHost>
"""


@dataclass
class Site:
    """A service, and the address of the Visualizer's page that it, or Apache, serves."""

    service: ServiceProcess
    page: str


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that Apache's workers may enter."""
    with tempfile.TemporaryDirectory(prefix="hpcb-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def config(folder: Path) -> dict[str, Any]:
    """One machine with the Visualizer and its page."""
    properties = software.visualizer(PARAVIEW)
    assert properties is not None, "pvpython, Xvfb or npm are not installed"
    visualizer: dict[str, Any] = {
        "cluster": "here",
        "template": "paraview.sh",
        "wait": 100,
        "walltime": 600,
        # A closed tab's goodbye may get lost with it: then this many seconds end the job.
        "properties": properties | {"timeout": 20},
    }
    return {
        "server": {
            "port": free_port(),
            "state_dir": str(folder / "state"),
            "content": {"/visualizer": str(PARAVIEW / software.PAGE)},
        },
        "clusters": {"here": {"scheduler": "local", "slots": 2}},
        "applications": {
            "visualizer": visualizer | {"viewer": "content", "page": "/visualizer/"},
        },
    }


@pytest.fixture
def built_in(config: dict[str, Any], folder: Path) -> Iterator[Site]:
    with ServiceProcess(folder, config, "--end-sessions") as service:
        yield Site(service, f"{service.url}/visualizer/")


@pytest.fixture
def behind_apache(config: dict[str, Any], folder: Path) -> Iterator[tuple[Site, ApacheServer]]:
    """A service behind an Apache, which the caller starts."""
    apache = ApacheServer(folder, free_port())
    config["frontend"] = {
        "kind": "apache",
        "server_name": NAME,
        "group": grp.getgrgid(apache.group).gr_name,
        "map_file": str(folder / "proxy.txt"),
    }
    with ServiceProcess(folder, config, "--end-sessions") as service:
        yield Site(service, f"http://{NAME}:{apache.port}/"), apache
        apache.stop()


@pytest.fixture
def printed(behind_apache: tuple[Site, ApacheServer]) -> Site:
    """Behind the virtual host that hpcbridge prints."""
    site, apache = behind_apache
    command = [sys.executable, "-m", "hpcbridge", "frontend", "apache", str(site.service.config)]
    command.append(f"--listen=127.0.0.1:{apache.port}")
    apache.start(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    site.page += "visualizer/"
    return site


@pytest.fixture
def old_one(behind_apache: tuple[Site, ApacheServer], folder: Path) -> Site:
    """Behind the virtual host of ParaViewWeb's documentation, which serves the page itself."""
    site, apache = behind_apache
    shutil.copytree(PARAVIEW / software.PAGE, folder / "www")
    launcher = site.service.url.rpartition(":")[2]
    values = {"port": apache.port, "name": NAME, "folder": folder, "launcher": launcher}
    apache.start(OLD_VIRTUAL_HOST.format(**values))
    return site


@pytest.fixture
def browser() -> Iterator[Browser]:
    with driver.chromium() as running:
        yield running


def opened(browser: Browser, address: str, launches: list[str]) -> Page:
    """The page at ``address``; ids of the sessions that it launches are added to ``launches``."""

    def heard(response: Response) -> None:
        if response.request.method == "POST":
            reply = response.json()
            launches.append(reply.get("id") or f"refused: {reply}")

    context = browser.new_context(viewport={"width": 1000, "height": 700})
    context.new_page()  # a browser ends with its last tab
    page = context.new_page()
    page.set_default_timeout(100_000)
    page.on("response", heard)
    page.goto(address)
    return page


def jobs_processes() -> list[int]:
    """Processes that any local job started."""
    return marked(f"{COOKIE}=")


@pytest.mark.parametrize("front_end", ["built_in", "printed", "old_one"])
def test_a_page_adds_opens_turns_reloads_and_ends_its_job_when_it_is_closed(
    front_end: str, request: pytest.FixtureRequest, browser: Browser
) -> None:
    site: Site = request.getfixturevalue(front_end)
    launches: list[str] = []
    page = opened(browser, site.page, launches)
    empty = visualizerpage.wait_for_view(page)
    visualizerpage.add_cone(page)
    cone = visualizerpage.wait_for_change(page, empty, "a cone in the view")
    assert not visualizerpage.shows_the_surface(cone)
    surface = visualizerpage.open_surface(page)
    visualizerpage.turn(page)
    visualizerpage.wait_for_change(page, surface, "a turned surface")
    page.reload()
    visualizerpage.wait_for_view(page)
    visualizerpage.open_surface(page)
    first, second = launches
    wait_until(lambda: site.service.state(first) == "ended")
    assert "schedule exit for 10 seconds" in site.service.http.get(f"/paraview/{first}/log").text
    assert site.service.state(second) == "ready"
    page.close(run_before_unload=True)
    wait_until(lambda: site.service.state(second) == "ended")
    for each in launches:
        assert site.service.http.get(f"/paraview/{each}").json()["reason"] == "finished"
    wait_until(lambda: not jobs_processes())


def test_the_demonstrations_button_opens_the_page_with_the_chosen_file(
    folder: Path, browser: Browser
) -> None:
    places = demo.with_paraview()
    assert places, "pvpython, Xvfb or npm are not installed"
    example = ROOT / "examples/paraview/hpcbridge.toml"
    here = {
        "HPCBRIDGE_SERVER__STATE_DIR": str(folder / "state"),
        "HPCBRIDGE_SERVER__PORT": "0",
    }
    with ServiceProcess(folder, example, "--end-sessions", **places, **here) as service:
        portal = browser.new_page()
        with portal.expect_popup() as opening:
            driver.press_launch(portal, service.url, "visualizer", **{"load-file": "gyroid.vtp"})
        page = opening.value
        page.set_viewport_size({"width": 1000, "height": 700})
        visualizerpage.wait_for_view(page)
        surface = visualizerpage.shows_the_surface
        visualizerpage.wait_for(page, surface, "the surface in the view")
        assert driver.stage(portal) == "idle"  # which launched nothing itself
        assert len(list((folder / "state/local/workstation/sessions").iterdir())) == 1
