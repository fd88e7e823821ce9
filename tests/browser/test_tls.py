"""The service's own TLS in a real Chromium that trusts the tests' CA."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.browser import driver
from tests.browser.test_ownpages import trame
from tests.ca import CA, trusted_by_chromium
from tests.usersite import auth, named
from tests.web.test_tls import NAMES, server, trust

pytestmark = pytest.mark.browser


@pytest.fixture
def ca(tmp_path: Path) -> CA:
    folder = tmp_path / "tls"
    folder.mkdir(mode=0o700)
    return CA(folder)


@pytest.fixture
def page(ca: CA, tmp_path: Path) -> Iterator[Page]:
    trusted_by_chromium(ca, tmp_path)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=driver.chromium_path(),
            headless=True,
            args=driver.ARGUMENTS,
            env={**os.environ, "HOME": str(tmp_path)},
        )
        yield browser.new_page()
        browser.close()


def test_a_page_opened_by_a_ticket_runs_over_tls_with_secure_cookies_alone(
    site: Any, ca: CA, serve: Callable[..., Any], page: Page
) -> None:
    site.write(
        server=server(ca.issue(*NAMES), hsts="max-age=600"),
        frontend={"session_domain": "sessions.localhost"},
        auth=auth(site, "header"),
        applications={"trame": trame(site)},
    )
    service = serve("--end-sessions")
    portal = service.url.replace("127.0.0.1", "localhost")
    with httpx.Client(
        base_url=portal, verify=trust(ca), timeout=90, headers=named("alice")
    ) as http:
        reply = http.post("/paraview", json={"application": "trame"}).json()
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    page.set_default_timeout(60_000)
    assert reply["page"].startswith(f"https://{reply['id']}.sessions.localhost:")
    seen = page.goto(reply["page"])
    assert seen is not None
    assert seen.header_value("strict-transport-security") == "max-age=600"
    expect(page.locator("#said")).to_have_text("The cone has 6 sides")
    page.click("#more")
    expect(page.locator("#said")).to_have_text("The cone has 46 sides")
    assert sockets
    assert all(url.startswith("wss://") for url in sockets)
    cookies = page.context.cookies()
    assert [(each["name"], each["secure"]) for each in cookies] == [("__Host-hpcbridge", True)]
    assert "hpcbridge_ticket" not in page.url
    assert service.stop() == 0


def test_the_portals_page_draws_over_tls(
    site: Any, ca: CA, serve: Callable[..., Any], page: Page
) -> None:
    here = Path(__file__).resolve().parents[2]
    site.write(
        server=server(ca.issue(*NAMES)),
        frontend={"session_domain": "sessions.localhost"},
        applications={
            "flow": {
                "cluster": "here",
                "template": "python.sh",
                "wait": 60,
                "properties": {"script": str(here / "hpcbridge/apps/flow.py")},
            }
        },
    )
    service = serve("--end-sessions")
    driver.launch_from_page(page, service.url.replace("127.0.0.1", "localhost"), "flow")
    assert driver.rendering_pixels(page).colours > 20
    driver.stop(page)
    assert service.stop() == 0
