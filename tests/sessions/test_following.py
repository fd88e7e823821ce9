"""A session that another replica takes over, or has ended."""

import asyncio
import time
from typing import Any

import pytest

from hpcbridge.errors import (
    BridgeError,
    ClusterUnreachable,
    JobRejected,
    LeadershipLost,
    RouteError,
    TemplateError,
    TunnelError,
)
from hpcbridge.frontends.base import Routes
from hpcbridge.schedulers.base import EndReason
from hpcbridge.sessions.following import follow
from hpcbridge.sessions.lifecycle import drive
from hpcbridge.sessions.session import Session
from hpcbridge.store import State
from tests.sessions.world import ID, World, ended
from tests.waiting import until


async def test_a_route_that_is_published_when_nobody_wants_it_any_more_is_withdrawn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task is cancelled where another replica takes the session over."""
    publish, going_on = world.publisher.publish, asyncio.Event()
    writing = asyncio.Event()

    async def slow(routes: Routes) -> None:
        writing.set()
        await going_on.wait()
        await publish(routes)

    monkeypatch.setattr(world.publisher, "publish", slow)
    await world.starting()
    world.become_ready()
    await writing.wait()
    world.tasks[-1].cancel()
    going_on.set()
    await asyncio.wait(world.tasks)
    assert world.publisher.routes == {}


async def test_whoever_drives_a_session_that_another_ended_closes_its_door_and_tells(
    world: World,
) -> None:
    """A leader stood still, or a follower became the leader, when the session's end was written."""
    await world.ready()
    task = world.tasks[-1]
    task.cancel()
    await asyncio.wait({task})
    end = {"state": State.ENDED, "reason": EndReason.STOPPED, "message": "The session was stopped."}
    await world.store.update(world.row, **end, secret=None, ended_at=time.time())
    world.session.settled.clear()
    world.tasks.append(asyncio.create_task(drive(world.session)))
    await ended(world, EndReason.STOPPED)
    assert world.session.endpoint.state is None


async def test_a_follower_withdraws_a_route_until_no_front_end_has_it(world: World) -> None:
    session = await world.ready()
    world.tasks[-1].cancel()
    await asyncio.wait(world.tasks)
    following = asyncio.create_task(follow(session))
    end = {"state": State.ENDED, "reason": EndReason.STOPPED, "message": "The session was stopped."}
    world.publisher.failing = 2
    session.refresh(
        session.row.model_copy(update=end | {"version": session.row.version + 1}), driven=False
    )
    await asyncio.wait({following}, timeout=60)
    assert world.publisher.routes == {}


@pytest.mark.parametrize("fault", [TunnelError("Not now."), RuntimeError("can't start new thread")])
async def test_a_follower_goes_on_until_its_tunnel_is_open(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    session = await world.ready()
    world.tasks[-1].cancel()
    await asyncio.wait(world.tasks)
    whole, faults = session.endpoint.reopen, [fault, fault]

    async def reopen(host: str, port: int) -> None:
        if faults:
            raise faults.pop()
        await whole(host, port)

    monkeypatch.setattr(session.endpoint, "reopen", reopen)
    session.settled.clear()
    following = asyncio.create_task(follow(session))
    await until(session.settled.is_set)
    assert not following.done()
    assert not faults
    following.cancel()
    await asyncio.wait({following})


@pytest.mark.parametrize(
    "fault",
    [ClusterUnreachable("No answer"), JobRejected("No such queue"), TemplateError("job.sh")],
)
async def test_a_replica_that_follows_and_a_service_that_begins_anew_tell_the_same_error(
    world: World, fault: BridgeError
) -> None:
    world.scheduler.submit_fault = fault
    session = await world.launch()
    await session.settled.wait()
    assert session.error is not None
    here = (type(session.error), str(session.error), session.error.status)
    written = await world.store.get(ID)
    assert written is not None
    for elsewhere in (follow, drive):
        other = Session(written, session.context, world.cluster, world.application())
        task = asyncio.create_task(elsewhere(other))
        await until(lambda other=other: other.error is not None)
        task.cancel()
        await asyncio.wait({task})
        assert other.error is not None
        assert (type(other.error), str(other.error), other.error.status) == here


@pytest.mark.parametrize("driven", [True, False])
async def test_what_was_read_before_our_own_last_change_is_not_taken_over(
    world: World, driven: bool
) -> None:
    session = await world.queued()
    before = await world.store.get(ID)
    assert before is not None
    await session.claim()
    session.refresh(before, driven=driven)
    assert (session.row.claimed, session.keepalive.claimed) == (True, True)
    assert session.row.version > before.version


async def test_what_clients_did_at_other_replicas_is_taken_over_and_no_more(world: World) -> None:
    """Who leads knows the rest better: the database may be a step behind."""
    session = await world.queued()
    told = {"claimed": True, "message": "older", "version": session.row.version + 1}
    session.refresh(session.row.model_copy(update=told), driven=True)
    assert (session.row.claimed, session.keepalive.claimed) == (True, True)
    assert session.row.message != "older"
    assert not session.stopping
    stopped = {"stopped": True, "version": session.row.version + 1}
    session.refresh(session.row.model_copy(update=stopped), driven=True)
    assert session.stopping
    await ended(world, EndReason.STOPPED)


async def test_who_leads_no_more_ends_nothing_and_drives_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until this replica sees that itself, and follows."""
    session = await world.queued()
    asked = asyncio.Event()

    async def lost(*_: object, **__: object) -> bool:
        asked.set()
        raise LeadershipLost

    monkeypatch.setattr(world.store, "update", lost)
    world.scheduler.run(session.row.job_id or "")
    await asked.wait()
    looks = world.scheduler.looks
    await until(lambda: world.scheduler.looks > looks + 5)
    assert not world.tasks[-1].done()
    assert (session.settled.is_set(), session.error) == (False, None)
    assert world.scheduler.cancelled == []


async def test_a_session_that_another_replicas_client_wants_meanwhile_is_not_given_up(
    world: World,
) -> None:
    """The leader has not heard of it yet when it would end it: the row has."""
    session = await world.queued()
    there = await world.store.get(ID)
    assert there is not None
    now = time.time()
    await world.store.note(there, wanted_at=now)
    session.keepalive._keep = 0
    session.keepalive.elsewhere(0)
    await until(lambda: session.row.wanted_at == now)
    looks = world.scheduler.looks
    await until(lambda: world.scheduler.looks > looks + 5)
    assert session.row.state == State.QUEUED
    assert world.scheduler.cancelled == []
    assert not session.keepalive.over
    world.scheduler.run(session.row.job_id or "")
    await until(lambda: session.row.state == State.STARTING)


async def test_a_follower_begins_to_connect_to_the_node_when_the_job_starts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await world.starting()
    world.tasks[-1].cancel()
    await asyncio.wait(world.tasks)
    warmed: list[str] = []
    monkeypatch.setattr(world.cluster.tunnels, "warm", warmed.append)
    following = asyncio.create_task(follow(session))
    await until(lambda: warmed == ["localhost"])
    following.cancel()
    await asyncio.wait({following})


async def test_a_route_leads_to_where_the_session_is_now_whatever_was_missed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A follower that heard nothing of the requeue sees it ready on one node, then on another."""
    session = await world.ready()
    world.tasks[-1].cancel()
    await asyncio.wait(world.tasks)
    opened, whole = [], world.cluster.tunnels.open

    async def opening(host: str, port: int, *rest: Any, **more: Any) -> Any:
        opened.append((host, port))
        return await whole(host, world.port, *rest, **more)

    monkeypatch.setattr(world.cluster.tunnels, "open", opening)
    await session.endpoint.reopen("localhost", world.port)
    assert opened == []
    await session.endpoint.reopen("localhost", world.port + 1)
    assert opened == [("localhost", world.port + 1)]
    assert session.endpoint.state == "open"
    world.publisher.failing = 1
    with pytest.raises(RouteError, match="cannot be withdrawn yet"):
        await session.endpoint.reopen("localhost", world.port)
    assert (len(opened), session.endpoint.state) == (1, None)
    await session.endpoint.reopen("localhost", world.port)
    assert len(opened) == 2


async def test_whoever_waits_hears_what_ended_it_or_else_what_its_record_says(
    world: World,
) -> None:
    session = await world.queued()
    world.tasks[-1].cancel()
    await asyncio.wait(world.tasks)
    end = {"message": "The job was cancelled.", "error_class": "JobRejected"}
    await world.store.update(session.row, state=State.ENDED, reason=EndReason.CANCELLED, **end)
    session.settled.clear()
    told = asyncio.create_task(session.news.wait(3600))
    await asyncio.sleep(0)
    error = TunnelError("The node refused the tunnel.")
    await session.over(error)
    assert session.error is error
    assert session.settled.is_set()
    async with asyncio.timeout(60):
        await told
    await session.over()
    assert (type(session.error), str(session.error)) == (JobRejected, "The job was cancelled.")


async def test_who_is_connected_here_is_told_to_the_leader_when_it_changes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, int]] = []

    async def report(session_id: str, connections: int, unused: float) -> None:
        assert unused >= 0
        told.append((session_id, connections))

    monkeypatch.setattr(world.store.endpoints, "report", report)
    session = await world.starting()
    await session.report()
    assert told == [], "there is no tunnel yet"
    world.become_ready()
    await until(lambda: session.row.state == State.READY)

    async def twice(connections: int) -> None:
        traffic = session.endpoint.traffic
        await until(lambda: traffic and traffic.connections == connections)
        await session.report()
        await session.report()

    await twice(0)
    host, _, port = (session.endpoint.address or "").rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    await twice(1)
    writer.close()
    await twice(0)
    assert told == [(ID, 0), (ID, 1), (ID, 0)]


async def test_what_the_leader_learns_of_a_waiting_job_is_written_once_for_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are no others, it is not written: it is no step."""

    async def written() -> str:
        row = await world.store.get(ID)
        assert row is not None
        return row.message

    async def tell(*_: object) -> None:
        """A real one needs PostgreSQL."""

    session = await world.queued()
    world.scheduler.change("1", detail="Priority")
    await until(lambda: session.row.message == "Waiting in the queue: Priority.")
    looks = world.scheduler.looks
    await until(lambda: world.scheduler.looks > looks + 3)
    assert await written() == "Waiting in the queue."
    monkeypatch.setattr(world.store, "tell", tell)
    monkeypatch.setattr(world.store, "shared", True)
    world.scheduler.change("1", detail="Resources")

    async def resources() -> bool:
        return await written() == "Waiting in the queue: Resources."

    await until(resources)
    version, looks = session.row.version, world.scheduler.looks
    session.moved.set()
    await until(lambda: world.scheduler.looks > looks + 3)
    assert session.row.version == version
    monkeypatch.setattr(world.store, "shared", False)


async def test_what_ends_a_session_is_foreseen_once_it_is_ready(world: World) -> None:
    world.more = {"longest": 3600}
    session = await world.queued()
    assert session.expiries == []
    session.row.state, session.row.ready_at = State.READY, time.time()
    (end,) = session.expiries
    assert end.reason == EndReason.TIMED_OUT
    session.application = None
    assert session.expiries == []
    assert session.gives_up_at is None
    session.row.state = State.QUEUED


async def test_whether_a_client_here_wants_it_is_asked_of_the_session(world: World) -> None:
    session = await world.queued()
    assert not session.wanted_here()
    with session.client_waits():
        assert session.wanted_here()
