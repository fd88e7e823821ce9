"""Where there are no users, a browser finds what it launched by a cookie, and nobody else does."""

import re
import secrets
import sqlite3
from typing import Any

import httpx
import pytest

from hpcbridge.auth.visitors import set_cookie
from tests.site import Launch
from tests.usersite import auth, client, named

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONE = {"application": "cone"}
NO_WAIT = {"Prefer": "respond-async"}
OURS = {"Origin": "http://portal.example.org", "Sec-Fetch-Site": "same-origin"}
COOKIE = re.compile(r"hpcbridge_visitor=([A-Za-z0-9_-]{43}); ")


async def cookie_of(browser: httpx.AsyncClient) -> str:
    """Look at the portal, and have its cookie from then on."""
    found = COOKIE.match((await browser.get("/")).headers["set-cookie"])
    assert found
    return found[1]


async def listed(browser: httpx.AsyncClient, **headers: str) -> list[dict[str, Any]]:
    reply = await browser.get("/paraview", headers=headers)
    assert reply.status_code == 200
    found: list[dict[str, Any]] = reply.json()["sessions"]
    return found


async def begun(browser: httpx.AsyncClient, **headers: str) -> str:
    reply = await browser.post("/paraview", json=CONE, headers=NO_WAIT | OURS | headers)
    assert reply.status_code == 202
    return str(reply.json()["id"])


async def test_a_browser_is_told_of_what_it_launched(shared_api: Any) -> None:
    async with client(shared_api) as browser:
        value = await cookie_of(browser)
        begun_here = [await begun(browser), await begun(browser)]
        assert {each["id"] for each in await listed(browser)} == set(begun_here)
        assert await cookie_of(browser) == value
    async with client(shared_api, {"Cookie": f"a=b; hpcbridge_visitor={value}"}) as another_tab:
        assert {each["id"] for each in await listed(another_tab)} == set(begun_here)


async def test_a_browser_is_told_of_what_has_ended(shared_api: Any) -> None:
    async with client(shared_api) as browser, client(shared_api) as other:
        for each in (browser, other):
            await cookie_of(each)
        session = await begun(browser)
        await browser.delete(f"/paraview/{session}", headers=OURS)
        await browser.get(f"/paraview/{session}/events")  # until its end
        assert await listed(browser) == []
        for query, found in (("ended", [session]), ("all", [session]), ("live", [])):
            reply = (await browser.get(f"/paraview?state={query}")).json()
            assert [each["id"] for each in reply["sessions"]] == found
        for query in ("?state=all", "?state=ended&owner=", "?state=all&owner=alice"):
            assert (await other.get(f"/paraview{query}")).json()["sessions"] == []


async def test_nobody_elses_browser_is_told_of_a_session(shared_api: Any) -> None:
    async with client(shared_api) as browser, client(shared_api) as other:
        await cookie_of(browser)
        mine = await begun(browser)
        assert await cookie_of(other) != await cookie_of(browser)
        theirs = await begun(other)
        assert [each["id"] for each in await listed(other)] == [theirs]
        assert [each["id"] for each in await listed(browser)] == [mine]
    async with client(shared_api) as program:
        assert await listed(program) == []


@pytest.mark.parametrize(
    "value",
    ["", "x", "a" * 43, "aZ09_-" * 7 + "b", "%", "' OR 1=1 --", "\xff" * 43, "null"],
)
async def test_a_cookie_that_was_not_given_lists_nothing(shared_api: Any, value: str) -> None:
    async with client(shared_api) as browser:
        await cookie_of(browser)
        await begun(browser)
    cookie = f"hpcbridge_visitor={value}".encode("latin-1")
    async with client(shared_api, [(b"Cookie", cookie)]) as forger:
        assert await listed(forger) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://portal.example.org:8080"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://portal.example.org"},
    ],
)
async def test_pages_of_other_sites_act_for_no_visitor(
    shared_api: Any, headers: dict[str, str]
) -> None:
    async with client(shared_api) as browser:
        await cookie_of(browser)
        mine = await begun(browser)
        assert await listed(browser, **headers) == []
        assert [each["id"] for each in await listed(browser, **OURS)] == [mine]


async def test_the_list_has_no_secret(shared_api: Any) -> None:
    async with client(shared_api) as browser:
        await cookie_of(browser)
        reply = await browser.post("/paraview", json=CONE, headers=OURS)
        secret = reply.json()["secret"]
        (found,) = await listed(browser)
        assert found["state"] == "ready"
        assert "secret" not in found
        text = (await browser.get("/paraview")).text
        assert secret not in text
        assert "visitor" not in text


async def test_the_database_has_no_cookie(launcher: Launch, site: Any) -> None:
    async with launcher() as api, client(api) as browser:
        value = await cookie_of(browser)
        session = await begun(browser)
        digest = (await api.row(session)).visitor
        assert digest
        assert value not in digest
    with sqlite3.connect(site.state_dir / "hpcbridge.sqlite") as database:
        text = "\n".join(database.iterdump())
    assert digest in text
    assert value not in text


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_cookie_is_as_closed_as_a_cookie_can_be(scheme: str) -> None:
    name, _, rest = set_cookie([], scheme).partition("=")
    secure = scheme == "https"
    assert name == ("__Host-hpcbridge_visitor" if secure else "hpcbridge_visitor")
    attributes = rest.split("; ")[1:]
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(attributes)
    assert ("Secure" in attributes) is secure
    assert not [each for each in attributes if each.startswith("Domain")]


async def test_a_cookie_that_another_host_could_have_set_is_not_kept_over_tls() -> None:
    planted = secrets.token_urlsafe(32)
    assert planted not in set_cookie(
        [(b"cookie", b"hpcbridge_visitor=" + planted.encode())], "https"
    )
    kept = [(b"cookie", f"hpcbridge_visitor=x; __Host-hpcbridge_visitor={planted}".encode())]
    assert planted in set_cookie(kept, "https")


async def test_where_there_are_users_no_browser_gets_a_cookie(site: Any, launcher: Launch) -> None:
    async with launcher(auth=auth(site)) as api, client(api, named("alice")) as alice:
        reply = await alice.get("/")
        assert reply.status_code == 200
        assert "set-cookie" not in reply.headers


async def test_the_page_that_sets_a_cookie_is_kept_by_no_cache(shared_api: Any) -> None:
    async with client(shared_api) as browser:
        assert (await browser.get("/")).headers["cache-control"] == "no-store"


async def test_two_browsers_of_one_address_that_ask_alike_get_a_session_each(
    launcher: Launch,
) -> None:
    """A session whose client was told to ask again is for the same browser alone."""
    slow = {"application": "late"}
    async with (
        launcher(applications={"late": {"hold": 0.1}}) as api,
        client(api) as browser,
        client(api) as other,
    ):
        for each in (browser, other):
            await cookie_of(each)
        first = await browser.post("/paraview", json=slow, headers=OURS)
        assert first.status_code == 503
        theirs = await other.post("/paraview", json=slow, headers=OURS)
        assert theirs.json()["id"] != first.json()["id"]
        again = await browser.post("/paraview", json=slow, headers=OURS)
        assert again.json()["id"] == first.json()["id"]
        assert [each["id"] for each in await listed(other)] == [theirs.json()["id"]]
