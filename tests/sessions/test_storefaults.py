"""The store fails: a step waits for it, and nothing is lost or forgotten."""

import asyncio
from typing import Any

import pytest

from hpcbridge.errors import StoreError
from hpcbridge.schedulers.base import EndReason
from hpcbridge.store import SessionRow, State
from tests.sessions.world import World, ended
from tests.waiting import until


@pytest.mark.parametrize("state", [State.QUEUED, State.STARTING, State.READY])
async def test_a_step_waits_for_the_store_and_nothing_ends(world: World, state: State) -> None:
    update, away = world.store.update, True
    asked = 0

    async def selective(row: SessionRow, **changes: Any) -> bool:
        nonlocal asked
        if away and changes.get("state") == state:
            asked += 1
            raise StoreError("The database is locked.")
        return await update(row, **changes)

    world.store.update = selective  # type: ignore[method-assign]
    session = await world.launch()
    await until(lambda: world.scheduler.jobs)
    world.scheduler.run("1")
    await until(lambda: session.row.directory)
    world.become_ready()
    await until(lambda: asked > 2)
    assert session.row.state not in (state, State.ENDED)
    assert world.scheduler.cancelled == []
    away = False
    await until(lambda: session.row.state == State.READY)
    assert len(world.scheduler.submitted) == 1


async def test_a_door_that_cannot_be_written_down_ends_nothing_and_leads_nowhere(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_endpoint, asked, away = world.store.endpoints.put, 0, True

    async def selective(session_id: str, address: str) -> None:
        nonlocal asked
        if away:
            asked += 1
            raise StoreError("The database is locked.")
        await set_endpoint(session_id, address)

    monkeypatch.setattr(world.store.endpoints, "put", selective)
    session = await world.starting()
    world.become_ready()
    await until(lambda: asked > 2)
    assert session.row.state == State.STARTING
    assert world.publisher.routes == {}
    away = False
    await until(lambda: session.row.state == State.READY)
    assert world.publisher.routes == await world.store.endpoints.here()


async def test_a_session_can_be_stopped_while_a_step_waits_for_the_store(world: World) -> None:
    update = world.store.update

    async def selective(row: SessionRow, **changes: Any) -> bool:
        if changes.get("state") == State.QUEUED:
            raise StoreError("The database is locked.")
        return await update(row, **changes)

    world.store.update = selective  # type: ignore[method-assign]
    session = await world.launch()
    await until(lambda: world.scheduler.jobs)
    session.stop()
    await ended(world, EndReason.STOPPED)
    assert set(world.scheduler.cancelled) == {"1"}  # maybe more than once


async def test_an_end_that_cannot_be_written_is_told_and_written_later(world: World) -> None:
    session = await world.ready()
    world.store.failing = True
    session.stop()
    await until(lambda: session.row.state == State.ENDED)
    assert session.settled.is_set()
    await asyncio.sleep(0.1)
    assert not world.tasks[-1].done()
    world.store.failing = False
    await ended(world, EndReason.STOPPED)


async def test_the_true_reason_is_kept_although_the_store_failed_meanwhile(world: World) -> None:
    await world.starting()
    world.store.failing = True
    world.scheduler.end("1", EndReason.OUT_OF_MEMORY)
    await until(lambda: world.row.state == State.ENDED)
    world.store.failing = False
    await ended(world, EndReason.OUT_OF_MEMORY, "more memory")


async def test_nothing_is_submitted_before_it_can_be_written_down_where(world: World) -> None:
    world.store.failing = True
    session = await world.launch()
    await asyncio.sleep(0.1)
    assert (world.scheduler.submitted, session.row.state) == ([], State.SUBMITTING)
    world.store.failing = False
    await until(lambda: session.row.state == State.QUEUED)
    assert len(world.scheduler.submitted) == 1


async def test_a_session_can_be_stopped_before_its_submission_can_be_written_down(
    world: World,
) -> None:
    world.store.failing = True
    session = await world.launch()
    await asyncio.sleep(0.1)
    session.stop()
    await until(lambda: session.row.state == State.ENDED)
    world.store.failing = False
    await ended(world, EndReason.STOPPED)
    assert world.scheduler.submitted == []


async def test_a_launch_that_cannot_be_written_down_in_time_ends(world: World) -> None:
    world.store.failing, world.wait = True, 0.1
    session = await world.launch()
    await until(lambda: session.row.state == State.ENDED)
    world.store.failing = False
    await ended(world, EndReason.REJECTED, "The database is locked", error=StoreError)
    assert world.scheduler.submitted == []
