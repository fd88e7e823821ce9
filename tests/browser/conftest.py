"""A browser for the tests of a file, and who uses it."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.browser import driver
from tests.usersite import named


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with driver.chromium() as browser:
        yield browser


@pytest.fixture
def alice(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(extra_http_headers=named("alice"))
    yield context
    context.close()


@pytest.fixture
def olga(browser: Browser) -> Iterator[BrowserContext]:
    """An operator's."""
    context = browser.new_context(extra_http_headers=named("olga"))
    yield context
    context.close()
