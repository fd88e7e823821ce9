"""From the press of the button to the first picture of a trame application's own page."""

import contextlib
import secrets
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import Browser, Frame, Page

from benchmarks import byhand
from benchmarks.bridge import Bridge
from benchmarks.figures import Run, Unavailable, interleave, paired_ratio
from benchmarks.table import Section, total_and_parts
from tests.browser import driver

NAME = "trame-page"
HOW = (
    "from the press of the portal's button to the first picture of `hpcbridge.apps.surfaces` in "
    "its own page, local scheduler, headless Chromium. The peer is the same program, started by "
    "hand at that moment, and its page opened from its own port as soon as it says that it runs. "
    "reload: from a reload of the portal to a picture of the session that runs."
)
AIM = 1.10
PICTURE = "() => document.querySelector('main img')?.naturalWidth > 100"


def measure(runs: int, folder: Path) -> Section:
    """Both in turn."""
    if driver.chromium_path() is None:
        raise Unavailable("Chromium is not installed")
    root = folder / "sessions"
    with (
        driver.chromium() as browser,
        Bridge(folder / "bridge", _config(folder / "bridge", root), root) as bridge,
        contextlib.closing(browser.new_page()) as page,
    ):
        reloads: list[Run] = []
        found = interleave(
            runs,
            {
                "ours": lambda: _press(page, bridge, reloads),
                "theirs": lambda: _by_hand(browser, folder),
            },
        )
    ratio = paired_ratio(found["ours"], found["theirs"])
    rows = total_and_parts("hpcbridge", found["ours"], ratio, AIM)
    rows += total_and_parts("by hand", found["theirs"])
    rows += total_and_parts("reload", reloads[1:])
    return Section(NAME, HOW, runs, rows)


def _config(folder: Path, root: Path) -> dict[str, Any]:
    application = {
        "cluster": "here",
        "template": "trame.sh",
        "wait": 90,
        "viewer": "page",
        "inject": {"launched": True},
        "properties": {"module": "hpcbridge.apps.surfaces"},
    }
    return {
        "server": {"port": 0, "state_dir": str(folder / "state")},
        "clusters": {"here": {"scheduler": "local", "session_root": str(root)}},
        "applications": {"surfaces": application},
    }


def _press(page: Page, bridge: Bridge, reloads: list[Run]) -> Run:
    driver.open_portal(page, bridge.url)
    began = time.monotonic()
    page.click("#launch-surfaces")
    driver.wait_for_stage(page, "open", timeout=90)
    opened = time.monotonic()
    _drawn(page)
    ended = time.monotonic()
    reloading = time.monotonic()
    page.reload()
    driver.wait_for_stage(page, "open", timeout=90)
    _drawn(page)
    reloads.append(Run(time.monotonic() - reloading))
    driver.stop(page)
    bridge.until_gone()
    return Run(ended - began, {"ready": opened - began, "page": ended - opened})


def _drawn(page: Page) -> None:
    """Until the page inside the portal shows a picture."""
    until = time.monotonic() + 90
    while time.monotonic() < until:
        if (frame := _inner(page)) is not None:
            frame.wait_for_function(PICTURE, timeout=90_000, polling=10)
            return
        page.wait_for_timeout(5)
    raise Unavailable("the application's page did not come")


def _inner(page: Page) -> Frame | None:
    return next((each for each in page.frames if ".localhost" in each.url), None)


def _by_hand(browser: Browser, folder: Path) -> Run:
    """The program from a shell, and its page from its own port."""
    secret, key, port = secrets.token_hex(24), folder / "key", byhand.free_port()
    key.write_text(secret)
    command = [sys.executable, "-m", "hpcbridge.apps.surfaces", "--server"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--authKeyFile", str(key)]
    query = urlencode({"sessionURL": f"ws://127.0.0.1:{port}/ws", "secret": secret})
    with contextlib.closing(browser.new_page()) as page:
        began = time.monotonic()
        with byhand.started(command, b"App running at:"):
            ready = time.monotonic()
            page.goto(f"http://127.0.0.1:{port}/index.html?{query}")
            page.wait_for_function(PICTURE, timeout=90_000, polling=10)
            ended = time.monotonic()
    return Run(ended - began, {"ready": ready - began, "page": ended - ready})
