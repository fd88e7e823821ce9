"""A request that is repeated joins its session; one that nobody waits for is given up."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from hpcbridge.errors import ClusterUnreachable
from tests.site import Launch
from tests.waiting import until

KEY = {"Idempotency-Key": "0123456789abcdef"}


@pytest.fixture
def slow(site: Any, launcher: Launch) -> Launch:
    """A launcher whose application ``slow`` is ready when the test says so."""
    gate = site.root / "gate"
    text = (
        "#!/bin/sh\nwhile ! [ -e {gate} ]; do sleep 0.02; done\n"
        'exec {root}/server "$@"\n'
    )  # fmt: skip
    program = site.program("slow", text.format(gate=gate, root=site.root))
    slow = {"cluster": "here", "template": "command.sh", "wait": 60, "hold": 0.3, "keep": 20}

    @asynccontextmanager
    async def start(server: dict[str, Any] | None = None, **changes: Any) -> AsyncIterator[Any]:
        application = slow | {"properties": {"program": program}} | changes
        async with launcher(applications={"slow": application}, server=server or {}) as api:
            api.open = gate.touch
            yield api

    return start


async def test_a_launch_that_takes_long_is_told_where_it_stands_and_joined_by_its_repeat(
    slow: Launch,
) -> None:
    async with slow() as api:

        async def told_to_wait() -> httpx.Response | None:
            reply = await api.post({"application": "slow"})
            assert reply.status_code == 503
            return reply if reply.json()["state"] == "starting" else None

        first = await until(told_to_wait, "the start of its job")
        told = first.json()
        assert int(first.headers["Retry-After"]) > 0
        expected = {"queue": None, "position": None, "waits_for": None, "estimated_start": None}
        assert set(told) == {"error", "id", "state", "reason", "gives_up_at", *expected}
        assert told["gives_up_at"] > time.time()
        assert {key: told[key] for key in expected} == expected  # it runs already
        assert told["state"] == "starting"
        api.open()
        second = await api.post({"application": "slow"})
        while second.status_code == 503:
            second = await api.post({"application": "slow"})
        assert second.json()["id"] == told["id"]
        assert second.json()["secret"]


async def test_two_who_ask_at_once_get_a_session_each(slow: Launch) -> None:
    async with slow(hold=20) as api:
        launches = [asyncio.create_task(api.post({"application": "slow"})) for _ in range(3)]
        await asyncio.sleep(0)
        api.open()
        replies = [await each for each in launches]
        assert len({each.json()["id"] for each in replies}) == 3


async def test_another_client_or_another_request_does_not_join(slow: Launch) -> None:
    parameters = {"level": {"type": "int", "default": 1}}
    async with slow(parameters=parameters) as api:
        first = (await api.post({"application": "slow"})).json()["id"]
        other = await api.post({"application": "slow"}, headers={"User-Agent": "another"})
        assert other.json()["id"] != first
        more = await api.post({"application": "slow", "level": 2})
        assert more.json()["id"] not in (first, other.json()["id"])
        same = await api.post({"application": "slow", "level": 1})
        assert same.json()["id"] == first


async def test_a_session_that_was_given_to_its_client_is_not_joined(slow: Launch) -> None:
    async with slow(hold=20) as api:
        api.open()
        first = await api.post({"application": "slow"})
        second = await api.post({"application": "slow"})
        assert first.json()["id"] != second.json()["id"]


async def test_one_key_is_one_session_however_often_it_is_sent(slow: Launch) -> None:
    async with slow(hold=20) as api:
        api.open()
        launches = [api.post({"application": "slow"}, headers=KEY) for _ in range(4)]
        replies = [each.json() for each in await asyncio.gather(*launches)]
        replies.append((await api.post({"application": "slow"}, headers=KEY)).json())
        assert len({(each["id"], each["secret"]) for each in replies}) == 1


async def test_a_key_of_another_request_or_of_an_ended_session_is_an_error(slow: Launch) -> None:
    async with slow(hold=20) as api:
        api.open()
        first = (await api.post({"application": "slow"}, headers=KEY)).json()
        other = await api.post({"application": "cone"}, headers=KEY)
        assert other.status_code == 422
        await api.client.delete(f"/paraview/{first['id']}")
        await until(lambda: api.sessions.session(first["id"]) is None, "its end")
        again = await api.post({"application": "slow"}, headers=KEY)
        assert again.status_code == 502
        assert "has ended" in again.json()["error"]
        short = await api.post({"application": "slow"}, headers={"Idempotency-Key": "1"})
        assert (short.status_code, short.json()["error"]) == (
            400,
            "The header idempotency-key: String should have at least 16 characters.",
        )


async def test_a_key_of_another_request_is_in_use_as_long_as_that_one_waits(
    slow: Launch,
) -> None:
    async with slow(hold=0.2) as api:
        first = await api.post({"application": "slow"}, headers=KEY)
        assert first.status_code == 503
        other = await api.post({"application": "cone"}, headers=KEY)
        assert (other.status_code, list(other.json())) == (409, ["error"])
        assert "still waits" in other.json()["error"]
        api.open()
        while (first := await api.post({"application": "slow"}, headers=KEY)).status_code == 503:
            pass
        assert first.status_code == 200
        other = await api.post({"application": "cone"}, headers=KEY)
        assert (other.status_code, list(other.json())) == (422, ["error"])


async def test_a_key_whose_session_has_ended_stays_its_first_requests(slow: Launch) -> None:
    async with slow(hold=0.2) as api:
        begun = (await api.post({"application": "slow"}, headers=KEY)).json()
        await api.client.delete(f"/paraview/{begun['id']}")
        await until(lambda: api.sessions.session(begun["id"]) is None, "its end")
        assert (await api.post({"application": "cone"}, headers=KEY)).status_code == 422


async def test_a_key_whose_session_could_not_begin_is_answered_alike_for_ever(
    slow: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whoever drove it, and by whoever knows its record only."""
    async with slow(hold=20) as api:
        cluster = api.sessions.registry._clusters["here"]

        async def submit(_: object) -> str:
            raise ClusterUnreachable("The controller does not answer.")

        monkeypatch.setattr(cluster.scheduler, "submit", submit)
        first = await api.post({"application": "slow"}, headers=KEY)
        assert (first.status_code, first.json()["error"]) == (
            503,
            "The controller does not answer.",
        )
        again = await api.post({"application": "slow"}, headers=KEY)
        await until(lambda: not api.sessions.registry.sessions, "its end")
        later = await api.post({"application": "slow"}, headers=KEY)
        assert (again.status_code, later.status_code) == (503, 503)
        assert again.json() == later.json()
        assert "has ended: The controller does not answer." in later.json()["error"]


async def test_a_session_that_nobody_waits_for_is_given_up(slow: Launch) -> None:
    async with slow(hold=0.2, keep=0.4) as api:
        told = (await api.post({"application": "slow"})).json()

        async def ended() -> bool:
            # The row, not GET: whoever asks for a session keeps it.
            session = api.sessions.session(told["id"])
            return session is None or session.row.state == "ended"

        await until(ended, "its end")
        last = (await api.client.get(f"/paraview/{told['id']}")).json()
        assert (last["state"], last["reason"]) == ("ended", "idle")


async def test_a_session_that_is_asked_for_is_kept(slow: Launch) -> None:
    async with slow(hold=0.1, keep=1.5) as api:
        told = (await api.post({"application": "slow"})).json()
        for _ in range(20):
            await asyncio.sleep(0.1)
            assert (await api.client.get(f"/paraview/{told['id']}")).json()["state"] != "ended"


@pytest.mark.parametrize("policy", ["keep", "cancel"])
async def test_a_client_that_hangs_up_keeps_or_cancels_its_session(
    site: Any, slow: Launch, serve: Callable[..., Any], policy: str
) -> None:
    """Over a real connection, closed while the launch waits."""
    async with slow(server={"on_disconnect": policy}, hold=20):
        pass  # writes the configuration
    service = serve()

    def left() -> bool:
        with contextlib.closing(sqlite3.connect(site.state_dir / "hpcbridge.sqlite")) as database:
            return database.execute("SELECT forsaken FROM sessions").fetchall() == [(1,)]

    async with httpx.AsyncClient(base_url=service.url, timeout=90) as client:
        waiting = asyncio.create_task(client.post("/paraview", json={"application": "slow"}))
        await until(site.processes, "its job")
        waiting.cancel()
        await asyncio.wait({waiting})
    if policy == "cancel":
        await until(lambda: not site.processes(), "the end of its processes")
        return
    await until(left, "its client's leaving")
    (site.root / "gate").touch()
    async with httpx.AsyncClient(base_url=service.url, timeout=90) as client:
        reply = await client.post("/paraview", json={"application": "slow"})
    assert reply.status_code == 200
    assert len(site.directories()) == 1
