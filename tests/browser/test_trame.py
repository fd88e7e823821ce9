"""trame applications as jobs, through their own pages: Chromium, trame's client, real pictures."""

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from hpcbridge.schedulers.local.processes import COOKIE
from tests.browser import driver
from tests.processes import marked
from tests.serviceprocess import ServiceProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]  # for slow machines
APPS = Path(__file__).parent / "apps"
PACKAGES = Path(next(path for path in sys.path if path.endswith("site-packages")))


@pytest.fixture
def paraview_site(tmp_path: Path) -> Path:
    """A folder with trame for pvpython, which brings VTK and NumPy itself."""
    asked = [sys.executable, "-c", "import sys; print(sys.version_info[:2])"]
    versions = {
        subprocess.run(each, capture_output=True, text=True, check=True).stdout.split("\n")[-2]
        for each in (asked, ["pvpython", *asked[1:]])
    }
    assert len(versions) == 1, f"pvpython is of another Python than the tests: {versions}"
    site = tmp_path / "site"
    site.mkdir()
    for entry in PACKAGES.iterdir():
        if not entry.name.startswith(("vtk", "numpy", "__")) and entry.suffix != ".pth":
            (site / entry.name).symlink_to(entry)
    return site


@pytest.fixture
def service(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ServiceProcess]:
    """One machine with the applications that these tests ask for."""
    base = {"cluster": "here", "wait": 100, "walltime": 600}
    applications: dict[str, Any] = {
        "surfaces": base | {
            "template": "trame.sh",
            "properties": {
                "module": "hpcbridge.apps.surfaces",
                "arguments": ["--resolution", 12],
            },
            "parameters": {"surface": {"type": "str", "default": "gyroid"}},
        },
    }  # fmt: skip
    if "paraview_site" in request.fixturenames:
        properties = {
            "script": str(APPS / "cone.py"),
            "trame": True,
            "pythonpath": str(request.getfixturevalue("paraview_site")),
        }
        applications["cone"] = base | {
            "template": "paraview.sh",
            "properties": properties,
            "parameters": {"sides": {"type": "int", "default": 6}},
        }
    config = {
        # The job's page is of another origin than the service: the port is the job's own.
        "server": {"port": 0, "state_dir": str(tmp_path / "state"), "cors_origins": ["*"]},
        "clusters": {"here": {"scheduler": "local", "slots": 2}},
        "applications": applications,
    }
    with ServiceProcess(tmp_path, config, "--end-sessions") as running:
        yield running


@pytest.fixture
def browser() -> Iterator[Browser]:
    with driver.chromium() as running:
        yield running


def launched(service: ServiceProcess, application: str, **parameters: Any) -> dict[str, str]:
    """The reply of a launch, and the job's ``port`` and ``directory``."""
    body = {"application": application, **parameters}
    reply = httpx.post(f"{service.url}/paraview", json=body, timeout=120)
    assert reply.status_code == 200, reply.text
    sessions = service.folder / "state/local/here/sessions"
    (directory,) = sessions.iterdir()
    told = dict(line.split("=") for line in (directory / "status").read_text().splitlines())
    answer: dict[str, str] = reply.json()
    return answer | {"port": told["port"], "directory": str(directory)}


def opened(browser: Browser, session: dict[str, str], **options: Any) -> Page:
    """The application's own page, from the job's port, which connects through the front end."""
    page = browser.new_page(viewport={"width": 1000, "height": 700}, **options)
    page.set_default_timeout(60_000)
    asked: list[str] = []
    page.on("websocket", lambda socket: asked.append(socket.url))
    page.on("request", lambda request: asked.append(request.url) if is_post(request) else None)
    query = urlencode({name: session[name] for name in ("sessionURL", "secret")})
    page.goto(f"http://127.0.0.1:{session['port']}/index.html?{query}")
    wait_for_picture(page)
    # It went where it was told to, in trame's spelling, and launched no session of its own.
    assert asked == [session["sessionURL"].lower()]
    return page


def is_post(request: Any) -> bool:
    return bool(request.method != "GET")


def picture(page: Page) -> driver.Pixels:
    """The rendering, as a screenshot."""
    # Not the element's own screenshot: that waits for its picture to be the same for a while.
    shot = page.screenshot(clip=page.locator("main canvas").bounding_box())
    return driver.Pixels(np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")))


def wait_for_picture(page: Page) -> None:
    """Until the application's first picture is drawn."""
    page.wait_for_function("document.querySelector('main img')?.naturalWidth > 100")


def wait_for_change(page: Page, before: driver.Pixels, share: float = 0.02) -> driver.Pixels:
    """Until so much of the picture is another, at most a minute."""
    for _ in range(300):
        now = picture(page)
        if now.difference(before) > share:
            return now
        page.wait_for_timeout(200)
    raise AssertionError("the picture did not change")


def settled(page: Page) -> driver.Pixels:
    """The picture once two looks in a row are the same."""
    last = picture(page)
    for _ in range(300):
        page.wait_for_timeout(300)
        now = picture(page)
        if now.difference(last) == 0 and now.colours > 20:
            return now
        last = now
    raise AssertionError("the picture did not come to rest")


def test_a_trame_application_draws_and_its_controls_change_the_picture(
    service: ServiceProcess, browser: Browser
) -> None:
    session = launched(service, "surfaces", surface="diamond")
    page = opened(browser, session, color_scheme="dark")
    first = settled(page)
    assert first.colours > 200
    assert "Diamond" in page.inner_text("nav")
    page.get_by_role("button", name="Wires").click()
    wires = wait_for_change(page, first)
    page.get_by_label("Slice", exact=True).click()
    sliced = wait_for_change(page, wires)
    page.get_by_role("button", name="Look along z").click()
    wait_for_change(page, sliced)
    dark = settled(page)
    page.get_by_role("button", name="Light or dark").click()
    wait_for_change(page, dark, 0.3)
    light = settled(page)
    assert light.rgb[20, -20].mean() > 180 > 80 > dark.rgb[20, -20].mean()


def test_a_mouse_turns_the_camera_and_a_reset_turns_it_back(
    service: ServiceProcess, browser: Browser
) -> None:
    page = opened(browser, launched(service, "surfaces"), color_scheme="light")
    page.wait_for_function("document.querySelector('.v-theme--light')")
    first = settled(page)
    assert first.rgb[20, -20].mean() > 180, "it follows what the visitor's system prefers"
    page.mouse.move(700, 400)
    page.mouse.down()
    page.mouse.move(840, 340, steps=8)
    page.mouse.up()
    wait_for_change(page, first)
    settled(page)
    page.get_by_role("button", name="Reset the camera").click()
    page.mouse.move(5, 5)
    page.wait_for_timeout(300)
    assert settled(page).difference(first) < 0.02


def test_the_secret_is_nowhere_to_be_read(service: ServiceProcess, browser: Browser) -> None:
    session = launched(service, "surfaces")
    secret = session["secret"].encode()
    processes = marked(f"{COOKIE}=")
    assert processes
    for pid in processes:
        for part in ("cmdline", "environ"):
            assert secret not in Path(f"/proc/{pid}/{part}").read_bytes()
    directory = Path(session["directory"])
    assert not (directory / "secret").exists()
    assert not any(secret in path.read_bytes() for path in directory.iterdir() if path.is_file())
    wrong = session | {"secret": "wslink-secret"}
    page = browser.new_page()
    query = urlencode({name: wrong[name] for name in ("sessionURL", "secret")})
    page.goto(f"http://127.0.0.1:{session['port']}/index.html?{query}")
    page.wait_for_timeout(3000)
    assert page.locator("nav").count() == 0


def test_a_trame_application_on_paraview_draws_without_a_display(
    paraview_site: Path, service: ServiceProcess, browser: Browser
) -> None:
    session = launched(service, "cone", sides=3)
    page = opened(browser, session)
    first = settled(page)
    page.get_by_role("slider", name="Sides").focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    wait_for_change(page, first, 0.005)
