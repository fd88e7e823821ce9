"""What a person does on ParaView's Visualizer page, and what is to be seen there."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from playwright.sync_api import Page

from tests.browser.driver import Pixels

MENU = 320
"""Pixels on the left that the page's menu covers."""
_SOURCES, _FILES = "[data-idx='2']", "[data-idx='1']"


def picture(page: Page) -> Pixels:
    """The view beside the menu, as a screenshot."""
    size = page.viewport_size
    assert size is not None
    clip = {"x": MENU, "y": 60, "width": size["width"] - MENU - 20, "height": size["height"] - 80}
    shot = page.screenshot(clip=clip)  # type: ignore[arg-type]
    return Pixels(np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")))


def wait_for(page: Page, wanted: Callable[[Pixels], bool], what: str) -> Pixels:
    """The picture when it is as ``wanted``; AssertionError after a minute, which tells ``what``."""
    for _ in range(300):
        now = picture(page)
        if wanted(now):
            return now
        page.wait_for_timeout(200)
    raise AssertionError(f"a minute has gone without {what}")


def wait_for_change(page: Page, before: Pixels, what: str) -> Pixels:
    return wait_for(page, lambda now: now.difference(before) > 0.02, what)


def shows_the_surface(view: Pixels) -> bool:
    """Whether the gyroid is there: red far from its middle and blue at it, on bluish grey."""
    red, _, blue = (view.rgb[..., i].astype(np.int16) for i in range(3))
    return bool((red - blue > 25).mean() > 0.15 and (blue - red > 50).mean() > 0.002)


def wait_for_view(page: Page) -> Pixels:
    """Until the page is connected: its menu and an empty view."""
    page.wait_for_selector(_SOURCES)
    return picture(page)


def add_cone(page: Page) -> None:
    page.click(_SOURCES)
    page.get_by_text("Cone", exact=True).click()


def open_surface(page: Page) -> Pixels:
    """Choose the demonstration's file and put all of it into the view."""
    page.click(_FILES)
    page.get_by_text("gyroid.vtp", exact=True).click()
    page.locator("[class*=PipelineBrowser]").get_by_text("gyroid.vtp", exact=True).wait_for()
    page.click("[class*=resetCameraIcon]")
    return wait_for(page, shows_the_surface, "the file's surface in the view")


def turn(page: Page) -> None:
    """Drag across the view."""
    page.mouse.move(650, 400)
    page.mouse.down()
    page.mouse.move(800, 300, steps=10)
    page.mouse.up()
