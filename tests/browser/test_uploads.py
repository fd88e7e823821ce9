"""Somebody sends files through the page: sees how far it is, what is there, what goes wrong."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser import driver
from tests.site import Service

pytestmark = pytest.mark.browser
MIB = 2**20


@pytest.fixture
def service(site: Any, serve: Any) -> Service:
    file = {"type": "str", "upload": True, "title": "Data", "default": None}
    site.write(
        uploads={"directory": str(site.root / "uploads"), "file_limit": 8},
        applications={"tuned": {"parameters": {"file": file}}},
    )
    found: Service = serve("--end-sessions")
    return found


@pytest.fixture
def page(service: Service) -> Iterator[Page]:
    with driver.chromium() as browser:
        page = browser.new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        driver.open_portal(page, service.url)
        yield page
        assert wrong == []


def send(page: Page, name: str, content: bytes) -> None:
    page.set_input_files(
        "#files-choose", {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    )


def test_a_file_is_uploaded_listed_chosen_replaced_and_deleted(page: Page, site: Any) -> None:
    folder = site.root / "uploads"
    expect(page.get_by_label("Upload files")).to_be_enabled()
    expect(page.locator("#files-limit")).to_have_text(" (up to 8 MiB each)")
    send(page, "-größe (1).vtu", b"x" * (3 * MIB))
    expect(page.get_by_role("status").filter(has_text="is uploaded")).to_be_visible()
    item = page.locator("#files-list li")
    expect(item).to_have_count(1)
    expect(item).to_contain_text("_große _1_.vtu".replace("ß", "_"))
    expect(item).to_contain_text("3 MiB")
    (file,) = folder.iterdir()
    assert file.stat().st_size == 3 * MIB
    assert page.evaluate("document.activeElement.id") == "files-choose"

    page.select_option("#param-tuned-file", file.name)
    expect(page.locator("#curl-tuned")).to_contain_text(file.name)

    send(page, file.name, b"new")
    expect(page.locator("#files-question")).to_contain_text("is there already. Replace it?")
    page.keyboard.press("Enter")  # "Keep it" has the focus
    expect(page.locator("#files-ask")).to_be_hidden()
    assert file.stat().st_size == 3 * MIB
    expect(page.locator("#files-choose")).to_be_enabled()
    send(page, file.name, b"new")
    page.get_by_role("button", name="Replace").click()
    expect(item).to_contain_text("3 bytes")
    assert file.read_bytes() == b"new"
    expect(page.locator("#param-tuned-file")).to_have_value(file.name)

    page.get_by_role("button", name=f"Delete {file.name}").click()
    page.locator("#files-yes").click()
    expect(item).to_have_count(0)
    assert not list(folder.iterdir())
    assert page.evaluate("document.activeElement.id") == "files-title"


def test_how_far_it_is_is_shown_and_it_can_be_cancelled(
    page: Page, service: Service, site: Any
) -> None:
    """Over a line of 100 kB a second."""
    expect(page.locator("#files-limit")).not_to_be_empty()
    network = page.context.new_cdp_session(page)
    line = {"offline": False, "latency": 0, "downloadThroughput": -1}
    network.send("Network.enable")
    network.send("Network.emulateNetworkConditions", {**line, "uploadThroughput": 100_000})
    send(page, "slow.vtu", b"x" * (7 * MIB))
    expect(page.get_by_label("Sending slow.vtu")).to_be_visible()
    page.wait_for_function("() => document.getElementById('files-bar').value > 0")
    assert page.evaluate("document.getElementById('files-bar').value") < 1
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("alert").filter(has_text="was cancelled")).to_be_visible()
    expect(page.locator("#files-sending")).to_be_hidden()
    assert service.http.get("/paraview/uploads").json()["files"] == []


def test_what_the_service_refuses_is_told_in_its_words(page: Page, service: Service) -> None:
    expect(page.locator("#files-limit")).not_to_be_empty()
    send(page, "big.vtu", b"x" * (9 * MIB))
    problem = page.locator("#files-problem")
    expect(problem).to_contain_text("big.vtu has 9 MiB; 8 MiB is the most.")
    # Somebody else's tab was quicker.
    service.http.put("/paraview/uploads/a.vtu", content=b"x").raise_for_status()
    send(page, "a.vtu", b"y")
    expect(problem).to_contain_text("There is a file 'a.vtu' already")
    expect(page.locator("#files-choose")).to_be_enabled()
