"""Applications' own pages in a real Chromium, at their sessions' own addresses."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser import driver

pytestmark = pytest.mark.browser

HERE = Path(__file__).parent


@pytest.fixture
def page() -> Iterator[Page]:
    with driver.chromium() as browser:
        yield browser.new_page()


def trame(site: Any) -> dict[str, Any]:
    """The configuration of trame's application."""
    return {
        "cluster": "here",
        "template": "python.sh",
        "wait": 60,
        "ready_line": "App running at",
        "viewer": "page",
        "properties": {"script": str(HERE / "trame_cone.py")},
        "inject": {"launched": True},
    }


def test_trames_own_page_draws_and_its_controls_work(
    site: Any, serve: Callable[..., Any], page: Page
) -> None:
    site.write(applications={"trame": trame(site)})
    service = serve("--end-sessions")
    reply = service.post({"application": "trame"}).json()
    assert reply["viewer"] == "page"
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    page.on("framenavigated", lambda frame: addresses.append(frame.url))
    page.on("websocket", lambda socket: addresses.append(socket.url))
    page.goto(reply["page"])
    for sides in (6, 46):
        expect(page.locator("#said")).to_have_text(f"The cone has {sides} sides")
        page.click("#more")
        expect(page.locator("#said")).to_have_text(f"The cone has {sides + 40} sides")
        page.wait_for_function("document.querySelector('img')?.naturalWidth > 100")
        assert reply["secret"] not in page.evaluate("location.href")
        page.reload()
    assert any(url.startswith("ws:") for url in addresses)
    assert not [url for url in addresses if reply["secret"] in url]
    listed = service.http.get("/paraview/applications").json()["applications"]
    assert listed[-1]["viewer"] == "page"
    assert len(site.directories()) == 1  # no second session
    assert service.stop() == 0
