"""A session's own address where users log in: opened by a ticket once, then by a cookie."""

import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from hpcbridge.auth import tickets
from hpcbridge.auth.tickets import Tickets
from hpcbridge.frontends.admission import TICKET
from hpcbridge.store import SessionRow, Store
from tests.usersite import audited, auth, bearer, named

from .test_embedded_users import ECHO

servers = pytest.mark.servers
ID = "ab" * 20


@pytest.fixture
def start(site: Any, serve: Callable[..., Any]) -> Callable[..., Any]:
    """Starts the service; users come by these ways."""

    def run(*accept: str, **frontend: Any) -> Any:
        program = site.program("echo", f"#!{sys.executable} -SE\n{ECHO}")
        cone = {
            "properties": {"program": program},
            "viewer": "page",
            "page_path": "/lab?a=1",
            "inject": {"headers": {"Authorization": "token ${secret}"}},
        }
        site.write(auth=auth(site, *accept), applications={"cone": cone}, frontend=frontend)
        return serve("--end-sessions")

    return run


def launch(service: Any, user: str) -> dict[str, Any]:
    reply = service.post({"application": "cone"}, headers=named(user))
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


class Browser:
    """Keeps one address's cookies; names its user nowhere, as browsers do."""

    def __init__(self, service: Any, page: str) -> None:
        self.service = service
        self.page = urlsplit(page)
        self.cookies: dict[str, str] = {}

    def get(self, target: str, method: str = "GET", **headers: str) -> httpx.Response:
        sent = {"Host": self.page.netloc} | headers
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{key}={value}" for key, value in self.cookies.items())
        reply = self.service.http.request(method, target, headers=sent, follow_redirects=False)
        self.service.http.cookies.clear()  # each browser has its own
        for each in reply.headers.get_list("set-cookie"):
            name, _, value = each.partition(";")[0].partition("=")
            self.cookies[name] = value
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)

    def open(self) -> httpx.Response:
        return self.get(f"{self.page.path}?{self.page.query}")


@servers
def test_a_ticket_opens_the_session_once_and_leaves_a_cookie(
    site: Any, start: Callable[..., Any]
) -> None:
    service = start("header")
    reply = launch(service, "alice")
    browser = Browser(service, reply["page"])
    assert browser.page.hostname == f"{reply['id']}.localhost"
    assert browser.page.path == "/lab"
    assert reply["secret"] not in reply["page"]
    assert browser.get("/lab").status_code == 404  # before
    opened = browser.open()
    assert (opened.status_code, opened.headers["location"]) == (303, "/lab?a=1")
    cookie = opened.headers["set-cookie"]
    assert cookie.startswith("hpcbridge=")
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Lax")
    assert opened.headers["cache-control"] == "no-store"
    assert opened.headers["referrer-policy"] == "no-referrer"
    seen = browser.get("/lab?a=1", Referer="http://portal/")
    assert seen.status_code == 200
    assert f"authorization: token {reply['secret']}" in seen.text.lower()
    assert "hpcbridge=" not in seen.text
    assert "referer" not in seen.text.lower()
    # Used up: for somebody else it opens nothing, and who has the cookie goes on.
    assert Browser(service, reply["page"]).open().status_code == 404
    assert browser.open().headers["location"] == "/lab?a=1"
    # What an attacker may know of it opens nothing.
    for ticket in ("x", "1.2.3.4", browser.cookies["hpcbridge"]):
        assert (
            Browser(service, "")
            .service.http.get(f"/lab?{TICKET}={ticket}", headers={"Host": browser.page.netloc})
            .status_code
            == 404
        )
    assert service.stop() == 0
    log = (site.root / "audit.jsonl").read_text()
    assert TICKET not in log


@servers
def test_only_the_owner_and_operators_get_one(start: Callable[..., Any]) -> None:
    service = start("header", "token")
    reply = launch(service, "alice")
    path = f"/paraview/{reply['id']}"
    for user, expected in (("alice", 200), ("olga", 200), ("bob", 404)):
        opened = service.http.get(f"{path}/open", headers=named(user), follow_redirects=False)
        assert opened.status_code == (303 if expected == 200 else 404)
        told = service.http.get(path, headers=named(user))
        assert told.status_code == expected
        if expected == 200:
            browser = Browser(service, told.json()["page"])
            assert browser.open().status_code == 303
            assert browser.get("/lab").status_code == 200
            fresh = Browser(service, opened.headers["location"])
            assert fresh.open().status_code == 303
    # Who names no user has nothing to show, where tokens are accepted, too.
    host = {"Host": urlsplit(reply["page"]).netloc}
    assert service.http.get("/lab", headers=host).status_code == 404
    assert service.http.get("/lab", headers=host | named("bob")).status_code == 404
    assert service.http.get("/lab", headers=host | named("alice")).status_code == 200
    wrong = bearer("hpcb_" + "0" * 12 + "_" + "0" * 64)
    assert service.http.get("/lab", headers=host | wrong).status_code == 404
    # A cookie is its session's alone, and does not outvote who the front end says it is.
    mine = Browser(service, launch(service, "alice")["page"])
    mine.open()
    theirs = Browser(service, launch(service, "bob")["page"])
    theirs.cookies = mine.cookies
    assert theirs.get("/lab").status_code == 404
    assert mine.get("/lab", **named("bob")).status_code == 404
    assert mine.get("/lab", Authorization="Bearer of-the-application").status_code == 200
    assert service.stop() == 0


@servers
def test_over_tls_the_cookie_is_one_that_nobody_else_can_set(
    site: Any, start: Callable[..., Any]
) -> None:
    service = start("header")
    reply = launch(service, "alice")
    told = service.http.get(
        f"/paraview/{reply['id']}", headers=named("alice", **{"X-Forwarded-Proto": "https"})
    ).json()
    assert told["page"].startswith(f"https://{reply['id']}.localhost")
    browser = Browser(service, told["page"])
    https = {"X-Forwarded-Proto": "https"}
    opened = browser.get(f"{browser.page.path}?{browser.page.query}", **https)
    assert opened.headers["set-cookie"].startswith("__Host-hpcbridge=")
    assert opened.headers["set-cookie"].endswith("; Path=/; HttpOnly; SameSite=Lax; Secure")
    assert browser.get("/lab", **https).status_code == 200
    browser.cookies = {"hpcbridge": browser.cookies["__Host-hpcbridge"]}
    assert browser.get("/lab", **https).status_code == 404  # anybody could have set that one
    refused = [line for line in audited(site) if line["what"] == "visit"]
    assert refused == []  # who says nothing is nobody
    assert service.stop() == 0


@servers
def test_at_a_path_the_cookie_is_that_paths(start: Callable[..., Any]) -> None:
    service = start("header", session_address="path", trust_applications=True)
    reply = launch(service, "alice")
    browser = Browser(service, reply["page"])
    assert browser.page.path == f"/session/{reply['id']}/lab"
    opened = browser.open()
    assert opened.headers["location"] == f"/session/{reply['id']}/lab?a=1"
    assert f"Path=/session/{reply['id']}/; HttpOnly" in opened.headers["set-cookie"]
    seen = browser.get(f"/session/{reply['id']}/lab", Cookie="sso=secret")
    assert seen.status_code == 200
    assert "cookie" not in seen.text.lower()
    assert service.stop() == 0


@pytest.fixture
async def row() -> SessionRow:
    return SessionRow(id=ID, secret="5e" * 24, application="a", cluster="c", job_name="j")


async def test_tickets_are_for_one_session_one_user_and_a_minute(
    site: Any, row: SessionRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, another = [
        await Store.open(f"sqlite+aiosqlite:///{site.root}/db") for _ in ("one", "replica")
    ]
    try:
        made = Tickets(store)
        ticket = made.ticket(row, "alice@example.org")
        assert await made.redeem(row, ticket) == "alice@example.org"
        assert await made.redeem(row, ticket) is None
        assert await Tickets(another).redeem(row, ticket) is None
        assert made.user(row, ticket) is None  # no cookie
        cookie = made.cookie(row, "bob")
        assert await made.redeem(row, cookie) is None  # no ticket
        other = SessionRow(**row.model_dump() | {"id": "cd" * 20})
        ended = SessionRow(**row.model_dump() | {"secret": None})
        handed_over = SessionRow(**row.model_dump() | {"secret": "6f" * 24})
        assert made.user(row, cookie) == "bob"
        for each in (other, ended, handed_over):
            assert made.user(each, cookie) is None
        late = made.ticket(row, "alice")
        for number in range(len(late)):
            forged = late[:number] + ("A" if late[number] != "A" else "B") + late[number + 1 :]
            assert await made.redeem(row, forged) is None
        for text in ("", ".", "...", "é", "1.2", f"{late}.", "-1..." + "0" * 64):
            assert await made.redeem(row, text) is None
        now = time.time()
        monkeypatch.setattr(tickets.time, "time", lambda: now + tickets.TICKET_LASTS + 2)
        assert await made.redeem(row, late) is None
        assert made.user(row, cookie) == "bob"
        monkeypatch.setattr(tickets.time, "time", lambda: now + tickets.COOKIE_LASTS + 2)
        assert made.user(row, cookie) is None
    finally:
        await store.close()
        await another.close()
