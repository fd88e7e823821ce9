"""From the press of the button to the first picture in a browser, cold and warm, in parts."""

import contextlib
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, TimeoutError

from benchmarks.bridge import Bridge
from benchmarks.figures import Run, Unavailable, interleave, split
from benchmarks.lab import lab
from benchmarks.table import Section, total_and_parts
from benchmarks.waiting import LogWatch
from tests.browser import driver

NAME = "first-picture"
HOW = (
    "from the press of the page's button to the first drawn picture of the VTK application "
    "`hpcbridge.apps.flow` in headless Chromium. Cold: a service that was just started, its first "
    "launch, a new browser profile, no SSH connection. Warm: the next launch from the same page. "
    "noticed: until the page heard of it, by the session's events."
)
FLOW = Path(driver.__file__).parents[2] / "hpcbridge/apps/flow.py"


class Place:
    """Where the application runs: a configuration, and the sessions' directories."""

    def __init__(self, name: str, folder: Path, cluster: dict[str, Any], root: Path, flow: str):
        self.name, self.root = name, root
        self._folder, self._cluster, self._flow = folder, cluster, flow
        self._services = 0

    def service(self) -> Bridge:
        """A service that never ran before."""
        self._services += 1
        folder = self._folder / f"{self.name}-{self._services}"
        application = {
            "cluster": "here",
            "template": "python.sh",
            "wait": 90,
            "properties": {"script": self._flow},
        }
        config = {
            "server": {"port": 0, "state_dir": str(folder / "state")},
            "clusters": {"here": self._cluster},
            "applications": {"flow": application},
        }
        return Bridge(folder, config, self.root)


def measure(runs: int, folder: Path) -> Section:
    """Cold and warm, on this machine and on the test cluster, in turn."""
    if driver.chromium_path() is None:
        raise Unavailable("Chromium is not installed")
    with contextlib.ExitStack() as stack:
        browser = stack.enter_context(driver.chromium())
        local = {"scheduler": "local", "session_root": str(folder / "sessions")}
        places = [Place("local", folder, local, folder / "sessions", str(FLOW))]
        missing = ""
        try:
            site = stack.enter_context(lab())
            site.install(FLOW)
            site.install_software()
        except Unavailable as error:
            missing = f"slurm: {error}"
        else:
            inside = f"{site.inside}/{FLOW.name}"
            places.append(Place("slurm", folder, site.settings(), site.sessions, inside))
        sources: dict[str, Callable[[], Run]] = {}
        for place in places:
            warm = stack.enter_context(place.service())
            page = stack.enter_context(contextlib.closing(browser.new_page()))
            sources[f"{place.name} cold"] = functools.partial(_cold, browser, place)
            sources[f"{place.name} warm"] = functools.partial(_press, page, warm)
        found = interleave(runs, sources)
    rows = [row for name, each in found.items() for row in total_and_parts(name, each)]
    return Section(NAME, HOW, runs, rows, missing)


def _cold(browser: Browser, place: Place) -> Run:
    with place.service() as service, contextlib.closing(browser.new_page()) as page:
        return _press(page, service)


def _press(page: Page, service: Bridge) -> Run:
    """Press the button, take the times apart, and stop the session."""
    with LogWatch(service.root) as watch:
        driver.press_launch(page, service.url, "flow")
        try:
            driver.wait_for_stage(page, "live", timeout=90)
        except TimeoutError as error:
            raise Unavailable(str(error)) from error
    began = _pressed_at(page)
    marks = {name: began + at / 1000 for name, at in driver.marks(page).items()}
    kept = page.evaluate("sessionStorage.getItem('hpcbridge.session')")
    ends = service.ends(json.loads(kept), ready_line=watch.seen)
    ends |= {
        "noticed": marks["ready"],
        "connect": marks["connected"],
        "first image": marks["first-image"],
    }
    driver.stop(page)
    service.until_gone()
    return Run(marks["first-image"] - began, split(began, ends))


def _pressed_at(page: Page) -> float:
    """When the button was pressed, in seconds since the epoch."""
    script = (
        "performance.timeOrigin + performance.getEntriesByName('hpcbridge:launch')[0].startTime"
    )
    return float(page.evaluate(script)) / 1000
