"""What a person sees whose application has several clusters, some of which take no sessions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.browser import driver
from tests.serviceprocess import ServiceProcess

pytestmark = pytest.mark.browser
DRAINED = "Alpha takes no new sessions: new disks until Monday. Those that run there go on."


@pytest.fixture
def browser() -> Iterator[Browser]:
    with driver.chromium() as browser:
        yield browser


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    """A drained cluster, a free one and a full one; applications on one, two and all of them."""

    def application(title: str, *clusters: str, **more: Any) -> dict[str, Any]:
        base = {"template": "command.sh", "properties": {"program": "/bin/true"}}
        return base | {"title": title, "cluster": list(clusters)} | more

    about = {"description": "Streamlines of a flow, drawn on a node of the cluster."}
    config = {
        "server": {"port": 0, "state_dir": str(tmp_path / "state")},
        "clusters": {
            "a": {"scheduler": "local", "title": "Alpha", "drain": "new disks until Monday"},
            "b": {"scheduler": "local", "title": "Beta"},
            "c": {"scheduler": "local", "title": "Gamma <b>", "drain": "a test of </ul>"},
        },
        "applications": {
            "shut": application("Isosurfaces", "a", **about),
            "open": application("Volume", "b", properties={"program": "/bin/ls"}, **about),
            "some": application("Flow", "a", "b", cluster_by_request=True, **about),
            "none": application("Slices", "a", "c", **about),
        },
    }
    with ServiceProcess(tmp_path, config, "--end-sessions") as service:
        yield service


def test_each_application_says_what_keeps_sessions_away(
    service: ServiceProcess, browser: Browser
) -> None:
    page = browser.new_page()
    driver.open_portal(page, service.url)
    expect(page.locator("#card-shut .notices li")).to_have_text([DRAINED])
    expect(page.locator("#card-open .notices")).to_be_hidden()
    expect(page.locator("#card-some .notices li")).to_have_text([DRAINED])
    expect(page.locator("#card-none .notices li")).to_have_text(
        [
            DRAINED,
            "Gamma <b> takes no new sessions: a test of </ul>. Those that run there go on.",
        ]
    )
    for name, shut in {"shut": True, "some": False, "none": True}.items():
        assert ("shut" in (page.get_attribute(f"#card-{name} .notices", "class") or "")) is shut


def test_who_may_choose_a_cluster_sees_how_soon_each_would_start(
    service: ServiceProcess, browser: Browser
) -> None:
    page = browser.new_page()
    driver.open_portal(page, service.url)
    options = page.locator("#cluster-some option")
    expect(options).to_have_text(["Any of these", "Alpha", "Beta, at once"])
    expect(page.locator("#cluster-open")).to_have_count(0)
    page.select_option("#cluster-some", "a")
    assert '"cluster":"a"' in (page.text_content("#curl-some") or "")
    page.click("#launch-some")
    expect(page.locator("#failure-text")).to_contain_text(DRAINED)


def test_a_look_at_the_clusters_that_fails_leaves_the_page_usable(
    service: ServiceProcess, browser: Browser
) -> None:
    page = browser.new_page()
    page.route("**/paraview/applications", lambda route: route.abort())
    driver.open_portal(page, service.url)
    expect(page.locator("#card-shut .notices")).to_be_hidden()
    page.click("#launch-shut")
    expect(page.locator("#failure-text")).to_contain_text(DRAINED)
    expect(page.locator("#facts")).to_be_hidden()  # there is no job to tell of


def test_what_a_failed_application_said_stands_below_what_happened(
    service: ServiceProcess, browser: Browser
) -> None:
    page = browser.new_page()
    driver.press_launch(page, service.url, "open")
    expect(page.locator("#failure-text")).to_have_text(
        "The application ended before it was ready: exit status 2."
    )
    expect(page.locator("#failure-log-title")).to_have_text("The last lines of its output:")
    expect(page.locator("#failure-log")).to_contain_text("unrecognized option")
    expect(page.locator("#fact-job")).to_have_text("1")
