"""The life of one session as a whole: its states in order, outages, faults of our own."""

import asyncio
from typing import Any

import pytest

from hpcbridge.config.installation import job_name
from hpcbridge.errors import ClusterUnreachable
from hpcbridge.schedulers.base import EndReason, JobState
from hpcbridge.sessions.session import Session
from hpcbridge.sessions.startup import Startup
from hpcbridge.sessions.teardown import Teardown
from hpcbridge.store import State
from hpcbridge.web import events as events_module
from tests.sessions.world import ID, World, ended
from tests.waiting import until


async def test_a_session_goes_through_all_its_states_to_ready(world: World) -> None:
    session = await world.ready()
    row = await world.store.get(ID)
    assert row is not None
    times = [row.submitting_at, row.queued_at, row.starting_at, row.ready_at]
    assert times == sorted(each for each in times if each is not None)
    assert (row.host, row.port, row.job_id) == ("localhost", world.port, "1")
    assert world.publisher.routes == {ID: session.endpoint.address}
    assert await world.store.endpoints.here() == world.publisher.routes
    assert session.settled.is_set()
    assert session.error is None
    assert [each.quiet for each in world.cluster.follower._followed] == [True]  # for its end
    request = world.scheduler.submitted[0]
    assert request.name == job_name(ID, "0" * 8)
    assert request.directory == f"/s/{request.name}"
    assert ID not in request.name


@pytest.mark.parametrize("state", ["queued", "starting", "ready"])
async def test_an_outage_ends_nothing_and_is_shown(world: World, state: str) -> None:
    session = await getattr(world, state)()
    world.scheduler.down = ClusterUnreachable("down")
    world.transport.down = ClusterUnreachable("down")
    await until(lambda: session.watch and session.watch.unknown_since)
    await asyncio.sleep(0.1)
    assert session.row.state == State(state)
    world.scheduler.down = world.transport.down = None
    await until(lambda: session.watch and session.watch.unknown_since is None)
    assert session.row.state == State(state)


async def test_a_released_session_leaves_its_job_running(world: World) -> None:
    session = await world.ready()
    world.tasks[-1].cancel()
    await asyncio.gather(*world.tasks, return_exceptions=True)
    await session.release()
    assert world.scheduler.jobs["1"].state == JobState.RUNNING
    assert session.row.state == State.READY


async def test_who_follows_the_progress_of_a_quiet_session_does_not_keep_it_busy(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for a session keeps it; that is no news of it, or one question would be the next."""
    monkeypatch.setattr(events_module, "LOOK", 60)
    session = await world.queued()
    await until(lambda: session.watch and session.watch.queued)
    described = 0

    async def describe() -> dict[str, Any]:
        nonlocal described
        described += 1
        session.keepalive.touch()  # as GET does
        return {"state": session.row.state}

    async def listen() -> None:
        async for _ in events_module.stream(describe, lambda: session.news, lambda: False):
            pass

    world.tasks.insert(0, asyncio.create_task(listen()))
    await until(lambda: described)
    for _ in range(200):
        await asyncio.sleep(0)
    assert described <= 2


@pytest.mark.parametrize("when", ["before it is ready", "when it has ended"])
async def test_a_fault_of_ours_is_told_and_the_session_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    early = when == "before it is ready"
    part, name = (Startup, "_advance") if early else (Teardown, "_end_job")
    whole, faults = getattr(part, name), [RuntimeError("can't start new thread")]

    async def broken(part: Any, *arguments: Any) -> Any:
        if faults:
            raise faults.pop()
        return await whole(part, *arguments)

    async def wait(session: Session) -> str:
        await session.settled.wait()
        return str(session.error)

    monkeypatch.setattr(part, name, broken)
    session = await world.launch()
    waiting = asyncio.create_task(wait(session))
    if when == "when it has ended":
        session.stop()
        await ended(world, EndReason.STOPPED)
        assert "was stopped" in await waiting
    else:
        assert "Internal error" in await waiting
        world.scheduler.run("1")
        world.become_ready()
        await until(lambda: session.row.state == State.READY)
        assert session.error is None
        assert len(world.cluster.watcher._watches) == 1
