"""The demonstration as a person meets it: Chromium, the page, the button, the rendering."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import ConsoleMessage, Page

from hpcbridge.schedulers.local.processes import COOKIE
from tests.browser import driver
from tests.browser.onemachine import one_machine
from tests.processes import marked
from tests.serviceprocess import ServiceProcess

pytestmark = pytest.mark.browser


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    """The example's own file, on a free port, with its state in the test's folder."""
    with one_machine(tmp_path, "--end-sessions") as running:
        yield running


@pytest.fixture
def page() -> Iterator[Page]:
    """A tab whose console has no errors at the end."""
    with driver.chromium() as browser:
        tab = browser.new_page(viewport={"width": 1100, "height": 800})
        errors: list[str] = []
        tab.on("console", lambda said: errors.append(said.text) if is_error(said) else None)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        yield tab
        assert errors == []


def is_error(said: ConsoleMessage) -> bool:
    """Whether the page complained; Chromium itself writes each reply of 400 and above."""
    return said.type == "error" and not said.text.startswith("Failed to load resource")


def jobs_processes() -> list[int]:
    """Processes that any local job started."""
    return [pid for pid in marked(f"{COOKIE}=") if pid != os.getpid()]


def test_the_button_brings_a_rendering_that_turns_and_a_stop_that_ends_it_all(
    service: ServiceProcess, page: Page
) -> None:
    driver.launch_from_page(page, service.url, "flow", streamlines=60)
    before = driver.rendering_pixels(page)
    assert before.colours > 200
    driver.rotate(page)
    after = driver.rendering_pixels(page)
    assert after.colours > 200
    assert after.difference(before) > 0.02
    assert jobs_processes()
    driver.stop(page)
    deadline = time.monotonic() + 60
    while jobs_processes():
        assert time.monotonic() < deadline, "the application's processes are still there"
        page.wait_for_timeout(100)
    sessions = service.folder / "state/local/workstation/sessions"
    while list(sessions.iterdir()):
        assert time.monotonic() < deadline, "the session directory is still there"
        page.wait_for_timeout(100)


def test_a_reloaded_page_finds_its_session_again(service: ServiceProcess, page: Page) -> None:
    driver.launch_from_page(page, service.url, "flow", streamlines=30)
    page.reload()
    driver.wait_for_stage(page, "live")
    assert driver.rendering_pixels(page).colours > 100


def test_what_is_wrong_is_told_in_words(service: ServiceProcess, page: Page) -> None:
    """A value beyond its bounds, sent past the form's own check."""
    driver.open_portal(page, service.url)
    reply = page.evaluate(
        """async () => (await fetch('/paraview', {
            method: 'POST', body: JSON.stringify({application: 'flow', streamlines: 100000}),
        })).json()"""
    )
    assert reply == {"error": "Parameter 'streamlines' must be a whole number, at least 10, "
                     "at most 400."}  # fmt: skip
