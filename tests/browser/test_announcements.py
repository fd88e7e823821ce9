"""Operators announce and drain in the portal, in a real Chromium, and users read it there."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser import driver
from tests.site import Service, Site
from tests.usersite import auth

pytestmark = pytest.mark.browser
HOSTILE = "Tea <img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"


@pytest.fixture(scope="module")
def service(shared_site: Site) -> Iterator[Service]:
    shared_site.config["clusters"]["here"]["title"] = "Workstation"
    shared_site.write(auth=auth(shared_site))
    with Service(shared_site, "--end-sessions") as running:
        yield running


def form(context: BrowserContext, service: Service) -> Page:
    """The operators' page, by the way that the first page shows."""
    page = context.new_page()
    driver.open_portal(page, service.url)
    page.get_by_role("link", name="Announcements").click()
    page.locator("#announce").wait_for()
    return page


def announce(page: Page, about: str, text: str, *, drain: bool = False) -> None:
    page.get_by_label("About").select_option(label=about)
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_label("Take no new sessions").set_checked(drain)
    page.get_by_role("button", name="Announce").click()
    expect(page.locator("#announced-said")).to_have_text(f"{about}: announced.")


def test_what_operators_say_is_read_on_the_cards_and_never_runs(
    service: Service, olga: BrowserContext, alice: BrowserContext
) -> None:
    page = form(olga, service)
    announce(page, "The whole site", HOSTILE)
    announce(page, "Workstation", HOSTILE)
    announce(page, "cone", "new disks", drain=True)
    expect(page.locator("#announced-list .said")).to_have_text(["new disks", HOSTILE, HOSTILE])
    expect(page.locator("#announced-list .when").first).to_have_text(re.compile("^olga, "))
    assert page.locator("#announced :is(img, script)").count() == 0
    assert page.title() == "Announcements · hpcbridge"

    users = alice.new_page()
    driver.open_portal(users, service.url)
    expect(users.locator("#announcements li")).to_have_text([HOSTILE])
    drained = "cone takes no new sessions: new disks. Those that run go on."
    expect(users.locator("#card-cone .notices li")).to_have_text(
        [drained, f"Workstation: {HOSTILE}"]
    )
    expect(users.locator("#card-tuned .notices li")).to_have_text([f"Workstation: {HOSTILE}"])
    assert "shut" in (users.get_attribute("#card-cone .notices", "class") or "")
    users.click("#launch-cone")
    expect(users.locator("#failure-text")).to_contain_text(drained)
    assert users.locator(":is(#announcements, .notices) :is(img, script)").count() == 0
    assert "run" not in users.title()

    page.get_by_role("button", name="Undrain cone").click()
    expect(page.locator("#announced-said")).to_have_text("cone takes new sessions again.")
    expect(page.locator("#announced-title")).to_be_focused()
    page.get_by_role("button", name="Withdraw The whole site").click()
    expect(page.locator("#announced-list .row")).to_have_count(2)
    users.goto(service.url)
    expect(users.locator("#card-cone .notices li").first).to_have_text("new disks")
    expect(users.locator("#announcements")).to_be_hidden()


def test_an_announcement_is_changed_and_an_impossible_one_told(
    service: Service, olga: BrowserContext
) -> None:
    page = form(olga, service)
    announce(page, "late", "five minutes")
    page.get_by_role("button", name="Change late").click()
    expect(page.get_by_label("Text", exact=True)).to_have_value("five minutes")
    announce(page, "late", "ten minutes")
    row = page.locator("#announced-list .row").filter(has_text="late")
    expect(row.locator(".said")).to_have_text("ten minutes")
    page.get_by_label("Text", exact=True).fill("")
    page.get_by_role("button", name="Announce").click()
    expect(page.get_by_role("alert")).to_contain_text("nothing is said")


def test_who_is_no_operator_finds_no_form(service: Service, alice: BrowserContext) -> None:
    page = alice.new_page()
    driver.open_portal(page, service.url)
    expect(page.locator("#who")).to_have_text("alice")
    expect(page.get_by_role("link", name="Announcements")).to_be_hidden()
    page.goto(f"{service.url}/portal/announcements")
    expect(page.locator("#who")).to_have_text("alice")
    expect(page.locator("#announce")).to_be_hidden()
    expect(page.get_by_role("button")).to_have_count(0)
