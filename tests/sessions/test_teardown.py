"""How a ready session ends or is stopped; nothing is left behind."""

import time

import pytest

from hpcbridge.errors import ClusterUnreachable, NotReadyInTime
from hpcbridge.schedulers.base import EndReason
from hpcbridge.sessions.context import Timing
from hpcbridge.store import State
from tests.sessions.world import World, ended
from tests.waiting import until


@pytest.mark.parametrize("reason", [EndReason.FINISHED, EndReason.TIMED_OUT, EndReason.PREEMPTED])
async def test_a_ready_session_ends_with_its_job(world: World, reason: EndReason) -> None:
    await world.ready()
    world.scheduler.end("1", reason, 0)
    await ended(world, reason, "session is over")


async def test_a_ready_session_whose_job_vanished_is_over(world: World) -> None:
    await world.ready()
    del world.scheduler.jobs["1"]
    await ended(world, EndReason.FAILED, "it was killed, or its node failed", "no longer knows")


async def test_a_cluster_that_stays_silent_is_given_up_by_who_waits_but_cleaned_up(
    world: World,
) -> None:
    world.wait = 1.5
    await world.queued()
    world.scheduler.down = ClusterUnreachable("down")
    await until(lambda: world.row.state == State.ENDED)
    assert isinstance(world.session.error, NotReadyInTime)
    assert "does not answer" in str(world.session.error)
    assert not world.tasks[-1].done()
    world.scheduler.down = None
    await ended(world, EndReason.NEVER_READY, error=NotReadyInTime)


@pytest.mark.parametrize("state", ["launch", "queued", "starting", "ready"])
async def test_a_session_can_be_stopped_in_every_state(world: World, state: str) -> None:
    session = await getattr(world, state)()
    session.stop()
    assert session.stopping
    await ended(world, EndReason.STOPPED, "was stopped")


async def test_stopping_twice_is_stopping(world: World) -> None:
    session = await world.ready()
    session.stop()
    session.stop()
    await ended(world, EndReason.STOPPED)


async def test_the_route_is_gone_before_the_job_is_cancelled(world: World) -> None:
    session = await world.ready()
    world.scheduler.down = ClusterUnreachable("down")
    session.stop()
    await until(lambda: session.row.state == State.ENDED and not world.publisher.routes)
    assert world.scheduler.living == ["1"]
    world.scheduler.down = None
    await ended(world, EndReason.STOPPED)


async def test_cancelling_is_repeated_until_the_job_is_over(world: World) -> None:
    session = await world.ready()
    world.scheduler.ignores_cancel = 3
    session.stop()
    await ended(world, EndReason.STOPPED)
    assert len(world.scheduler.cancelled) >= 4


async def test_a_directory_that_is_busy_is_removed_later(world: World) -> None:
    session = await world.ready()
    world.transport.remove_faults = 2
    session.stop()
    await ended(world, EndReason.STOPPED)


async def test_a_route_that_could_not_be_withdrawn_is_withdrawn_later(world: World) -> None:
    session = await world.ready()
    world.publisher.failing = 2
    session.stop()
    await ended(world, EndReason.STOPPED)


async def test_what_nobody_wants_any_more_is_cancelled_without_haste(world: World) -> None:
    """The time to keep it is over for good, and must not turn waiting into spinning."""
    world.timing = Timing(retry=0.1)
    await world.starting()
    world.scheduler.ignores_cancel = 1000
    world.session.keepalive._keep = 0
    world.session.keepalive.elsewhere(0)
    await until(lambda: world.row.state == State.ENDED)
    assert world.row.reason == EndReason.IDLE
    began, before = time.monotonic(), len(world.scheduler.cancelled)
    await until(lambda: len(world.scheduler.cancelled) > before + 5, "six more attempts")
    assert time.monotonic() - began > 0.4
    world.scheduler.ignores_cancel = 0
    await until(lambda: world.row.job_ended)


async def test_a_job_that_the_listing_lacks_is_looked_for_and_cancelled_at_once(
    world: World,
) -> None:
    """It is asked for by its id: its grace is for jobs of which nothing is known."""
    world.has_grace(3600)
    session = await world.ready()
    world.scheduler.details["1"] = world.scheduler.jobs.pop("1")
    session.stop()
    await until(lambda: world.scheduler.cancelled)
    world.scheduler.jobs["1"] = world.scheduler.details.pop("1")  # type: ignore[assignment]
    await ended(world, EndReason.STOPPED)
