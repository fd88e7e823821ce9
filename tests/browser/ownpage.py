"""A trame application's own page inside the portal: what a person sees and does there."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from playwright.sync_api import FrameLocator, Page

from tests.browser.driver import Pixels


def frame(page: Page) -> FrameLocator:
    """The frame of the portal that the application's page is in."""
    return page.frame_locator("#page-frame")


def picture(page: Page) -> Pixels:
    """The rendering, as a screenshot."""
    frame(page).locator("main img").first.wait_for()
    shot = page.screenshot(clip=frame(page).locator("main").bounding_box())  # type: ignore[arg-type]
    return Pixels(np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")))


def wait_for(page: Page, wanted: Callable[[Pixels], bool], what: str) -> Pixels:
    """The picture when it is as ``wanted``; AssertionError after two minutes, tells ``what``."""
    for _ in range(400):
        now = picture(page)
        if wanted(now):
            return now
        page.wait_for_timeout(300)
    raise AssertionError(f"two minutes have gone without {what}")


def turn(page: Page) -> None:
    """Drag across the rendering."""
    box = frame(page).locator("main").bounding_box()
    assert box is not None, "the rendering is not visible"
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + box["width"] / 6, y - box["height"] / 6, steps=10)
    page.mouse.up()
