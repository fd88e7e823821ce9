"""What a person does with the portal's page, for tests: press the button, look, rotate, stop.

The browser is the system's Chromium, driven by Python's playwright; the helpers raise
playwright's TimeoutError, with the page's own words in it, when something does not come.
"""

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, TimeoutError, expect, sync_playwright

ARGUMENTS = [
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
expect.set_options(timeout=60_000)  # milliseconds: for slow machines

MARKS = ("launch", "ready", "connected", "first-image")


def chromium_path() -> Path | None:
    """Where the system's Chromium is, or None."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return Path(found)
    return None


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser, closed at the end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium_path(), headless=True, args=ARGUMENTS
        )
        try:
            yield browser
        finally:
            browser.close()


def open_portal(page: Page, base_url: str) -> None:
    """Go to the page and wait for its catalogue to be usable."""
    page.set_default_timeout(60_000)
    page.goto(base_url)
    page.wait_for_function("document.querySelector('.curl code')?.textContent !== ''")


def launch_from_page(
    page: Page, base_url: str, application: str, *, timeout: float = 60, **parameters: object
) -> None:
    """Press an application's button, and return once its first picture is drawn.

    `parameters` are typed into the card's fields first. `timeout` is in seconds.
    """
    press_launch(page, base_url, application, **parameters)
    wait_for_stage(page, "live", timeout=timeout)


def press_launch(page: Page, base_url: str, application: str, **parameters: object) -> None:
    """Fill in the card and press its button; does not wait for anything."""
    open_portal(page, base_url)
    for name, value in parameters.items():
        page.fill(f"#param-{application}-{name}", str(value))
    page.click(f"#launch-{application}")


def wait_for_stage(page: Page, state: str, *, timeout: float = 60) -> None:
    """Wait until the stage is in `state`: queued, starting, ready, live, error, ended, idle."""
    try:
        page.wait_for_function(
            "(state) => [state, 'error', 'ended'].includes("
            "document.getElementById('stage').dataset.state)",
            arg=state,
            timeout=timeout * 1000,
        )
    except TimeoutError as error:
        raise TimeoutError(f"stage not {state} in {timeout} s; {said(page)}") from error
    if stage(page) != state:
        raise TimeoutError(f"stage not {state}; {said(page)}")


def stage(page: Page) -> str:
    """The state of the stage: idle, submitting, queued, starting, ready, live, lost, ..."""
    return page.get_attribute("#stage", "data-state") or ""


def said(page: Page) -> str:
    """What the page tells its user now."""
    texts = page.locator("#connection, #message, #failure > :not(.actions)")
    return " | ".join(text for text in texts.all_text_contents() if text)


@dataclass(frozen=True)
class Pixels:
    """A picture of the rendering: `rgb` has the shape (height, width, 3)."""

    rgb: np.ndarray

    @property
    def colours(self) -> int:
        """How many colours there are, of 32 768: a blank picture has one, a background some."""
        coarse = (self.rgb >> 3).astype(np.uint32)
        return len(np.unique((coarse[..., 0] << 10) | (coarse[..., 1] << 5) | coarse[..., 2]))

    def difference(self, other: "Pixels") -> float:
        """The share of pixels, 0 to 1, that differ visibly."""
        if self.rgb.shape != other.rgb.shape:
            return 1.0
        distance = np.abs(self.rgb.astype(np.int16) - other.rgb.astype(np.int16)).max(axis=2)
        return float((distance > 24).mean())


def rendering_pixels(page: Page) -> Pixels:
    """What is to be seen on the stage, as a screenshot and not as the page says."""
    picture = Image.open(io.BytesIO(page.locator("#view").screenshot()))
    return Pixels(np.asarray(picture.convert("RGB")))


def pictures_drawn(page: Page) -> int:
    """How many pictures the page has drawn in this session."""
    return int(page.get_attribute("#view", "data-images") or 0)


def rotate(page: Page, *, right: float = 0.25, up: float = 0.1, timeout: float = 60) -> None:
    """Drag from the middle by shares of the stage, and wait for the picture that follows."""
    box = page.locator("#view").bounding_box()
    assert box is not None, "the rendering is not visible"
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    before = pictures_drawn(page)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + right * box["width"], y - up * box["height"], steps=12)
    page.mouse.up()
    settle(page, before, timeout=timeout)


def settle(page: Page, before: int, *, timeout: float = 60) -> None:
    """Wait until more than `before` pictures were drawn, and then no more for half a second."""
    page.wait_for_function(
        """(before) => {
            const drawn = Number(document.getElementById('view').dataset.images ?? 0);
            const now = performance.now();
            if (globalThis.lastDrawn?.drawn !== drawn) globalThis.lastDrawn = { drawn, now };
            return drawn > before && now - globalThis.lastDrawn.now > 500;
        }""",
        arg=before,
        timeout=timeout * 1000,
    )


def stop(page: Page, *, timeout: float = 60) -> None:
    """Press Stop and wait for the catalogue."""
    page.click("#stop")
    wait_for_stage(page, "idle", timeout=timeout)


def marks(page: Page) -> dict[str, float]:
    """Milliseconds from the click to `ready` (known to the page), `connected` and `first-image`."""
    times: dict[str, float] = page.evaluate(
        "Object.fromEntries(performance.getEntriesByType('mark').map("
        "(mark) => [mark.name.replace('hpcbridge:', ''), mark.startTime]))"
    )
    return {name: times[name] - times["launch"] for name in MARKS if name in times}
