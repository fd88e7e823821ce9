"""A session whose service was killed is taken up by the next."""

import asyncio
import time

import pytest

from hpcbridge.config.installation import job_name
from hpcbridge.errors import ClusterUnreachable, NotReadyInTime, TunnelError
from hpcbridge.schedulers.base import EndReason, JobState
from hpcbridge.store import SessionRow, State
from tests.sessions.world import ID, LINE, World, ended, nothing_is_left
from tests.waiting import until


async def test_a_service_that_died_before_it_staged_begins_again(world: World) -> None:
    world.transport.stage_fault = None
    row = SessionRow(
        id=ID,
        application="cone",
        cluster="fake",
        job_name=job_name(ID, "0" * 8),
        submitting_at=time.time(),
    )
    await world.store.add(row)
    world.take(row)
    await until(lambda: row.state == State.QUEUED)
    assert len(world.scheduler.submitted) == 1


async def test_a_service_that_died_while_it_submitted_adopts_the_job(world: World) -> None:
    await world.queued()
    await world.store.update(world.row, state=State.SUBMITTING, job_id=None)
    session = await world.restart()
    await until(lambda: session.row.state == State.QUEUED)
    assert session.row.job_id == "1"
    assert len(world.scheduler.submitted) == 1


async def test_a_service_that_died_before_it_submitted_submits_again(world: World) -> None:
    await world.queued()
    await world.store.update(world.row, state=State.SUBMITTING, job_id=None)
    world.scheduler.jobs.clear()
    session = await world.restart()
    await until(lambda: session.row.state == State.QUEUED)
    assert [request.name for request in world.scheduler.submitted] == session.row.attempt_names


async def test_a_queued_session_keeps_waiting(world: World) -> None:
    await world.queued()
    session = await world.restart()
    world.scheduler.run("1")
    await until(lambda: session.row.state == State.STARTING)
    world.become_ready()
    await until(lambda: session.row.state == State.READY)
    assert len(world.scheduler.submitted) == 1


async def test_a_starting_session_is_followed_on(world: World) -> None:
    await world.starting()
    world.transport.session(world.row).prints("wslink: Starting fac")
    session = await world.restart()
    world.transport.session(world.row).prints("tory")
    world.transport.session(world.row).tells(f"port={world.port}\n")
    await until(lambda: session.row.state == State.READY)


@pytest.mark.parametrize("unix", [False, True])
async def test_a_ready_session_gets_its_tunnel_back_on_the_same_local_end(
    world: World, unix: bool
) -> None:
    world.unix = unix
    await world.ready()
    address = world.session.endpoint.address
    session = await world.restart()
    assert session.settled.is_set()
    await until(lambda: world.publisher.routes == {ID: address})
    assert session.endpoint.address == address


@pytest.mark.parametrize("state", ["starting", "ready"])
async def test_a_job_that_ran_again_while_the_service_was_away_is_seen_by_its_port(
    world: World, unused_tcp_port: int, state: str
) -> None:
    """It runs on the same node, and nothing tells the new service of the run that it was in."""
    port = unused_tcp_port
    await getattr(world, state)()
    application = world.transport.session(world.row)
    application.tells(f"port={world.port}\n")
    session = await world.restart()
    if state == "starting":
        followed = world.cluster.follower._followed
        await until(lambda: any(each.port == world.port for each in followed))
    else:
        await until(lambda: world.publisher.routes)
    log = len(world.transport.files.get(f"{session.row.directory}/output.log", b""))
    application.tells(f"log={log}\nport={port}\n")
    await until(lambda: world.publisher.routes == {} and session.row.port is None)
    await until(lambda: session.row.state == State.STARTING)
    application.prints(f"wslink: {LINE}")
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", port)
    await until(lambda: session.row.state == State.READY)
    assert session.row.port == port
    server.close()
    await server.wait_closed()


async def test_a_job_that_waits_again_is_not_reached_for_any_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.ready()
    tried = asyncio.Event()

    async def refused(*_: object, **__: object) -> None:
        tried.set()
        raise TunnelError("The node does not answer.")

    monkeypatch.setattr(world.cluster.tunnels, "open", refused)
    session = await world.restart()
    await tried.wait()
    world.scheduler.change("1", state=JobState.QUEUED, host=None)
    await until(lambda: session.row.state == State.QUEUED)
    assert not session.settled.is_set()


async def test_a_tunnel_that_cannot_be_reopened_is_tried_again(world: World) -> None:
    await world.ready()
    address = world.session.endpoint.address
    world.publisher.failing = 3
    session = await world.restart()
    await until(lambda: not world.publisher.failing and world.routes.lookup(ID))
    assert world.publisher.routes == {ID: address}
    assert session.row.state == State.READY
    session.stop()
    await ended(world, EndReason.STOPPED)


@pytest.mark.parametrize("state", ["queued", "starting", "ready"])
async def test_a_job_that_ended_while_the_service_was_away_ends_its_session(
    world: World, state: str
) -> None:
    await getattr(world, state)()
    world.scheduler.end("1", EndReason.TIMED_OUT)
    await world.restart()
    row = await world.over()
    assert row.reason == EndReason.TIMED_OUT
    nothing_is_left(world)


@pytest.mark.parametrize("state", ["queued", "starting", "ready"])
async def test_an_application_that_is_no_longer_configured_is_ended(
    world: World, state: str
) -> None:
    await getattr(world, state)()
    await world.restart(configured=False)
    await ended(world, EndReason.STOPPED, "no longer configured")


async def test_a_stop_that_the_service_did_not_finish_is_finished_by_the_next(
    world: World,
) -> None:
    session = await world.ready()
    world.scheduler.down = ClusterUnreachable("down")
    session.stop()
    await until(lambda: session.row.state == State.ENDED)
    world.scheduler.down = None
    await world.restart()
    row = await world.over()
    assert (row.reason, row.job_ended) == (EndReason.STOPPED, True)
    assert set(world.scheduler.cancelled) == {"1"}  # maybe more than once
    nothing_is_left(world)


async def test_an_end_without_a_job_id_still_looks_for_a_late_job(world: World) -> None:
    await world.queued()
    await world.store.update(world.row, state=State.SUBMITTING, job_id=None)
    await world.store.update(world.row, state=State.ENDED, reason=EndReason.STOPPED)
    world.has_grace(60)
    hidden = dict(world.scheduler.jobs)
    world.scheduler.jobs.clear()
    looks = world.scheduler.looks
    await world.restart()
    await until(lambda: world.scheduler.looks > looks)
    world.scheduler.jobs |= hidden
    row = await world.over()
    assert row.job_ended
    nothing_is_left(world)


async def test_a_record_that_is_not_complete_is_ended(world: World) -> None:
    await world.ready()
    await world.store.update(world.row, port=None)
    await world.restart()
    await ended(world, EndReason.FAILED, "not complete")


async def test_the_deadline_counts_from_the_launch_also_after_a_restart(world: World) -> None:
    await world.queued()
    await world.store.update(world.row, submitting_at=time.time() - 3600)
    await world.restart()
    await ended(world, EndReason.NEVER_READY, "still in the queue", error=NotReadyInTime)


async def test_a_session_whose_port_was_taken_meanwhile_gets_another(world: World) -> None:
    await world.ready()
    host, _, port = (world.session.endpoint.address or "").rpartition(":")
    await world.session.release()
    loop = asyncio.get_running_loop()
    taker = await loop.create_server(asyncio.Protocol, host, int(port))
    session = await world.restart()
    await until(lambda: session.endpoint.address not in (f"{host}:{port}", f"{host}:0"))
    assert world.publisher.routes == {ID: session.endpoint.address}
    taker.close()
    await taker.wait_closed()


async def test_a_stop_is_not_forgotten_by_a_service_that_is_killed(world: World) -> None:
    session = await world.ready()
    await world.store.update(session.row, stopped=True)
    await world.restart()
    await ended(world, EndReason.STOPPED)


async def test_a_stop_that_came_before_the_job_was_submitted_submits_none(world: World) -> None:
    """The service was killed when the stop was written down."""
    world.transport.down = ClusterUnreachable("down")
    session = await world.launch()
    session.row.state, session.row.stopped = State.SUBMITTING, True
    await world.store.update(session.row, state=State.SUBMITTING, stopped=True, directory="")
    world.transport.down = None
    await world.restart()
    await ended(world, EndReason.STOPPED)
    assert world.scheduler.submitted == []
