"""Sessions belong to users: who sees them, who stops them, and how many one user may have."""

import json
from collections.abc import Awaitable
from typing import Any

import pytest
from sqlalchemy import event

from hpcbridge.frontends.address import session_addresses
from hpcbridge.frontends.admission import TICKET, Visit
from hpcbridge.web.access import Access
from hpcbridge.web.sessionaccess import SessionAccess
from tests.replies import refusal
from tests.site import Launch
from tests.usersite import USER, auth, client, named
from tests.waiting import until

CONE = {"application": "cone"}
NO_WAIT = {"Prefer": "respond-async"}
KEY = {"Idempotency-Key": "0123456789abcdef"}


@pytest.fixture
def shared(site: Any, launcher: Launch) -> Launch:
    """A launcher whose front end names users."""
    site.config["auth"] = auth(site)
    return launcher


async def begin(api: Any, user: str, **headers: str) -> Any:
    """A user's launch that does not wait."""
    async with client(api, named(user)) as somebody:
        return await somebody.post("/paraview", json=CONE, headers=NO_WAIT | headers)


async def begun(api: Any, user: str) -> str:
    reply = await begin(api, user)
    assert reply.status_code == 202, reply.text
    return str(reply.json()["id"])


async def test_nobody_but_the_owner_and_operators_learns_of_a_session(shared: Launch) -> None:
    async with shared() as api:
        path = f"/paraview/{await begun(api, 'alice')}"
        unknown = f"/paraview/{'0' * 40}"
        async with client(api, named("bob")) as bob:
            for method, suffix in (("GET", ""), ("GET", "/events"), ("DELETE", "")):
                foreign = await bob.request(method, path + suffix)
                missing = await bob.request(method, unknown + suffix)
                assert refusal(foreign, 404) == refusal(missing, 404)
        async with client(api) as nobody:
            for method, suffix in (("GET", ""), ("GET", "/events"), ("DELETE", "")):
                refusal(await nobody.request(method, path + suffix), 401)
        for user in ("alice", "olga"):
            async with client(api, named(user)) as somebody:
                reply = await somebody.get(path)
                assert reply.json()["state"] != "ended"
                assert "secret" not in reply.json()
        async with client(api, named("olga")) as olga:
            assert (await olga.delete(path)).status_code == 200


async def test_the_secret_of_a_ready_session_is_told_to_its_user_alone(shared: Launch) -> None:
    async with shared() as api:
        async with client(api, named("alice")) as alice:
            begun = (await alice.post("/paraview", json=CONE)).json()
            told = (await alice.get(f"/paraview/{begun['id']}")).json()
            assert told["secret"] == begun["secret"]
            assert begun["secret"] not in (await alice.get("/paraview")).text
        async with client(api, named("olga")) as operator:
            reply = await operator.get(f"/paraview/{begun['id']}")
            assert reply.json()["state"] == "ready"
            assert begun["secret"] not in reply.text


class Questions(list[str]):
    """What the database of a service is asked of one session, in order."""

    def __init__(self, api: Any) -> None:
        super().__init__()
        engine = api.sessions.store.engine.sync_engine
        event.listen(engine, "before_cursor_execute", self.asked)

    def asked(self, _: Any, __: Any, statement: str, *___: Any) -> None:
        if "sessions.id = ?" in statement and statement.startswith("SELECT"):
            self.append(statement)

    async def of(self, work: Awaitable[object]) -> list[str]:
        self.clear()
        await work
        return [*self]


async def test_another_users_session_costs_the_questions_that_an_unknown_one_costs(
    shared: Launch,
) -> None:
    """Else the time that an answer takes would tell which sessions there are."""
    async with shared() as api:
        async with client(api, named("alice")) as alice:
            foreign = (await alice.post("/paraview", json=CONE)).json()["id"]
        unknown, questions = "0" * 40, Questions(api)
        access = Access(api.settings, api.sessions)
        addresses = session_addresses(api.settings)
        assert addresses is not None
        own = SessionAccess(api.settings, api.sessions, access, addresses)

        def visit(session_id: str, target: str, **more: str) -> Visit:
            given = named("bob") | more
            headers = [(key.lower().encode(), value.encode()) for key, value in given.items()]
            host = f"{session_id}.localhost"
            return Visit(session_id, "GET", target, "", headers, host, False, "127.0.0.1")

        async with client(api, named("bob")) as bob:

            def ways(session_id: str) -> list[Awaitable[object]]:
                path, headers = f"/paraview/{session_id}", visit(session_id, "/").headers
                return [
                    bob.get(path),
                    bob.delete(path),
                    *(bob.get(f"{path}/{each}") for each in ("events", "log", "open")),
                    access.admits(session_id, headers, "127.0.0.1"),
                    own.enter(visit(session_id, "/")),
                    own.enter(visit(session_id, "/", cookie="hpcbridge=1.2.3.4")),
                    own.enter(visit(session_id, f"/?{TICKET}=1.2.3.4")),
                    own.enter(visit(session_id, "/", **{USER: ""}, cookie="hpcbridge=1.2.3.4")),
                ]

            for one, other in zip(ways(foreign), ways(unknown), strict=True):
                asked = await questions.of(one)
                assert asked
                assert asked == await questions.of(other)


async def test_others_do_not_keep_a_session_alive(shared: Launch) -> None:
    async with shared(applications={"cone": {"keep": 20}}) as api:
        session_id = await begun(api, "alice")
        keepalive = api.sessions.session(session_id).keepalive
        touched: list[str] = []
        keepalive.touch = lambda: touched.append("touched")
        async with client(api, named("bob")) as bob:
            refusal(await bob.get(f"/paraview/{session_id}"), 404)
        assert touched == []
        async with client(api, named("alice")) as alice:
            await alice.get(f"/paraview/{session_id}")
        assert touched


async def test_the_events_of_a_session_are_its_owners(shared: Launch) -> None:
    async with shared() as api:
        session_id = await begun(api, "alice")
        async with client(api, named("alice")) as alice:
            await alice.delete(f"/paraview/{session_id}")
            reply = await alice.get(f"/paraview/{session_id}/events")
        last = json.loads(reply.text.strip().split("\n\n")[-1].removeprefix("data: "))
        assert (last["id"], last["state"]) == (session_id, "ended")


async def test_the_list_has_ones_own_sessions_and_all_for_operators(shared: Launch) -> None:
    async with shared() as api:
        first, second = await begun(api, "alice"), await begun(api, "alice")
        others = await begun(api, "bob")
        seen = {}
        for user in ("alice", "bob", "carol", "olga"):
            async with client(api, named(user)) as somebody:
                reply = (await somebody.get("/paraview/")).json()
                assert reply["user"] == user
                assert reply["operator"] is (user == "olga")
                assert "secret" not in reply
                seen[user] = [each["id"] for each in reply["sessions"]]
        assert seen == {
            "alice": [second, first],
            "bob": [others],
            "carol": [],
            "olga": [others, second, first],
        }


async def test_sessions_from_a_time_without_users_are_the_operators(
    site: Any, launcher: Launch
) -> None:
    async with launcher() as api:
        session_id = (await api.post(CONE)).json()["id"]
    async with launcher(auth=auth(site)) as api:
        for user, status in (("alice", 404), ("olga", 200)):
            async with client(api, named(user)) as somebody:
                assert (await somebody.get(f"/paraview/{session_id}")).status_code == status


# -- repeats


async def test_a_key_opens_no_other_users_session(shared: Launch) -> None:
    async with shared() as api:
        mine = (await begin(api, "alice", **KEY)).json()
        theirs = (await begin(api, "bob", **KEY)).json()
        assert mine["id"] != theirs["id"]
        assert mine["secret"] != theirs["secret"]
        assert (await begin(api, "alice", **KEY)).json()["id"] == mine["id"]


async def test_a_repeat_joins_the_users_session_from_wherever_it_comes(
    site: Any, shared: Launch
) -> None:
    """The same user at another machine with another browser; nobody else."""
    mute = {"mute": {"hold": 0.2, "wait": 60, "keep": 60}}
    async with shared(applications=mute) as api:
        body = {"application": "mute"}
        ids = []
        for user, agent in (("alice", "one"), ("alice", "two"), ("bob", "one")):
            headers = named(user) | {"User-Agent": agent, "X-Forwarded-For": f"192.0.2.{len(ids)}"}
            async with client(api, headers) as somebody:
                reply = await somebody.post("/paraview", json=body)
                assert reply.status_code == 503
                ids.append(reply.json()["id"])
        assert ids[0] == ids[1] != ids[2]


# -- limits


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"limits": {"per_user": 2}}, "alice has 2 of 2 sessions that one user may have"),
        (
            {"applications": {"cone": {"per_user": 2}}},
            "alice has 2 of 2 sessions of 'cone' that one user may have",
        ),
    ],
)
async def test_a_user_has_so_many_sessions_and_takes_none_from_others(
    shared: Launch, sections: dict[str, Any], said: str
) -> None:
    async with shared(**sections) as api:
        first = await begun(api, "alice")
        await begun(api, "alice")
        refused = await begin(api, "alice")
        assert said in refusal(refused, 503)
        await begun(api, "bob")
        async with client(api, named("alice")) as alice:
            other = {"application": "tuned"}
            reply = await alice.post("/paraview", json=other, headers=NO_WAIT)
            assert reply.status_code == (503 if "limits" in sections else 202)
            await alice.delete(f"/paraview/{first}")

        async def again() -> bool:
            return bool((await begin(api, "alice")).status_code == 202)

        await until(again, "the place of the session that was stopped")


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"limits": {"waiting_per_user": 1}},
            "alice has 1 of 1 waiting sessions that one user may",
        ),
        (
            {"applications": {"cone": {"waiting_per_user": 1}}},
            "alice has 1 of 1 waiting sessions of 'cone' that one user may",
        ),
    ],
)
async def test_a_user_fills_no_queue(shared: Launch, sections: dict[str, Any], said: str) -> None:
    async with shared(clusters={"here": {"slots": 1}}, **sections) as api:
        async with client(api, named("alice")) as alice:
            assert (await alice.post("/paraview", json=CONE)).status_code == 200
        await begun(api, "alice")
        assert said in refusal(await begin(api, "alice"), 503)
        await begun(api, "bob")
