"""A session's job on its way to the scheduler: refused, lost, late, or there."""

import asyncio
import time

import pytest

from hpcbridge.errors import (
    BridgeError,
    ClusterError,
    ClusterUnreachable,
    JobRejected,
    LeadershipLost,
    NoCapacity,
    NotReadyInTime,
    OutcomeUnknown,
    StoreError,
    TemplateError,
    UnexpectedReply,
)
from hpcbridge.schedulers.base import EndReason, JobRequest
from hpcbridge.sessions.submission import ATTEMPTS
from hpcbridge.store import State
from tests.sessions.world import World, ended
from tests.waiting import until


@pytest.mark.parametrize(
    "fault", [JobRejected("Slurm refused the job: bad partition"), NoCapacity("All slots taken")]
)
async def test_a_refused_job_ends_the_session_with_the_schedulers_words(
    world: World, fault: BridgeError
) -> None:
    world.scheduler.submit_fault = fault
    await world.launch()
    await ended(world, EndReason.REJECTED, str(fault), error=type(fault))


async def test_a_cluster_that_is_down_at_submit_is_told_at_once(world: World) -> None:
    world.scheduler.submit_fault = ClusterUnreachable("The controller does not answer")
    await world.launch()
    await ended(world, EndReason.REJECTED, "does not answer", error=ClusterUnreachable)
    assert len(world.scheduler.submitted) == 1


async def test_a_directory_that_cannot_be_staged_is_told(world: World) -> None:
    world.transport.stage_fault = ClusterError("The disk is full")
    await world.launch()
    await ended(world, EndReason.REJECTED, "disk is full", error=ClusterError)
    assert world.scheduler.submitted == []


async def test_a_connection_that_was_lost_before_the_job_was_sent_is_told(world: World) -> None:
    """Nothing is looked for by its name: nothing was submitted."""
    world.transport.stage_fault = OutcomeUnknown("The connection was lost.")
    await world.launch()
    await ended(world, EndReason.REJECTED, "connection was lost", error=OutcomeUnknown)
    assert world.scheduler.submitted == []


async def test_a_broken_template_is_told(world: World) -> None:
    world.files.fault = TemplateError("job.sh: line 3")
    await world.launch()
    await ended(world, EndReason.REJECTED, "line 3", error=TemplateError)


# -- its outcome is unknown


@pytest.mark.parametrize("fault", [OutcomeUnknown("timed out"), UnexpectedReply("too much")])
async def test_a_job_that_was_accepted_all_the_same_is_adopted(
    world: World, fault: ClusterError
) -> None:
    world.scheduler.submit_fault, world.scheduler.accepts = fault, True
    await world.queued()
    assert world.row.job_id == "1"
    assert len(world.scheduler.submitted) == 1


async def test_a_job_that_appears_late_is_adopted(world: World) -> None:
    world.scheduler.submit_fault, world.scheduler.accepts = OutcomeUnknown("timed out"), True
    world.scheduler.appears_after = 3
    world.has_grace(60)
    await world.queued()
    assert len(world.scheduler.submitted) == 1


async def test_a_job_that_never_appears_is_submitted_again_under_another_name(
    world: World,
) -> None:
    world.scheduler.submit_fault = OutcomeUnknown("timed out")
    began = time.monotonic()
    session = await world.queued()
    assert time.monotonic() - began >= world.cluster.settings.grace
    first, second = world.scheduler.submitted
    assert (first.name, second.name) == (session.row.job_name, f"{session.row.job_name}-1")
    assert session.row.directory == second.directory == f"{first.directory}-1"
    assert {path.rpartition("/")[0] for path in world.transport.files} == {second.directory}
    session.stop()
    await ended(world, EndReason.STOPPED)


async def test_jobs_that_never_appear_are_given_up_after_a_few_attempts(world: World) -> None:
    submit = world.scheduler.submit

    async def lost(request: JobRequest) -> str:
        world.scheduler.submit_fault = OutcomeUnknown("timed out")
        return await submit(request)

    world.scheduler.submit = lost  # type: ignore[method-assign]
    await world.launch()
    await ended(world, EndReason.REJECTED, "did not take the job")
    assert len({request.name for request in world.scheduler.submitted}) == ATTEMPTS


async def test_the_directory_of_an_attempt_is_gone_before_the_next_is_submitted(
    world: World,
) -> None:
    """A job that is born after all finds neither its script nor the secret."""
    world.scheduler.submit_fault = OutcomeUnknown("timed out")
    submit, seen = world.scheduler.submit, []

    async def look(request: JobRequest) -> str:
        seen.append({path.rpartition("/")[0] for path in world.transport.files})
        return await submit(request)

    world.scheduler.submit = look  # type: ignore[method-assign]
    await world.queued()
    assert seen == [{request.directory} for request in world.scheduler.submitted]


@pytest.mark.parametrize("error", [ClusterUnreachable("down"), UnexpectedReply("garbage")])
async def test_looking_it_up_goes_on_while_the_cluster_cannot_be_asked(
    world: World, error: ClusterError
) -> None:
    world.scheduler.submit_fault, world.scheduler.accepts = OutcomeUnknown("timed out"), True
    world.scheduler.down = error
    session = await world.launch()
    await asyncio.sleep(0.3)
    assert session.row.state == State.SUBMITTING
    world.scheduler.down = None
    await until(lambda: session.row.state == State.QUEUED)


async def test_who_waits_is_not_kept_for_ever_by_a_cluster_that_stays_silent(
    world: World,
) -> None:
    world.wait = 0.3
    world.scheduler.submit_fault, world.scheduler.accepts = OutcomeUnknown("timed out"), True
    world.scheduler.down = ClusterUnreachable("down")
    session = await world.launch()
    await until(lambda: session.row.state == State.ENDED)
    assert isinstance(session.error, NotReadyInTime)
    world.scheduler.down = None
    await ended(world, EndReason.NEVER_READY, error=NotReadyInTime)


async def test_a_job_that_appears_after_its_session_was_stopped_is_cancelled(world: World) -> None:
    world.scheduler.submit_fault, world.scheduler.accepts = OutcomeUnknown("timed out"), True
    world.scheduler.appears_after = 4
    world.has_grace(60)
    session = await world.launch()
    await until(lambda: world.scheduler.looks)
    session.stop()
    await ended(world, EndReason.STOPPED)
    assert set(world.scheduler.cancelled) == {"1"}  # maybe more than once


@pytest.mark.parametrize("error", [StoreError("The database is away."), LeadershipLost()])
async def test_nothing_is_submitted_and_no_secret_left_where_another_replica_may_drive_it(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """It is asked once more when the files are there: that may have taken long."""
    checked = asyncio.Event()

    async def check() -> None:
        assert world.transport.files
        checked.set()
        raise error

    monkeypatch.setattr(world.store, "check", check)
    await world.launch()
    await checked.wait()
    await until(lambda: world.transport.files == {})
    assert world.scheduler.submitted == []
