"""Nobody loses a session: other tabs, a way back, a service that restarts, complaints."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser import driver
from tests.browser.onemachine import one_machine
from tests.frontends.apache_server import free_port
from tests.programs import PYTHON
from tests.serviceprocess import ServiceProcess
from tests.waiting import wait_until

pytestmark = pytest.mark.browser


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    with one_machine(tmp_path, port=free_port()) as running:  # the same after a restart
        yield running


@pytest.fixture
def browser() -> Iterator[BrowserContext]:
    with driver.chromium() as browser:
        yield browser.new_context(viewport={"width": 1100, "height": 800})


def launched(page: Page) -> list[str]:
    """The ids of the sessions that the page's browser remembers."""
    found = page.evaluate("JSON.parse(localStorage.getItem('hpcbridge.sessions') ?? '[]')")
    return [each["id"] for each in found]


def test_a_session_is_left_and_found_again_in_another_tab(
    service: ServiceProcess, browser: BrowserContext
) -> None:
    page = browser.new_page()
    driver.launch_from_page(page, service.url, "flow", streamlines=30)
    page.click("#leave")
    driver.wait_for_stage(page, "idle")
    page.close()

    other = browser.new_page()
    driver.open_portal(other, service.url)
    item = other.locator("#running-list li")
    expect(item).to_have_count(1)
    expect(item).to_contain_text("ABC flow")
    expect(item).to_contain_text("Running")
    item.get_by_role("button", name="Open").click()
    driver.wait_for_stage(other, "live")
    assert driver.rendering_pixels(other).colours > 100
    assert len(launched(other)) == 1
    driver.stop(other)
    expect(other.locator("#running")).to_be_hidden()
    assert other.evaluate("document.activeElement.id") == "catalogue-title"


def test_a_session_is_stopped_from_the_list(
    service: ServiceProcess, browser: BrowserContext
) -> None:
    page = browser.new_page()
    driver.launch_from_page(page, service.url, "flow", streamlines=30)
    (session,) = launched(page)
    page.click("#leave")
    page.locator("#running-list").get_by_role("button", name="Stop").click()
    expect(page.locator("#running")).to_be_hidden()
    reason = "async (id) => (await (await fetch(`/paraview/${id}`)).json()).reason"
    wait_until(lambda: page.evaluate(reason, session), "its end")
    assert page.evaluate(reason, session) == "stopped"
    assert launched(page) == []


def test_the_view_comes_back_after_a_service_that_was_away_for_long(
    service: ServiceProcess, browser: BrowserContext
) -> None:
    page = browser.new_page()
    driver.launch_from_page(page, service.url, "flow", streamlines=30)
    service.stop()
    driver.wait_for_stage(page, "lost")
    page.wait_for_timeout(12_000)  # longer than any count of attempts lasted
    expect(page.locator("#stop")).to_be_visible()
    service.start()
    driver.wait_for_stage(page, "live", timeout=90)
    assert driver.rendering_pixels(page).colours > 100
    driver.stop(page)


def test_what_an_application_complains_of_is_told_beside_its_view(
    service: ServiceProcess, browser: BrowserContext, tmp_path: Path
) -> None:
    page = browser.new_page()
    driver.launch_from_page(page, service.url, "flow", streamlines=30)
    expect(page.locator("#trouble")).to_be_hidden()
    (log,) = (tmp_path / "state/local/workstation/sessions").glob("*/output.log")
    with log.open("a") as file:
        file.write("reading\n( 0.1s) [] vtkXMLReader.cxx:375 ERR| <b>not well-formed</b>\nafter\n")
    expect(page.locator("#trouble")).to_be_visible(timeout=30_000)
    page.click("#trouble summary")
    expect(page.locator("#trouble-log")).to_contain_text("ERR| <b>not well-formed</b>")
    expect(page.locator("#trouble-log")).not_to_contain_text("reading")
    page.screenshot(path=str(tmp_path / "trouble.png"))
    driver.stop(page)
    expect(page.locator("#trouble")).to_be_hidden()


SILENT = f"""#!{PYTHON} -SE
import sys
sys.path[:0] = {[path for path in sys.path if path.endswith("site-packages")]!r}
from aiohttp import web

async def ignore(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for _ in socket:
        pass
    return socket

app = web.Application()
app.router.add_get("/ws", ignore)
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
print("Starting factory", flush=True)
web.run_app(app, host="127.0.0.1", port=int(words["--port"]), print=None)
"""


def test_an_application_of_another_protocol_is_told_and_its_session_is_kept(
    tmp_path: Path, browser: BrowserContext
) -> None:
    """As wslink 1 is to a client of wslink 2: the connection opens, and nothing is answered."""
    program = tmp_path / "silent"
    program.write_text(SILENT)
    program.chmod(0o755)
    config = {
        "server": {"port": 0, "state_dir": str(tmp_path / "state")},
        "clusters": {"here": {"scheduler": "local"}},
        "applications": {
            "silent": {
                "cluster": "here",
                "template": "command.sh",
                "properties": {"program": str(program)},
            }
        },
    }
    with ServiceProcess(tmp_path, config, "--end-sessions") as service:
        page = browser.new_page()
        driver.press_launch(page, service.url, "silent")
        expect(page.locator("#message")).to_contain_text("wslink 1", timeout=30_000)
        driver.wait_for_stage(page, "broken", timeout=60)
        expect(page.locator("#failure-text")).to_contain_text("The session goes on.")
        expect(page.locator("#again")).to_have_text("Connect again")
        page.click("#stop")
        driver.wait_for_stage(page, "idle")
        assert launched(page) == []
