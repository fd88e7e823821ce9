"""Warm sessions where there are users: whose each is before and after, and what is not allowed."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from hpcbridge.config.settings import Settings
from hpcbridge.store import Selection
from tests.replies import refusal
from tests.usersite import auth, client, named
from tests.waiting import until

WARM = {"application": "warm"}
SLURM: dict[str, Any] = {"scheduler": "slurm"}
SSH_CA = {
    "mode": "ssh-ca",
    "ca_key": "/etc/hpcbridge/ca_key",
}


def settings(**changes: Any) -> Settings:
    application = {
        "cluster": "here",
        "template": "command.sh",
        "walltime": 3600,
        "warm": {"count": 1} | changes.pop("warm", {}),
    }
    cluster = {
        "scheduler": "slurm",
        "ssh": {"host": "h", "user": "u"},
        "tunnel": {"node_pattern": "n1"},
    }
    given = {
        "clusters": {"here": cluster | changes.pop("cluster", {})},
        "applications": {"warm": application | changes.pop("application", {})},
    }
    return Settings(**(given | changes))


USERS = {"auth": {"accept": ["token"]}}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"application": {"walltime": None}}, "needs walltime"),
        ({"store": {"keep_ended": 60}}, "needs a store.keep_ended"),
        ({"warm": {"users": ["alice"]}}, "set auth.accept"),
        (USERS, "whose are they"),
        (USERS | {"cluster": {"identity": SSH_CA}, "warm": {"shared": True}}, "needs users"),
        (USERS | {"cluster": {"identity": SSH_CA}, "warm": {"new_secret": True}}, "needs users"),
        (
            USERS
            | {
                "cluster": {"identity": {"mode": "sudo", "runas": ["%viz"]}},
                "warm": {"users": ["alice"], "new_secret": True},
            },
            "not with identity.mode = 'sudo'",
        ),
        ({"warm": {"least": 2}}, "more than count"),
        ({"warm": {"users": ["a b"]}}, "no user's name"),
        ({"warm": {"users": ["alice", "alice"]}}, "there twice"),
        ({"warm": {"hours": ["always"]}}, "Mon-Fri 08:00-18:00"),
        ({"warm": {"timezone": "Europe/Atlantis"}}, "no time zone"),
        ({"warm": {"timezone": "../../etc/passwd"}}, "no time zone"),
    ],
)
def test_warm_sessions_that_could_be_somebody_elses_are_refused(
    changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValidationError, match=told):
        settings(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        USERS | {"warm": {"new_secret": True}},
        USERS | {"warm": {"shared": True}},
        USERS | {"warm": {"users": ["alice"]}},
        USERS | {"cluster": {"identity": SSH_CA}, "warm": {"users": ["alice"]}},
    ],
)
def test_all_others_are_allowed(changes: dict[str, Any]) -> None:
    assert settings(**changes).applications["warm"].warm


async def waiting(api: Any, count: int) -> set[str]:
    async def there() -> set[str]:
        living = await api.sessions.store.page(Selection(), 100)
        found = {row.id for row in living if row.warm and row.state == "ready"}
        return found if len(found) == count else set()

    return set(await until(there, f"{count} warm sessions"))


async def launch(api: Any, user: str) -> Any:
    async with client(api, named(user)) as somebody:
        return await somebody.post("/paraview", json=WARM)


@pytest.fixture
def shared(warm_site: Any, launcher: Any) -> Any:
    """A launcher whose front end names users, and whose warm sessions take a new secret."""
    warm_site.config["auth"] = auth(warm_site)
    warm_site.config["auth"]["audit_file"] = str(warm_site.root / "audit.jsonl")
    warm_site.config["applications"]["warm"]["warm"]["new_secret"] = True
    return launcher


async def test_it_is_nobodys_until_a_user_has_it_and_then_that_ones_alone(
    shared: Any, warm_site: Any
) -> None:
    async with shared() as api:
        (there,) = await waiting(api, 1)
        async with client(api, named("alice")) as alice:
            refusal(await alice.get(f"/paraview/{there}"), 404)
            refusal(await alice.delete(f"/paraview/{there}"), 404)
            assert (await alice.get("/paraview")).json()["sessions"] == []
            assert (await alice.post("/paraview", json=WARM)).json()["id"] == there
            assert (await alice.get(f"/paraview/{there}")).json()["warm"] is True
        async with client(api, named("bob")) as bob:
            refusal(await bob.get(f"/paraview/{there}"), 404)
    lines = [json.loads(line) for line in (warm_site.root / "audit.jsonl").read_text().splitlines()]
    (line,) = [line for line in lines if line["what"] == "launch"]
    assert (line["user"], line["owner"], line["warm"]) == ("alice", "alice", True)


async def test_a_users_limit_holds_for_warm_sessions_too(shared: Any) -> None:
    async with shared(limits={"per_user": 1}) as api:
        await waiting(api, 1)
        assert (await launch(api, "alice")).status_code == 200
        await waiting(api, 1)
        refused = await launch(api, "alice")
        assert refused.status_code == 503
        assert "1 of 1 sessions that one user may have" in refused.json()["error"]
        assert len(await waiting(api, 1)) == 1
        assert (await launch(api, "bob")).status_code == 200


async def test_a_user_with_sessions_that_wait_gets_one_that_is_ready(shared: Any) -> None:
    """What is handed over does not wait."""
    async with shared(clusters={"here": {"slots": 1}}, limits={"waiting_per_user": 1}) as api:
        await waiting(api, 1)
        cone = {"application": "cone"}
        async with client(api, named("alice")) as alice:
            for status in (202, 503):
                reply = await alice.post(
                    "/paraview", json=cone, headers={"Prefer": "respond-async"}
                )
                assert reply.status_code == status, reply.text
        assert (await launch(api, "alice")).status_code == 200


async def test_named_users_have_sessions_of_their_own_and_others_none(
    shared: Any, warm_site: Any
) -> None:
    own = {"users": ["alice", "bob"], "new_secret": False}
    async with shared(applications={"warm": {"warm": own}}) as api:
        there = await waiting(api, 2)
        first = (await launch(api, "alice")).json()["id"]
        assert first in there
        await waiting(api, 2)
        assert (await launch(api, "carol")).json()["id"] not in there
        second = (await launch(api, "bob")).json()["id"]
        assert {first, second} == there
