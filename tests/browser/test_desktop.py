"""A desktop in a real Chromium: TigerVNC and noVNC as the example has them."""

import io
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Page

from tests.browser import driver
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]  # for slow machines

TEMPLATES = Path(__file__).parents[2] / "examples/desktop/templates"


@pytest.fixture
def page() -> Iterator[Page]:
    with driver.chromium() as browser:
        yield browser.new_page(viewport={"width": 1100, "height": 760})


@pytest.fixture
def open_desktop(site: Any, serve: Callable[..., Any], page: Page) -> Callable[..., dict[str, Any]]:
    """Launch a desktop with this program in it, and open its page."""

    def opened(*program: str) -> dict[str, Any]:
        desktop = {
            "cluster": "here",
            "template": "desktop.sh",
            "wait": 90,
            "ready_port": True,
            "viewer": "page",
            "properties": {"program": list(program)},
            "inject": {"headers": {"Authorization": "Bearer ${secret}"}},
        }
        site.write(template_dirs=[str(TEMPLATES)], applications={"desktop": desktop})
        service = serve("--end-sessions")
        reply = service.post({"application": "desktop"})
        assert reply.status_code == 200, reply.text
        page.goto(reply.json()["page"])
        page.wait_for_selector("#screen canvas")
        return {**reply.json(), "service": service}

    return opened


def colours(page: Page) -> int:
    """How many colours the desktop shows, or a little more."""
    picture = Image.open(io.BytesIO(page.locator("#screen canvas").screenshot()))
    return len(picture.convert("RGB").resize((275, 190), Image.Resampling.NEAREST).getcolors(99999))


def test_what_is_typed_in_the_browser_runs_on_the_node(
    open_desktop: Callable[..., dict[str, Any]], page: Page, site: Any, tmp_path: Path
) -> None:
    session = open_desktop("xterm", "-maximized")
    wait_until(lambda: colours(page) > 2, "the terminal")
    typed = tmp_path / "typed"

    def arrives() -> bool:
        page.mouse.click(550, 380)
        page.keyboard.type(f"echo $((6*7)) >{typed}\n")
        page.wait_for_timeout(500)
        return typed.exists() and typed.read_text() == "42\n"

    wait_until(arrives, "what was typed")
    # A neighbour on the node, who has the port and not the secret, sees neither page nor desktop.
    (directory,) = site.directories()
    port = int(dict(line.split("=") for line in _status(directory))["port"])
    for path in ("/desktop.js", "/", "/websockify"):
        assert httpx.get(f"http://127.0.0.1:{port}{path}").status_code == 403
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", 5900), timeout=1).close()
    assert (directory / "vnc.sock").stat().st_mode & 0o777 == 0o600
    assert not (directory / "secret").exists()
    service = session["service"]
    assert service.http.delete(f"/paraview/{session['id']}").status_code == 200
    assert service.stop() == 0


def _status(directory: Path) -> list[str]:
    return [line for line in (directory / "status").read_text().splitlines() if "=" in line]


def test_paraviews_window_is_drawn(open_desktop: Callable[..., dict[str, Any]], page: Page) -> None:
    open_desktop("paraview")
    wait_until(lambda: colours(page) > 100, "ParaView's window", 180)
