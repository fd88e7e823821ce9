"""The ParaViews of newer Debian releases, with trame, on hpcbridge's page in Chromium.

`make test-paraview` puts the releases into directories and runs this.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from testbed import paraviews
from tests.browser import driver, ownpage
from tests.processes import marked, told
from tests.serviceprocess import ServiceProcess
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(900)  # for slow machines
APP = Path(__file__).parents[1] / "browser/apps/contour.py"


@pytest.fixture
def browser() -> Iterator[Browser]:
    with driver.chromium() as running:
        yield running


@contextmanager
def serving(folder: Path, suite: str, **properties: Any) -> Iterator[ServiceProcess]:
    """A service whose application runs under the release's pvpython."""
    application = {
        "cluster": "here",
        "template": "paraview.sh",
        "wait": 400,
        "walltime": 900,
        "viewer": "page",
        "inject": {"launched": True},
        "properties": properties
        | {
            "pvpython": paraviews.wrapper(suite, "pvpython", folder / "pvpython"),
            "script": str(APP),
            "trame": True,
            "venv": paraviews.VENV,
        },
    }
    config = {
        "server": {"port": 0, "state_dir": str(folder / "state")},
        "clusters": {"here": {"scheduler": "local"}},
        "applications": {"contour": application},
    }
    with ServiceProcess(folder, config, "--end-sessions") as running:
        yield running


def surface(view: driver.Pixels) -> float:
    """The share of the view that the surface covers, where all above its middle is red, and all
    below it blue; else 0."""
    red, green, blue = (view.rgb[..., i].astype(int) for i in range(3))
    drawn = (abs(red - blue) > 60) & (green < np.maximum(red, blue) // 2)
    if drawn.mean() < 0.02:
        return 0.0
    rows = np.flatnonzero(drawn.any(axis=1))
    middle, height = (rows[0] + rows[-1]) // 2, len(view.rgb)
    up, down = np.arange(height) < middle - height // 20, np.arange(height) > middle + height // 20
    as_told = (red > blue)[up][drawn[up]].mean() > 0.98 < (blue > red)[down][drawn[down]].mean()
    return float(drawn.mean()) if as_told else 0.0


def drawn_by_the_button(page: Page, service: ServiceProcess) -> driver.Pixels:
    """Press the portal's button, and wait for the surface in the application's own page."""
    driver.press_launch(page, service.url, "contour")
    driver.wait_for_stage(page, "open", timeout=400)
    return ownpage.wait_for(page, lambda view: surface(view) > 0.02, "the surface in the view")


@pytest.mark.parametrize(
    ("suite", "rendering", "version", "display", "library"),
    [
        ("trixie", "auto", "5.13", True, "libGLX_mesa"),
        ("forky", "auto", "6.", False, "libEGL_mesa"),
        ("forky", "osmesa", "6.", False, "libOSMesa"),
        ("forky", "egl", "6.", False, "libEGL_mesa"),
        ("forky", "xvfb", "6.", True, "libGLX_mesa"),
    ],
)
def test_a_surface_is_drawn_turned_and_changed(
    tmp_path: Path,
    browser: Browser,
    suite: str,
    rendering: str,
    version: str,
    display: bool,
    library: str,
) -> None:
    more = {"libraries": paraviews.OSMESA} if rendering == "osmesa" else {}
    with serving(tmp_path, suite, rendering=rendering, **more) as service:
        page = browser.new_page(viewport={"width": 1000, "height": 800})
        first = drawn_by_the_button(page, service)
        assert ownpage.frame(page).locator("header").inner_text().startswith(f"ParaView {version}")
        job = f"HPCBRIDGE_DIRECTORY={service.folder}/"
        assert ("Xvfb" in told(job, "comm")) == display
        assert library in told(job, "maps")
        ownpage.frame(page).get_by_role("button", name="Larger").click()
        larger = ownpage.wait_for(
            page, lambda view: surface(view) > 1.2 * surface(first), "a larger surface"
        )
        ownpage.turn(page)
        ownpage.wait_for(page, lambda view: view.difference(larger) > 0.02, "a turned surface")
        driver.stop(page)
        wait_until(lambda: not marked(job), "the end of the job")
