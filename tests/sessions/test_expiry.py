"""What ends a session that is ready: nobody uses it, it is old, or there are too many."""

import asyncio
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from hpcbridge.sessions import expiry as expiry_module
from tests.site import Launch
from tests.waiting import until


@pytest.fixture
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry_module, "CHECK_INTERVAL", 0.05)
    monkeypatch.setattr("hpcbridge.sessions.lifecycle.CHECK_INTERVAL", 0.05)


async def ended(api: Any, session: dict[str, Any]) -> dict[str, Any] | None:
    found = api.sessions.session(session["id"])
    if found is not None and found.row.state != "ended":
        return None
    return dict((await api.client.get(f"/paraview/{session['id']}")).json())


@pytest.mark.usefixtures("short_looks")
async def test_a_session_without_a_connection_ends_as_idle(launcher: Launch) -> None:
    async with launcher(applications={"cone": {"idle": 0.4}, "tuned": {"idle": 100}}) as api:
        other = (await api.post({"application": "tuned"})).json()
        ends = (await api.client.get(f"/paraview/{other['id']}")).json()["ends"]
        assert ends["reason"] == "idle"
        assert 0 < ends["at"] - time.time() <= 100
        session = (await api.post({"application": "cone"})).json()
        last = await until(lambda: ended(api, session), "its end")
        assert last["reason"] == "idle"
        assert "Nobody was connected" in last["error"]


@pytest.mark.usefixtures("short_looks")
async def test_a_session_that_somebody_is_connected_to_goes_on(site: Any, launcher: Launch) -> None:
    """With a program that stays until its client leaves."""
    staying = site.program(
        "staying",
        (site.root / "server")
        .read_text()
        .replace("connection.close()", "connection.recv(1); connection.close()"),
    )
    changed = {"cone": {"idle": 2, "properties": {"program": staying}}}
    server = {"session_url": "tcp://${host}:${port}/?id=${id}"}
    async with launcher(applications=changed, server=server) as api:
        session = (await api.post({"application": "cone"})).json()
        place = urlsplit(session["sessionURL"])
        assert parse_qs(place.query)["id"] == [session["id"]]
        _, writer = await asyncio.open_connection(place.hostname, place.port)
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            described = (await api.client.get(f"/paraview/{session['id']}")).json()
            assert described["state"] == "ready"
        writer.close()
        await writer.wait_closed()
        assert (await until(lambda: ended(api, session), "its end"))["reason"] == "idle"


@pytest.mark.usefixtures("short_looks")
async def test_a_session_ends_when_it_has_lived_longest(launcher: Launch) -> None:
    async with launcher(applications={"cone": {"longest": 0.4, "walltime": 3600}}) as api:
        session = (await api.post({"application": "cone"})).json()
        last = await until(lambda: ended(api, session), "its end")
        assert last["reason"] == "timed_out"
        assert "longest life" in last["error"]


async def test_the_walltime_is_told_and_left_to_the_scheduler(launcher: Launch) -> None:
    async with launcher(applications={"cone": {"walltime": 3600}}) as api:
        session = (await api.post({"application": "cone"})).json()
        described = (await api.client.get(f"/paraview/{session['id']}")).json()
        assert described["ends"]["reason"] == "timed_out"
        assert described["ends"]["at"] - described["times"]["starting"] == pytest.approx(3600)


@pytest.mark.usefixtures("short_looks")
@pytest.mark.parametrize("by", [7200, -7200])
async def test_no_session_ends_early_or_late_because_the_clock_is_set(
    launcher: Launch, monkeypatch: pytest.MonkeyPatch, by: int
) -> None:
    limits = {"longest": 600, "idle": 300, "walltime": 3600}
    async with launcher(applications={"cone": limits, "tuned": {"longest": 1}}) as api:
        session = (await api.post({"application": "cone"})).json()
        short = (await api.post({"application": "tuned"})).json()
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + by)
        assert (await until(lambda: ended(api, short), "its end"))["reason"] == "timed_out"
        await asyncio.sleep(1)  # twenty looks
        described = (await api.client.get(f"/paraview/{session['id']}")).json()
        assert described["state"] == "ready"
        assert 200 < described["ends"]["at"] - time.time() <= 300


async def test_an_application_has_a_limit_of_its_own(launcher: Launch) -> None:
    async with launcher(applications={"cone": {"sessions": 1}}) as api:
        first = (await api.post({"application": "cone"})).json()
        second = await api.post({"application": "cone"})
        assert second.status_code == 503
        assert "of 'cone'" in second.json()["error"]
        other = await api.post({"application": "tuned"})
        assert other.status_code == 200
        await api.client.delete(f"/paraview/{first['id']}")
        await until(lambda: ended(api, first), "its end")
        assert (await api.post({"application": "cone"})).status_code == 200


@pytest.mark.parametrize(
    ("sections", "said", "tuned"),
    [
        ({"limits": {"waiting": 1}}, "1 of 1 places for sessions that wait are taken", 503),
        (
            {"applications": {"cone": {"waiting": 1}}},
            "1 of 1 places for sessions of 'cone' that wait are taken",
            202,
        ),
    ],
)
async def test_those_that_wait_for_their_start_have_a_limit_of_their_own(
    launcher: Launch, sections: dict[str, Any], said: str, tuned: int
) -> None:
    no_wait = {"Prefer": "respond-async"}
    async with launcher(clusters={"here": {"slots": 1}}, **sections) as api:
        first = (await api.post({"application": "cone"})).json()
        second = (await api.post({"application": "cone"}, headers=no_wait)).json()
        third = await api.post({"application": "cone"}, headers=no_wait)
        assert third.status_code == 503
        assert third.json()["error"] == f"{said}. Try again when a job has started."
        assert int(third.headers["Retry-After"]) > 0
        assert (await api.post({"application": "tuned"}, headers=no_wait)).status_code == tuned
        await api.client.delete(f"/paraview/{first['id']}")

        async def started() -> bool:
            described = (await api.client.get(f"/paraview/{second['id']}")).json()
            return bool(described["state"] in ("starting", "ready"))

        await until(started, "the start of the second")
        assert (await api.post({"application": "cone"}, headers=no_wait)).status_code == 202
