"""The list of sessions: live and ended ones, page by page, each to who may see it."""

import base64
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hpcbridge.auth.identity import Scope
from hpcbridge.auth.tokens import Tokens
from hpcbridge.schedulers.base import EndReason
from hpcbridge.store import SessionRow, State
from tests.replies import refusal
from tests.site import Launch, Launcher
from tests.usersite import audited, auth, bearer, client, named

CONE = {"application": "cone"}
NOW = time.time()


def row(number: int, **columns: Any) -> SessionRow:
    """A session that ended; the higher its number, the older it is."""
    given: dict[str, Any] = {
        "id": f"{number:040x}",
        "job_name": f"hpcb-01234567-{number:024x}",
        "application": "cone",
        "cluster": "here",
        "user": "alice",
        "state": State.ENDED,
        "reason": EndReason.FINISHED,
        "job_ended": True,
        "submitting_at": NOW - 10 * number - 1000,
        "ended_at": NOW - 10 * number - 995,
    }
    return SessionRow(**(given | columns))


@pytest.fixture
async def api(site: Any, launcher: Launch) -> AsyncIterator[Launcher]:
    """A launcher whose front end names users, and which takes tokens."""
    secret = {"type": "str", "default": "", "secret": True}
    parameters = {"tuned": {"parameters": {"password": secret}}}
    async with launcher(auth=auth(site, "header", "token"), applications=parameters) as started:
        yield started


async def fill(api: Launcher, *rows: SessionRow) -> None:
    for each in rows:
        await api.sessions.store.add(each)


async def listed(api: Launcher, user: str, **query: Any) -> dict[str, Any]:
    async with client(api, named(user)) as somebody:
        reply = await somebody.get("/paraview", params=query)
        assert reply.status_code == 200, reply.text
        return dict(reply.json())


def numbers(reply: dict[str, Any]) -> list[int]:
    return [int(each["id"], 16) for each in reply["sessions"]]


async def test_what_has_ended_is_told_with_all_that_launches_it_again(api: Launcher) -> None:
    posted = {"application": "tuned", "level": "5", "password": "hunter2"}
    async with client(api, named("alice")) as alice:
        begun = (await alice.post("/paraview", json=posted)).json()
        shown = {"file": "a.vtu", "level": 5}
        live = (await alice.get("/paraview")).json()
        assert [each["parameters"] for each in live["sessions"]] == [shown]
        assert [each["owner"] for each in live["sessions"]] == ["alice"]
        await alice.delete(f"/paraview/{begun['id']}")
        async with client(api, named("alice")) as again:
            await again.get(f"/paraview/{begun['id']}/events")
        assert (await alice.get("/paraview")).json()["sessions"] == []
        reply = await alice.get("/paraview?state=ended")
    assert "hunter2" not in reply.text
    (ended,) = reply.json()["sessions"]
    assert ended["id"] == begun["id"]
    assert (ended["state"], ended["reason"]) == ("ended", "stopped")
    assert (ended["application"], ended["cluster"]) == ("tuned", "here")
    assert {"submitting", "queued", "starting", "ready", "ended"} == set(ended["times"])
    assert ended["job_id"]
    assert ended["parameters"] == shown
    assert "secret" not in ended


async def test_a_failure_is_told_with_its_words_and_its_exit_status(api: Launcher) -> None:
    async with client(api, named("alice")) as alice:
        await alice.post("/paraview", json={"application": "crash"})
        (ended,) = (await alice.get("/paraview?state=ended")).json()["sessions"]
    assert (ended["reason"], ended["exit_status"]) == ("failed", 7)
    assert "cannot open display: mist" in ended["error"]


async def test_the_name_of_an_uploaded_file_comes_back_and_not_its_path(
    site: Any, launcher: Launch, directory: Any
) -> None:
    upload = {"type": "str", "upload": True, "default": ""}
    sections: dict[str, Any] = {
        "auth": auth(site),
        "uploads": {"directory": str(directory / "uploads/{user}")},
        "applications": {"tuned": {"parameters": {"file": None, "scene": upload}}},
    }
    async with launcher(**sections) as api, client(api, named("alice")) as alice:
        await alice.put("/paraview/uploads/disk.vtu", content=b"points")
        posted = {"application": "tuned", "scene": "disk.vtu"}
        assert (await alice.post("/paraview", json=posted)).status_code == 200
        reply = await alice.get("/paraview")
        assert reply.json()["sessions"][0]["parameters"] == {"level": 3, "scene": "disk.vtu"}
        assert str(directory) not in reply.text


async def test_pages_follow_one_another_without_a_gap_and_without_repeats(api: Launcher) -> None:
    """Also where many were launched in one moment, and new ones come meanwhile."""
    same = {"submitting_at": NOW - 500.25}
    await fill(api, *(row(number) for number in range(7)))
    await fill(api, *(row(number, **same) for number in range(10, 15)))
    seen: list[int] = []
    before: dict[str, str] = {}
    pages = 0
    while True:
        reply = await listed(api, "alice", state="all", limit=3, **before)
        seen += numbers(reply)
        pages += 1
        await fill(api, row(100 + pages, submitting_at=NOW + pages))
        if reply["next"] is None:
            break
        assert len(reply["sessions"]) == 3
        before = {"before": reply["next"]}
    assert seen == [14, 13, 12, 11, 10, *range(7)]
    assert pages == 4


async def test_a_last_page_that_is_full_says_that_it_is_the_last(api: Launcher) -> None:
    await fill(api, row(1), row(2))
    assert (await listed(api, "alice", state="ended", limit=2))["next"] is None
    assert (await listed(api, "alice", state="ended", limit=1))["next"] is not None
    assert (await listed(api, "bob", state="ended"))["next"] is None


async def test_filters_go_together(api: Launcher) -> None:
    await fill(
        api,
        row(1, application="cone", cluster="here"),
        row(2, application="cone", cluster="there"),
        row(3, application="tuned", cluster="here"),
        row(4, application="cone", cluster="here", user="bob"),
    )
    alive = [
        row(number, user=user, state=State.QUEUED, reason=None, ended_at=None, job_ended=False)
        for number, user in ((5, "alice"), (6, "bob"))
    ]
    await fill(api, *alive)
    for query, expected in (
        ({}, [5, 6]),
        ({"state": "ended"}, [1, 2, 3, 4]),
        ({"state": "all"}, [1, 2, 3, 4, 5, 6]),
        ({"state": "all", "owner": "bob"}, [4, 6]),
        ({"state": "live", "owner": "bob"}, [6]),
        ({"state": "all", "application": "cone"}, [1, 2, 4, 5, 6]),
        ({"state": "ended", "application": "cone", "cluster": "here"}, [1, 4]),
        ({"state": "ended", "cluster": "there"}, [2]),
        ({"state": "live", "application": "cone", "cluster": "here", "owner": "bob"}, [6]),
        ({"state": "all", "application": "no such"}, []),
        ({"state": "all", "owner": ""}, [1, 2, 3, 4, 5, 6]),
    ):
        assert numbers(await listed(api, "olga", **query)) == expected, query
    assert numbers(await listed(api, "alice", state="all")) == [1, 2, 3, 5]
    assert numbers(await listed(api, "alice", state="all", owner="alice")) == [1, 2, 3, 5]
    for each in alive:  # there is no job to end
        await api.sessions.store.update(each, state=State.ENDED, job_ended=True)


async def test_others_sessions_are_listed_for_operators_alone(site: Any, api: Launcher) -> None:
    """A cursor of another's list opens nothing either."""
    await fill(api, row(1, user="bob"), row(2, user="bob"), row(3))
    foreign = (await listed(api, "olga", state="all", owner="bob", limit=1))["next"]
    assert numbers(await listed(api, "alice", state="all", before=foreign)) == [3]
    async with client(api, named("alice")) as alice:
        reply = await alice.get("/paraview?state=all&owner=bob")
        assert "only operators" in refusal(reply, 403)
    assert audited(site)[-1]["user"] == "alice"
    assert audited(site)[-1]["result"] == "refused"
    tokens = Tokens(api.sessions.store)
    _, reading = await tokens.create("olga", [Scope.READ], lasts=60)
    async with client(api, bearer(reading)) as olga:  # an operator, by a token for her own
        assert (await olga.get("/paraview?state=all")).json()["sessions"] == []
        refusal(await olga.get("/paraview?owner=bob"), 403)
    _, launching = await tokens.create("alice", [Scope.LAUNCH], lasts=60)
    async with client(api, bearer(launching)) as alice:
        assert "'read'" in refusal(await alice.get("/paraview?state=ended"), 403)


WRONG = [
    ("limit=0", "limit"),
    ("limit=1001", "limit"),
    ("limit=many", "limit"),
    ("state=dead", "state"),
    ("owner=a%00b", "owner"),
    ("cluster=" + "x" * 65, "cluster"),
    ("before=" + "A" * 129, "before"),
    ("before=%C3%A9", "before"),
    ("before=A", "before"),
    *(
        ("before=" + base64.urlsafe_b64encode(text).decode(), "before")
        for text in (b"nan hpcb-1", b"1.5", b"1e400 hpcb-1", b"1.5 hpcb'--", b"\xff 1", b"-1 a")
    ),
]


async def test_a_wrong_question_is_told_what_is_wrong(api: Launcher) -> None:
    async with client(api, named("olga")) as olga:
        for query, said in WRONG:
            assert said in refusal(await olga.get(f"/paraview?{query}"), 400), query
