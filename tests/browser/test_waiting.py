"""What a person sees who waits in the queue, and whose session is about to end."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, Route, expect

from tests.browser import driver
from tests.browser.onemachine import one_machine
from tests.serviceprocess import ServiceProcess

pytestmark = pytest.mark.browser


@pytest.fixture
def browser() -> Iterator[Browser]:
    with driver.chromium() as browser:
        yield browser


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[int], ServiceProcess]]:
    """Starts the example with one slot and a walltime (seconds)."""
    with ExitStack() as stack:

        def begin(walltime: int) -> ServiceProcess:
            service = one_machine(
                tmp_path,
                "--end-sessions",
                HPCBRIDGE_CLUSTERS__WORKSTATION__SLOTS="1",
                HPCBRIDGE_APPLICATIONS__FLOW__WALLTIME=str(walltime),
                HPCBRIDGE_APPLICATIONS__FLOW__WAIT="600",
            )
            return stack.enter_context(service)

        yield begin


def questions(page: Page) -> list[str]:
    """Will hold the GET requests that ask where a session stands, as they are made."""
    asked: list[str] = []

    def note(request: Request) -> None:
        if request.method == "GET" and re.search(r"/paraview/[0-9a-f]+$", request.url):
            asked.append(request.url)

    page.on("request", note)
    return asked


def test_who_waits_sees_for_what_behind_whom_and_until_when_without_asking(
    serve: Callable[[int], ServiceProcess], browser: Browser
) -> None:
    service = serve(900)
    first, second, third = (browser.new_page() for _ in range(3))
    driver.launch_from_page(first, service.url, "flow", streamlines=30)
    asked = questions(third)
    for page in (second, third):
        driver.press_launch(page, service.url, "flow", streamlines=30)
        driver.wait_for_stage(page, "queued")
    expect(third.locator("#message")).to_have_text("Waiting for a free slot.")
    expect(third.locator("#wait-ahead")).to_have_text("1 job ahead")
    expect(third.locator("#wait-until")).to_have_text("in about 30 min")
    expect(second.locator("#wait-ahead")).to_have_text("You are next")
    expect(second.locator("#wait-until")).to_have_text("in about 15 min")
    assert third.title().startswith("Queued (1 job ahead)")
    driver.stop(second)
    expect(third.locator("#wait-ahead")).to_have_text("You are next")
    assert asked == []
    driver.stop(first)
    driver.wait_for_stage(third, "live")
    expect(third.locator("#fact-left")).to_have_text(re.compile(r"^1[45] min$"))
    expect(third.locator("#ending")).to_be_hidden()


def test_where_events_do_not_come_through_the_page_asks_instead(
    serve: Callable[[int], ServiceProcess], browser: Browser
) -> None:
    service = serve(900)
    page = browser.new_page()

    def refuse(route: Route) -> None:
        route.fulfill(status=502, body="no streams here")

    page.route("**/events", refuse)
    asked = questions(page)
    driver.launch_from_page(page, service.url, "flow", streamlines=30)
    assert asked


def test_a_session_that_ends_soon_says_so_and_tells_its_end(
    serve: Callable[[int], ServiceProcess], browser: Browser
) -> None:
    service = serve(45)
    page = browser.new_page()
    driver.launch_from_page(page, service.url, "flow", streamlines=30)
    ending = page.locator("#ending")
    expect(ending).to_be_visible()
    expect(ending).to_contain_text(re.compile(r"This session ends in 0:[0-4]\d\."))
    said = page.get_by_role("status").filter(has_text="This session ends in 1 min.")
    expect(said).to_have_count(1)
    expect(page.locator("#failure-title")).to_have_text("The job ran out of time")
    expect(page.locator("#connection")).to_have_text("Ended")
    expect(ending).to_be_hidden()
