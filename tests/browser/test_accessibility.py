"""Every page is for everybody: axe finds nothing, nothing is cut off, the keyboard is enough."""

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser import driver
from tests.site import Service, Site
from tests.usersite import auth, named

pytestmark = pytest.mark.browser
SIZES = {"wide": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
LONG = "Maintenance-of-the-file-system-of-all-the-clusters-in-both-buildings from Friday on"


@pytest.fixture(scope="module")
def service(shared_site: Site) -> Iterator[Service]:
    site = shared_site
    applications = site.config["applications"]
    applications["cone"]["description"] = "A cone, drawn on a node."
    applications["tuned"] |= {"walltime": 280, "title": "Isosurfaces"}
    site.config["clusters"]["there"] = {"scheduler": "local", "title": "Workstation"}
    applications["cone"] |= {"cluster": ["here", "there"], "cluster_by_request": True}
    site.write(auth=auth(site))
    with Service(site, "--end-sessions") as running:
        olga = {"headers": named("olga")}
        for about in ("site", "cluster/here", "application/cone"):
            said = {"text": LONG, "drain": about == "application/cone"}
            running.http.put(f"/paraview/announcements/{about}", json=said, **olga)
        running.post({"application": "crash"}, **olga)
        running.post({"application": "tuned"}, **olga)
        yield running


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=SIZES)
def context(
    request: pytest.FixtureRequest, browser: Browser, scheme: str
) -> Iterator[BrowserContext]:
    made = browser.new_context(
        viewport=SIZES[request.param],  # type: ignore[arg-type]
        color_scheme=scheme,  # type: ignore[arg-type]
        reduced_motion="reduce",
        extra_http_headers=named("olga"),
    )
    yield made
    made.close()


def good(page: Page) -> None:
    """AssertionError with what axe has to say, or where the page is wider than the screen."""
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "cut off"


def test_the_first_page_the_wait_and_the_end(service: Service, context: BrowserContext) -> None:
    page = context.new_page()
    driver.open_portal(page, f"{service.url}/?application=tuned&level=7")
    expect(page.locator("#announcements li")).to_have_text([LONG])
    expect(page.locator("#running-list li").first).to_be_visible()
    page.locator("#card-tuned .curl summary").click()
    good(page)
    page.click("#launch-late")
    driver.wait_for_stage(page, "starting")
    good(page)
    page.click("#stop")
    driver.wait_for_stage(page, "idle")
    page.click("#launch-crash")
    driver.wait_for_stage(page, "error")
    good(page)


def test_the_sessions_their_output_and_the_announcements(
    service: Service, context: BrowserContext
) -> None:
    page = context.new_page()
    page.goto(f"{service.url}/portal/sessions")
    expect(page.locator("#live .row .left")).to_contain_text("Ends in")
    failed = page.locator("#ended .row").filter(has_text="Failed").first
    failed.locator("summary").click()
    good(page)
    failed.get_by_role("button", name="Output").click()
    expect(page.locator("#log-text")).to_contain_text("cannot open display")
    page.fill("#log-search", "display")
    expect(page.locator("#log mark")).to_be_visible()
    good(page)
    page.keyboard.press("Escape")
    page.goto(f"{service.url}/portal/sessions?application=nosuch&state=live")
    expect(page.locator("#live .row")).to_have_count(1)  # no such filter
    page.goto(f"{service.url}/portal/announcements")
    expect(page.locator("#announced-list .row")).to_have_count(3)
    good(page)
