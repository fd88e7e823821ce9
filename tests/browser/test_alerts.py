"""Notifications of a real Chromium: asked for by a button, told while nobody looks."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser import driver
from tests.site import Service, Site
from tests.waiting import wait_until

pytestmark = pytest.mark.browser
# The browser's own, with a record of what it is asked. A headless tab is always seen.
RECORD = """
globalThis.told = [];
globalThis.asked = 0;
globalThis.away = false;
const Own = globalThis.Notification;
globalThis.Notification = class extends Own {
    constructor(title, options) { super(title, options); told.push(`${title}: ${options.body}`); }
    static requestPermission() { asked += 1; return super.requestPermission(); }
};
Object.defineProperty(document, 'hidden', {get: () => away});
"""


@pytest.fixture(scope="module")
def service(shared_site: Site) -> Iterator[Service]:
    shared_site.config["applications"]["tuned"] |= {"title": "Tuned", "walltime": 290}
    shared_site.write()
    with Service(shared_site, "--end-sessions") as running:
        yield running


@pytest.fixture
def browser(service: Service) -> Iterator[BrowserContext]:
    with driver.chromium() as browser:
        context = browser.new_context()
        context.grant_permissions(["notifications"], origin=service.url)
        context.add_init_script(RECORD)
        yield context


def told(page: Page) -> list[str]:
    return list(page.evaluate("told"))


def turned_on(page: Page) -> None:
    page.get_by_role("button", name="Notify me").click()
    expect(page.locator("#alerts")).to_have_attribute("aria-pressed", "true")


def begin(page: Page, application: str) -> str:
    launch = """async (application) => (await (await fetch('/paraview', {method: 'POST',
        headers: {Prefer: 'respond-async'}, body: JSON.stringify({application})})).json()).id"""
    return str(page.evaluate(launch, application))


def test_they_are_asked_for_by_the_button_alone(service: Service, browser: BrowserContext) -> None:
    page = browser.new_page()
    page.goto(f"{service.url}/portal/sessions")
    button = page.locator("#alerts")
    expect(button).to_have_attribute("aria-pressed", "false")
    assert page.evaluate("asked") == 0
    turned_on(page)
    assert page.evaluate("asked") == 1
    page.reload()
    expect(button).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("asked") == 0
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")


def test_who_looks_elsewhere_hears_that_it_is_ready_about_to_end_and_over(
    service: Service, browser: BrowserContext
) -> None:
    sessions, watched = browser.new_page(), browser.new_page()
    sessions.goto(f"{service.url}/portal/sessions")
    turned_on(sessions)
    expect(sessions.locator("#live .empty")).to_be_visible()
    driver.open_portal(watched, service.url)
    for page in (watched, sessions):
        page.evaluate("away = true")
    # As by the button, which takes a tab that is seen.
    watched.evaluate("document.getElementById('launch-tuned').click()")
    wait_until(lambda: len(told(watched)) == 2, "two notifications")
    (session,) = watched.evaluate("async () => (await (await fetch('/paraview')).json()).sessions")
    sessions.evaluate("away = false; document.dispatchEvent(new Event('visibilitychange'))")
    expect(sessions.locator("#live .row .pill")).to_have_text("Running")
    sessions.evaluate("away = true")
    service.http.delete(f"/paraview/{session['id']}")
    wait_until(lambda: len(told(watched)) == 3, "the last one")
    assert told(watched) == [
        "Tuned is ready: Open it in the portal.",
        "Tuned ends in 5 min: Save what you need; the job ends then.",
        "Tuned has ended: The session was stopped.",
    ]
    wait_until(lambda: "Tuned has ended: The session was stopped." in told(sessions), "the same")


def test_who_looks_is_told_by_the_page_alone(service: Service, browser: BrowserContext) -> None:
    page = browser.new_page()
    page.goto(f"{service.url}/portal/sessions")
    turned_on(page)
    session = begin(page, "tuned")
    page.reload()
    expect(page.locator("#live .row .pill")).to_have_text("Running")
    service.http.delete(f"/paraview/{session}")
    expect(page.locator("#live .row")).to_have_count(0)
    assert told(page) == []
