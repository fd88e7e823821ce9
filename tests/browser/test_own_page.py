"""An application with a page of its own, the demonstration's first card: trame, by its button."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import FrameLocator, Page, expect

from tests.browser import driver
from tests.browser.onemachine import one_machine
from tests.serviceprocess import ServiceProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    with one_machine(tmp_path, "--end-sessions") as running:
        yield running


@pytest.fixture
def page() -> Iterator[Page]:
    with driver.chromium() as browser:
        yield browser.new_page(viewport={"width": 1280, "height": 900})


def picture(frame: FrameLocator) -> np.ndarray:
    """The middle of the application's rendering, as it is on the screen."""
    image = Image.open(io.BytesIO(frame.locator("img").first.screenshot())).convert("RGB")
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    return pixels[height // 4 : -height // 4, width // 4 : -width // 4]


def colours(pixels: np.ndarray) -> int:
    return len(np.unique(pixels.reshape(-1, 3) // 8, axis=0))


def drawn(page: Page, frame: FrameLocator) -> np.ndarray:
    """The surface with its colour map: many colours in the middle of the picture."""
    expect(frame.locator("img").first).to_be_visible(timeout=60_000)
    for _ in range(120):
        pixels = picture(frame)
        if colours(pixels) > 300:
            return pixels
        page.wait_for_timeout(500)
    raise AssertionError(f"no surface: {colours(pixels)} colours")


def test_the_button_opens_the_applications_own_page_and_the_session_is_found_again(
    service: ServiceProcess, page: Page
) -> None:
    driver.open_portal(page, service.url)
    page.click("#launch-surfaces")
    driver.wait_for_stage(page, "open", timeout=120)
    frame = page.frame_locator("#page-frame")
    before = drawn(page, frame)
    assert "secret" not in page.frames[-1].url
    frame.get_by_role("button", name="Wires").click()
    page.wait_for_timeout(3000)
    after = picture(frame)
    assert np.mean(np.abs(after.astype(int) - before).max(axis=2) > 40) > 0.05
    assert len(list((service.folder / "state/local/workstation/sessions").iterdir())) == 1

    page.reload()
    driver.wait_for_stage(page, "open", timeout=60)
    drawn_again = page.frame_locator("#page-frame").locator("img").first
    expect(drawn_again).to_be_visible(timeout=60_000)
    page.click("#leave")
    expect(page.locator("#running-list li")).to_contain_text("Minimal surfaces")
    page.locator("#running-list").get_by_role("button", name="Open").click()
    driver.wait_for_stage(page, "open", timeout=60)
    driver.stop(page)
    assert page.evaluate("() => localStorage.getItem('hpcbridge.sessions')") == "[]"
