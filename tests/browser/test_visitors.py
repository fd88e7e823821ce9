"""A visitor of a site without users in a real Chromium: closed tabs lose nothing."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser import driver
from tests.site import Service

pytestmark = pytest.mark.browser


@pytest.fixture
def browser() -> Iterator[Browser]:
    with driver.chromium() as browser:
        yield browser


def rows(context: BrowserContext, service: Service) -> list[str]:
    """What the portal lists in a new tab, which is closed again."""
    page = context.new_page()
    with page.expect_response(lambda reply: reply.url.endswith("/paraview")) as answered:
        driver.open_portal(page, service.url)
    found = [str(each["id"]) for each in answered.value.json()["sessions"]]
    expect(page.locator("#running-list li")).to_have_count(len(found))
    page.close()
    return found


def test_the_same_browser_finds_its_session_and_another_does_not(
    shared_service: Service, browser: Browser
) -> None:
    mine, others = browser.new_context(), browser.new_context()
    page = mine.new_page()
    driver.press_launch(page, shared_service.url, "late")
    driver.wait_for_stage(page, "starting")
    page.evaluate("localStorage.clear()")  # the cookie alone is left
    page.close()
    (session,) = rows(mine, shared_service)
    assert rows(others, shared_service) == []
    page = mine.new_page()
    driver.open_portal(page, shared_service.url)
    assert page.evaluate("document.cookie") == ""  # scripts do not see it
    (cookie,) = mine.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    others.add_cookies([{**cookie, "value": "x" * 43}])
    assert rows(others, shared_service) == []
    assert shared_service.state(session) == "starting"
