"""Operators announce and drain: at once, for all, without a restart, and nobody else does."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from hpcbridge.auth.identity import Scope
from hpcbridge.auth.tokens import Tokens
from tests.replies import refusal
from tests.site import Launch, Launcher
from tests.usersite import audited, auth, bearer, client, named

CONE = {"application": "cone"}
TUNED = {"application": "tuned"}
NO_WAIT = {"Prefer": "respond-async"}
PATH = "/paraview/announcements"
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
async def api(site: Any, launcher: Launch) -> AsyncIterator[Launcher]:
    titles = {"cone": {"title": "A cone"}}
    async with launcher(auth=auth(site, "header", "token"), applications=titles) as started:
        yield started


async def say(api: Launcher, about: str, user: str = "olga", **said: Any) -> Any:
    async with client(api, named(user)) as somebody:
        return await somebody.put(f"{PATH}/{about}", json=said)


async def withdraw(api: Launcher, about: str) -> Any:
    async with client(api, named("olga")) as olga:
        return await olga.delete(f"{PATH}/{about}")


async def launch(api: Launcher, body: dict[str, str]) -> Any:
    async with client(api, named("alice")) as alice:
        return await alice.post("/paraview", json=body, headers=NO_WAIT)


async def catalogue(api: Launcher) -> dict[str, Any]:
    async with client(api, named("alice")) as alice:
        return dict((await alice.get("/paraview/applications")).json())


async def test_all_are_told_and_operators_by_whom(api: Launcher) -> None:
    assert (await say(api, "site", text=f" Tea at four {SCRIPT} ")).status_code == 200
    await say(api, "cluster/here", text="A second GPU")
    reply = await say(api, "cluster/here", text="A third GPU")  # in the place of the second
    announced = reply.json()["announcements"]
    assert [(each["about"], each["name"], each["text"], each["by"]) for each in announced] == [
        ("cluster", "here", "A third GPU", "olga"),
        ("site", "", f"Tea at four {SCRIPT}", "olga"),
    ]
    seen = (await catalogue(api))["announcements"]
    assert [each["text"] for each in seen] == ["A third GPU", f"Tea at four {SCRIPT}"]
    assert not any(each.get("by") for each in seen)
    async with client(api, named("alice")) as alice:
        listed = (await alice.get(PATH)).json()["announcements"]
    assert not any(each.get("by") for each in listed)
    assert (await launch(api, CONE)).status_code == 202  # nothing is drained


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        ("site", "No new sessions begin now: new disks. Those that run go on."),
        ("application/cone", "A cone takes no new sessions: new disks. Those that run go on."),
        ("cluster/here", "here takes no new sessions: new disks. Those that run there go on."),
    ],
)
async def test_what_is_drained_refuses_with_the_reason_and_ends_nothing(
    api: Launcher, about: str, sentence: str
) -> None:
    running = (await launch(api, CONE)).json()["id"]
    assert (await say(api, about, text="new disks", drain=True)).status_code == 200
    assert sentence in refusal(await launch(api, CONE), 503)
    other = await launch(api, TUNED)
    assert other.status_code == (202 if about == "application/cone" else 503)
    cone = (await catalogue(api))["applications"][0]
    told = [cone["notice"], *(each["notice"] for each in cone["clusters"])]
    assert [each for each in told if each] == [sentence]
    assert (await api.row(running)).state != "ended"
    assert (await withdraw(api, about)).status_code == 200
    assert (await launch(api, CONE)).status_code == 202


async def test_a_reason_is_told_as_it_was_written(api: Launcher) -> None:
    await say(api, "site", text="rooms {} and {0}", drain=True)
    assert "rooms {} and {0}" in refusal(await launch(api, CONE), 503)


async def test_a_drain_needs_no_reason_and_a_restart_ends_none(site: Any, launcher: Launch) -> None:
    section = auth(site)
    async with launcher(auth=section) as api:
        await say(api, "application/cone", drain=True)
    async with launcher(auth=section) as api:
        error = refusal(await launch(api, CONE), 503)
        assert error.startswith("cone takes no new sessions. Those that run go on.")


async def test_nobody_but_operators_announces_or_withdraws(api: Launcher, site: Any) -> None:
    await say(api, "site", text="Tea")
    launches = (Scope.LAUNCH, Scope.READ, Scope.STOP)
    tokens = Tokens(api.sessions.store)
    without = (await tokens.create("olga", launches, lasts=60))[1]
    operating = (await tokens.create("olga", (Scope.OPERATE,), lasts=60))[1]
    claimed = (await tokens.create("alice", (Scope.OPERATE,), lasts=60))[1]
    evil = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    for headers, status in (
        ({}, 401),
        (named("alice"), 403),
        (bearer(without), 403),
        (bearer(claimed), 403),
        (named("olga") | evil, 403),
    ):
        async with client(api, headers) as somebody:
            refusal(await somebody.put(f"{PATH}/site", json={"text": "x"}), status)
            refusal(await somebody.delete(f"{PATH}/site"), status)
    assert [each["text"] for each in (await catalogue(api))["announcements"]] == ["Tea"]
    refusals = [each for each in audited(site) if each["result"] == "refused"]
    assert {each.get("user") for each in refusals} == {"alice", "olga"}
    async with client(api, bearer(operating)) as program:
        assert (await program.put(f"{PATH}/site", json={"text": "y"})).status_code == 200


async def test_without_users_nobody_is_an_operator(launcher: Launch) -> None:
    async with launcher() as api, client(api) as anybody:
        error = refusal(await anybody.put(f"{PATH}/site", json={"text": "x"}), 403)
        assert "hpcbridge announce" in error
        assert (await anybody.get(PATH)).json() == {"announcements": []}


async def test_what_was_said_and_by_whom_is_in_the_audit_log(api: Launcher, site: Any) -> None:
    await say(api, "application/cone", text=f"new disks {SCRIPT}", drain=True)
    await withdraw(api, "application/cone")
    refusal(await withdraw(api, "application/cone"), 400)
    lines = [each for each in audited(site) if each.get("about")]
    assert [(each["what"], each["result"], each["user"]) for each in lines] == [
        ("drain", "done", "olga"),
        ("withdraw", "done", "olga"),
        ("withdraw", "refused", "olga"),
    ]
    assert lines[0]["text"] == f"new disks {SCRIPT}"
    assert {each["name"] for each in lines} == {"cone"}


@pytest.mark.parametrize(
    ("about", "said", "status", "words"),
    [
        ("application/nosuch", {"text": "x"}, 400, "There is no application 'nosuch'"),
        ("cluster/cone", {"text": "x"}, 400, "There is no cluster 'cone'; there are: here"),
        ("site/here", {"text": "x"}, 400, "'application' or 'cluster'"),
        ("planet/here", {"text": "x"}, 400, "'application' or 'cluster'"),
        ("site", {}, 400, "nothing is said"),
        ("site", {"text": "  "}, 400, "nothing is said"),
        ("site", {"text": "x" * 501}, 400, "at most 500 characters"),
        ("site", {"text": "a\nb"}, 400, "one line"),
        ("site", {"text": "a\x1b[31mb"}, 400, "control character"),
        ("site", {"text": "a\u202eb"}, 400, "control character"),
        ("site", {"text": 7}, 400, "text: "),
        ("site", {"text": "x", "drain": "yes"}, 400, "drain: "),
        ("site", {"text": "x", "until": 3}, 400, "until: "),
        ("site", {"text": "x" * 2**21}, 413, "more than"),
    ],
)
async def test_what_cannot_be_announced_is_told(
    api: Launcher, about: str, said: dict[str, Any], status: int, words: str
) -> None:
    assert words in refusal(await say(api, about, **said), status)
    assert (await catalogue(api))["announcements"] == []


@pytest.mark.parametrize("body", [b"", b"[]", b"text=x", b"{", b'{"text": NaN}'])
async def test_what_is_no_object_is_told(api: Launcher, body: bytes) -> None:
    async with client(api, named("olga")) as olga:
        assert "JSON" in refusal(await olga.put(f"{PATH}/site", content=body), 400)
