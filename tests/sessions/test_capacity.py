"""No room: limits, full queues, and what those are told that wait."""

import asyncio
import time
from typing import Any

import pytest

from hpcbridge.clusters import queuestatus as outlooks
from tests.replies import refusal
from tests.site import Launch
from tests.waiting import until


async def test_more_sessions_than_the_limit_are_refused_until_one_has_ended(
    launcher: Launch,
) -> None:
    async with launcher(limits={"sessions": 2}) as api:
        ids = [(await api.post({"application": "cone"})).json()["id"] for _ in range(2)]
        assert "2 of 2 sessions" in refusal(await api.post({"application": "cone"}), 503)
        await api.client.delete(f"/paraview/{ids[0]}")
        assert (await api.post({"application": "cone"})).status_code == 200


async def test_requests_at_the_same_moment_do_not_pass_the_limit(launcher: Launch) -> None:
    async with launcher(limits={"sessions": 3}) as api:
        asynchronous = {"Prefer": "respond-async"}
        replies = await asyncio.gather(
            *(api.post({"application": "cone"}, headers=asynchronous) for _ in range(10))
        )
        assert sorted(each.status_code for each in replies) == [202] * 3 + [503] * 7


async def test_a_full_queue_is_told_and_leaves_nothing(launcher: Launch, site: Any) -> None:
    async with launcher(clusters={"here": {"slots": 1, "queue": 0}}) as api:
        assert (await api.post({"application": "cone"})).status_code == 200
        said = refusal(await api.post({"application": "cone"}), 503)
        assert "All slots (1) and places in the queue (0) are taken" in said
        await until(lambda: len(site.directories()) == 1, "the refused session's directory to go")


async def test_who_waits_is_told_its_place_and_the_estimate(
    launcher: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlooks, "PATIENCE", 0.0)
    walltime = {"walltime": 600}
    async with launcher(
        clusters={"here": {"slots": 1}}, applications={"cone": walltime, "late": walltime}
    ) as api:
        assert (await api.post({"application": "cone"})).status_code == 200
        headers = {"Prefer": "respond-async"}
        late = (await api.post({"application": "late"}, headers=headers)).json()["id"]
        path = f"/paraview/{late}"
        told: dict[str, Any] = {}

        async def look() -> dict[str, Any]:
            told.clear()
            told.update((await api.client.get(path)).json())
            return told

        async def placed() -> bool:
            return "position" in await look()

        async def ended() -> bool:
            return (await look())["state"] == "ended"

        await until(placed, "its place in the queue")
        assert (told["state"], told["position"], told["waits_for"]) == ("queued", 1, "a free slot")
        assert told["message"].startswith("Waiting for a free slot; it is the next;")
        assert 500 < told["estimated_start"] - time.time() < 601
        assert "queue" not in told  # the local runner has one, without a name
        await api.client.delete(path)
        await until(ended, "its end")
        assert "position" not in told


async def test_a_job_that_waits_too_long_is_told_and_leaves_the_queue(
    launcher: Launch, site: Any
) -> None:
    async with launcher(
        clusters={"here": {"slots": 1}}, applications={"late": {"wait": 0.3}}
    ) as api:
        assert (await api.post({"application": "cone"})).status_code == 200
        said = refusal(await api.post({"application": "late"}), 504)
        assert "still in the queue after 0.3 s" in said
        await until(lambda: len(site.directories()) == 1, "the session's directory to go")
