"""From the press of the button to the first picture in the portal's own viewer."""

import contextlib
import secrets
import shutil
import sys
import time
from pathlib import Path

from playwright.sync_api import Browser, Page

from benchmarks import byhand
from benchmarks.bridge import Bridge
from benchmarks.figures import Run, Unavailable, interleave, paired_ratio
from benchmarks.table import Section, total_and_parts
from hpcbridge.portal import wslinkjs
from tests.browser import driver

NAME = "portal-viewer"
HOW = (
    "from the press of the portal's button to the first picture of `hpcbridge.apps.flow` in the "
    "portal's viewer, local scheduler, headless Chromium. The peer is the same program, started by "
    "hand at that moment, and a page with nothing but the same viewer, of the same size, from the "
    "program's own port. reload: from a reload of the portal to a picture of the session that runs."
)
AIM = 1.10
ROOT = Path(__file__).resolve().parent.parent
FLOW = ROOT / "hpcbridge/apps/flow.py"
PAGE = """<!doctype html>
<div style="width: WIDTHpx; height: HEIGHTpx"><canvas></canvas></div>
<script type="module">
import { RemoteView } from './viewer.js';
const view = new RemoteView(document.querySelector('canvas'), './CLIENT');
view.addEventListener('image', () => { document.title = 'drawn'; });
view.connect(`ws://${location.host}/ws`, location.hash.slice(1));
</script>
"""


def measure(runs: int, folder: Path) -> Section:
    """Both in turn."""
    if driver.chromium_path() is None:
        raise Unavailable("Chromium is not installed")
    root, reloads = folder / "sessions", []
    application = {
        "cluster": "here",
        "template": "python.sh",
        "wait": 90,
        "properties": {"script": str(FLOW)},
    }
    config = {
        "server": {"port": 0, "state_dir": str(folder / "state")},
        "clusters": {"here": {"scheduler": "local", "session_root": str(root)}},
        "applications": {"flow": application},
    }
    with (
        driver.chromium() as browser,
        Bridge(folder / "bridge", config, root) as bridge,
        contextlib.closing(browser.new_page()) as page,
    ):
        *_, size = _press(page, bridge)
        site = _site(folder / "site", size)

        def ours() -> Run:
            run, reload, _ = _press(page, bridge)
            reloads.append(reload)
            return run

        sources = {"ours": ours, "theirs": lambda: _by_hand(browser, site)}
        found = interleave(runs, sources)
    ratio = paired_ratio(found["ours"], found["theirs"])
    rows = total_and_parts("hpcbridge", found["ours"], ratio, AIM)
    rows += total_and_parts("by hand", found["theirs"])
    rows += total_and_parts("reload", reloads[1:])
    return Section(NAME, HOW, runs, rows)


def _press(page: Page, bridge: Bridge) -> tuple[Run, Run, tuple[int, int]]:
    """The launch, a reload of the page with it, and the size of the view in pixels."""
    driver.open_portal(page, bridge.url)
    began = time.monotonic()
    page.click("#launch-flow")
    driver.wait_for_stage(page, "live", timeout=90)
    ended = time.monotonic()
    page.reload()
    driver.wait_for_stage(page, "live", timeout=90)
    reloaded = time.monotonic()
    box = page.locator("#view").bounding_box()
    assert box is not None
    driver.stop(page)
    bridge.until_gone()
    return Run(ended - began), Run(reloaded - ended), (int(box["width"]), int(box["height"]))


def _site(folder: Path, size: tuple[int, int]) -> Path:
    """A page with the portal's viewer and no portal."""
    shutil.copytree(ROOT / "hpcbridge/portal/static", folder)
    for name, text in wslinkjs.modules().items():
        path = folder / "js" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    page = PAGE.replace("WIDTH", str(size[0])).replace("HEIGHT", str(size[1]))
    (folder / "index.html").write_text(page.replace("CLIENT", f"js/{wslinkjs.ENTRY}"))
    return folder


def _by_hand(browser: Browser, site: Path) -> Run:
    """The program from a shell, and the page from its own port."""
    secret, port = secrets.token_hex(24), byhand.free_port()
    command = [sys.executable, str(FLOW), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--authKey", secret, "--content", str(site)]
    with contextlib.closing(browser.new_page()) as page:
        began = time.monotonic()
        with byhand.started(command, b"Starting factory"):
            ready = time.monotonic()
            page.goto(f"http://127.0.0.1:{port}/index.html#{secret}")
            page.wait_for_function("document.title === 'drawn'", timeout=90_000)
            ended = time.monotonic()
    return Run(ended - began, {"ready": ready - began, "page": ended - ready})
