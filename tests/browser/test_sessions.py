"""The portal's page of sessions in a real Chromium, on a site with users and a long history."""

import asyncio
import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect

from hpcbridge.states import EndReason
from hpcbridge.store import SessionRow, State, Store
from tests.browser import driver
from tests.site import Service, Site
from tests.usersite import auth, named
from tests.waiting import wait_until

pytestmark = pytest.mark.browser
HISTORY = 10_000
NOW = time.time()
HOSTILE = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"
LAST_LINES = f"reading {HOSTILE}\n\x1b]0;title\x07cannot open \u202edisplay: mist"
# Says what it gets, and goes on to say more.
TALKER = """#!/bin/sh
script="</pre><script>document.title='run'</script>"
i=0
while [ $i -lt 400 ]; do i=$((i+1)); echo "line $i of $script"; done
while [ ! -e "$(dirname "$0")/more" ]; do sleep 0.05; done
echo "the needle is here"
exec sleep 1000
"""


def history() -> list[SessionRow]:
    """Alice's sessions, and one of bob's; the newest failed."""
    rows = []
    for number in range(HISTORY):
        at = NOW - 60 * number - 4000
        failed = number == 0
        text = f"The application ended: exit status 7.\nThe last lines of its output:\n{LAST_LINES}"
        rows.append(
            SessionRow(
                id=f"{number:040x}",
                job_name=f"hpcb-01234567-{number:024x}",
                application="tuned",
                cluster="here",
                user="bob" if number == 1 else "alice",
                parameters={"level": 7, "file": HOSTILE if failed else "a b&c.vtu"},
                state=State.ENDED,
                reason=EndReason.FAILED if failed else EndReason.FINISHED,
                message=text if failed else "",
                job_id=str(number + 1),
                job_ended=True,
                submitting_at=at,
                starting_at=at + 10,
                ended_at=at + 1810,
            )
        )
    return rows


async def remember(site: Site, rows: list[SessionRow]) -> None:
    site.state_dir.mkdir(mode=0o700)
    store = await Store.open(f"sqlite+aiosqlite:///{site.state_dir}/hpcbridge.sqlite")
    async with store.writing() as session:
        session.add_all(rows)
    await store.close()


@pytest.fixture(scope="module")
def service(shared_site: Site) -> Iterator[Service]:
    site = shared_site
    applications = site.config["applications"]
    talker = {"template": "command.sh", "cluster": "here", "title": "Talker", "wait": 600}
    talker["properties"] = {"program": site.program("talker", TALKER)}
    password = {"type": "str", "default": "", "secret": True}
    talker["parameters"] = {"password": password, "lines": {"type": "int", "default": 3}}
    applications["talker"] = talker
    applications["tuned"] |= {"title": "Tuned <b>", "walltime": 290}
    applications["tuned"]["parameters"]["file"]["title"] = "File"
    asyncio.run(remember(site, history()))
    site.write(auth=auth(site), store={"keep_ended": 1e9})
    with Service(site, "--end-sessions") as running:
        yield running


def opened(context: BrowserContext, service: Service, query: str = "") -> Page:
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{service.url}/portal/sessions{query}")
    page.locator("#ended .row").first.wait_for()
    return page


def launch(page: Page, application: str) -> str:
    """Launch in the page's browser, as its user; the session's id."""
    return str(
        page.evaluate(
            """async (application) => (await (await fetch('/paraview', {
                method: 'POST', headers: {Prefer: 'respond-async'},
                body: JSON.stringify({application}),
            })).json()).id""",
            application,
        )
    )


def test_a_long_history_is_loaded_page_by_page(service: Service, alice: BrowserContext) -> None:
    asked: list[str] = []

    def note(request: Request) -> None:
        if "state=ended" in request.url:
            asked.append(request.url)

    alice.on("request", note)
    page = opened(alice, service)
    expect(page.locator("#ended .row")).to_have_count(50)
    expect(page.locator("#ended .count")).to_have_text("50+")
    page.get_by_role("button", name="Older sessions, ended").click()
    expect(page.locator("#ended .row")).to_have_count(100)
    assert page.evaluate("document.activeElement.closest('.row').dataset.id") == f"{51:040x}"
    assert len(asked) == 2
    assert all("limit=50" in url for url in asked)
    assert page.locator(f'[data-id="{1:040x}"]').count() == 0  # bob's


def test_what_jobs_and_users_wrote_is_text_and_why_it_ended_is_told(
    service: Service, alice: BrowserContext
) -> None:
    page = opened(alice, service)
    row = page.locator(f'[data-id="{0:040x}"]')
    expect(row.locator("h3")).to_have_text("Tuned <b>")
    expect(row.locator(".pill")).to_have_text("Failed")
    expect(row.locator(".said")).to_have_text(
        "The application failed. The application ended: exit status 7."
    )
    expect(row.locator(".facts")).to_contain_text("File <img src=x")
    row.locator("summary").click()
    expect(row.locator("pre")).to_have_text(f"reading {HOSTILE}\ncannot open display: mist")
    expect(page.locator(f'[data-id="{2:040x}"] .said')).to_have_text("The application has ended.")
    assert page.locator("#sessions :is(img, script, b)").count() == 0
    assert page.title() == "Sessions · hpcbridge"


def test_a_secret_value_is_in_no_link_and_no_command_and_not_kept(
    service: Service, alice: BrowserContext
) -> None:
    page = alice.new_page()
    page.goto(service.url)
    page.fill("#param-talker-password", "correct-horse")
    page.fill("#param-talker-lines", "4")
    for shown in ("#link-talker", "#curl-talker"):
        text = page.text_content(shown) or ""
        assert "lines" in text
        assert "correct-horse" not in text
    assert page.get_attribute("#param-talker-password", "type") == "password"
    assert page.get_attribute("#param-talker-password", "autocomplete") == "off"
    with page.expect_request(lambda request: request.method == "POST") as launched:
        page.click("#launch-talker")
    assert "correct-horse" in (launched.value.post_data or "")
    wait_until(lambda: page.evaluate("localStorage.getItem('hpcbridge.sessions')"), "the session")
    kept = page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")
    assert "lines" in kept
    assert "correct-horse" not in kept
    path = "paraview/" + page.evaluate("JSON.parse(localStorage['hpcbridge.sessions'])[0].id")
    stopped = page.request.delete(f"{service.url}/{path}")
    assert stopped.ok
    wait_until(
        lambda: page.request.get(f"{service.url}/{path}").json()["state"] == "ended", "its end"
    )


def test_launching_again_opens_the_form_filled_in_and_launches_nothing(
    service: Service, alice: BrowserContext
) -> None:
    page = opened(alice, service)
    page.locator(f'[data-id="{2:040x}"]').get_by_role("link", name="Launch again").click()
    expect(page.locator("#param-tuned-level")).to_have_value("7")
    expect(page.locator("#param-tuned-file")).to_have_value("a b&c.vtu")
    expect(page.locator("#launch-tuned")).to_be_focused()
    expect(page.locator("#card-tuned .filled")).to_be_visible()
    page.fill("#param-tuned-level", "8")
    bookmark = page.text_content("#link-tuned") or ""
    page.goto(bookmark)
    expect(page.locator("#param-tuned-level")).to_have_value("8")
    assert "level=8" in (page.text_content("#link-tuned") or "")
    listed = page.evaluate("async () => (await (await fetch('/paraview')).json()).sessions.length")
    assert listed == 0
    page.goto(f"{service.url}/?application=tuned&level=x{HOSTILE}&file={HOSTILE}&nosuch=1")
    expect(page.locator("#param-tuned-file")).to_have_value(HOSTILE)
    expect(page.locator("#param-tuned-level")).to_have_value("")
    assert page.title() == "hpcbridge"


def test_output_is_followed_searched_and_downloaded(
    service: Service, alice: BrowserContext
) -> None:
    page = opened(alice, service)
    session = launch(page, "talker")
    page.reload()
    row = page.locator(f'[data-id="{session}"]')
    expect(row.locator(".pill")).to_have_text("Starting")
    row.get_by_role("button", name="Output Talker").click()
    text = page.locator("#log-text")
    expect(text).to_contain_text("line 400 of </pre><script>")
    (service.site.root / "more").touch()
    expect(text).to_contain_text("the needle is here")
    at_end = "(e) => e.scrollTop + e.clientHeight > e.scrollHeight - 30 && e.scrollTop > 0"
    assert text.evaluate(at_end)
    page.fill("#log-search", "NEEDLE")
    expect(page.locator("#log-found")).to_have_text("1 of 1")
    expect(page.locator("#log mark")).to_have_text("needle")
    page.fill("#log-search", "line 1")
    expect(page.locator("#log-found")).to_have_text("111 of 111")
    page.get_by_role("button", name="The next match").click()
    expect(page.locator("#log-found")).to_have_text("1 of 111")
    with page.expect_download() as download:
        page.click("#log-download")
    kept = download.value.path().read_text()
    assert kept.startswith("line 1 of </pre><script>")
    assert kept.endswith("the needle is here\n")
    assert page.locator("#log script").count() == 0
    page.keyboard.press("Escape")
    expect(page.locator("#log")).to_be_hidden()
    expect(row.get_by_role("button", name="Output")).to_be_focused()
    row.get_by_role("button", name="Stop").click()
    ended = page.locator(f'#ended [data-id="{session}"]')
    expect(ended.locator(".said")).to_have_text("The session was stopped.")
    assert page.title() == "Sessions · hpcbridge"


def test_another_tab_follows_and_the_keyboard_is_enough(
    service: Service, alice: BrowserContext
) -> None:
    """A session is launched in one tab, seen with its end to come in another, and stopped there."""
    first, second = alice.new_page(), opened(alice, service)
    driver.press_launch(first, service.url, "tuned")
    row = second.locator("#live .row")
    expect(row).to_have_count(1)
    expect(row.locator(".pill")).to_have_text("Running")
    expect(row.locator(".left")).to_have_text(re.compile(r"Ends in 4:\d\d\. Save what you need;.*"))
    stop = row.get_by_role("button", name="Stop Tuned <b>")
    second.bring_to_front()
    row.get_by_role("button", name="Output").focus()
    for _ in range(2):
        second.keyboard.press("Tab")
    expect(stop).to_be_focused()
    second.keyboard.press("Enter")
    expect(second.locator("#live .row")).to_have_count(0)
    expect(second.locator("#live-title")).to_be_focused()
    expect(second.locator("#ended .row").first.locator(".said")).to_have_text(
        "The session was stopped."
    )
    driver.wait_for_stage(first, "ended")
    first.goto(service.url)
    expect(first.locator("#running")).to_be_hidden()


def test_operators_see_all_and_find_one_users(service: Service, browser: Browser) -> None:
    context = browser.new_context(extra_http_headers=named("olga"))
    page = opened(context, service, "?state=ended")
    expect(page.locator("#live")).to_be_hidden()
    expect(page.locator("#who")).to_have_text("olga (operator)")
    expect(page.locator(f'[data-id="{1:040x}"] .owner')).to_have_text("bob")
    page.get_by_label("Owner").fill("bob")
    page.keyboard.press("Enter")
    expect(page.locator("#ended .row")).to_have_count(1)
    assert "owner=bob" in page.url
    page.reload()
    expect(page.locator("#ended .row")).to_have_count(1)
    context.close()


def test_others_are_no_operators(service: Service, alice: BrowserContext) -> None:
    page = opened(alice, service, "?state=ended&application=nosuch")
    expect(page.get_by_label("Owner")).to_be_hidden()
    page.goto(f"{service.url}/portal/sessions?owner=bob")
    expect(page.get_by_role("alert")).to_contain_text("only operators may list")
    assert page.locator(".row").count() == 0


def test_an_operators_first_page_has_their_own_sessions_alone(
    service: Service, browser: Browser, alice: BrowserContext
) -> None:
    """And so do the notifications of that page."""
    hers = alice.new_page()
    hers.goto(service.url)
    launch(hers, "tuned")
    context = browser.new_context(extra_http_headers=named("olga"))
    page = context.new_page()
    page.goto(service.url)
    own = launch(page, "talker")
    page.reload()
    expect(page.locator("#running-list li strong")).to_have_text(["Talker"])
    page.goto(f"{service.url}/portal/sessions")
    expect(page.locator("#live .row")).to_have_count(2)
    assert page.locator(f'[data-id="{own}"]').count() == 1
    context.close()
