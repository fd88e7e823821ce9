"""A session follows its job both ways: to ready, back to the queue, and to its end at once."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hpcbridge.clusters import watcher as watcher_module
from hpcbridge.errors import ClusterError, JobRejected
from hpcbridge.schedulers.base import EndReason, JobInfo, JobState
from hpcbridge.schedulers.pbs.jobs import PBS_ENDS, job_info
from hpcbridge.schedulers.pbs.readers import read_json
from hpcbridge.sessions.following import follow
from hpcbridge.store import State
from tests.sessions.world import LINE, World, ended
from tests.waiting import until

RECORDED = Path(__file__).parents[1] / "fixtures" / "pbs-real"


@pytest.fixture
async def other_port() -> AsyncIterator[int]:
    """A port of the next run, on which an application answers."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


def back(world: World, detail: str = "", **more: object) -> None:
    world.scheduler.change(
        world.row.job_id or "", state=JobState.QUEUED, host=None, detail=detail, **more
    )


def again(world: World, run: str = "2") -> None:
    world.scheduler.change(
        world.row.job_id or "", state=JobState.RUNNING, host="localhost", run=run, suspended=False
    )


@pytest.mark.parametrize("state", [State.STARTING, State.READY])
async def test_a_session_goes_back_to_the_queue_with_its_job(world: World, state: State) -> None:
    session = await (world.ready() if state == State.READY else world.starting())
    back(world, "waiting for an operator to release it")
    await until(lambda: session.row.state == State.QUEUED)
    await until(lambda: session.row.message == "Waiting for an operator to release it.")
    assert not session.settled.is_set()
    assert (session.row.host, session.row.port, session.tunnel_state) == (None, None, None)
    assert world.publisher.routes == {}


async def test_a_job_that_runs_again_is_ready_only_by_what_its_new_run_tells(
    world: World, other_port: int
) -> None:
    session = await world.ready()
    first = session.row.port
    back(world)
    await until(lambda: session.row.state == State.QUEUED)
    again(world)
    await until(lambda: session.row.state == State.STARTING)
    looks = world.scheduler.looks
    await until(lambda: world.scheduler.looks > looks + 5)
    assert session.row.state == State.STARTING  # the old ready line and port are still there
    application, port = world.transport.session(session.row), other_port
    log = world.transport.files[f"{session.row.directory}/output.log"]
    world.transport.files[f"{session.row.directory}/status"] = b""
    application.tells(f"log={len(log)}\nport={port}\n")
    await until(lambda: world.scheduler.looks > looks + 10)
    assert session.row.state == State.STARTING
    application.prints(f"wslink: {LINE}")
    await until(lambda: session.row.state == State.READY)
    assert (session.row.port, first != port) == (port, True)
    assert session.settled.is_set()
    assert world.publisher.routes


async def test_a_rerun_between_two_looks_is_seen_by_its_number(world: World) -> None:
    session = await world.starting()
    world.scheduler.change(session.row.job_id or "", run="1")
    world.become_ready()
    await until(lambda: session.row.state == State.READY)
    again(world, "2")
    await until(lambda: session.row.state == State.STARTING)
    assert session.tunnel_state is None


async def test_a_suspended_job_that_goes_on_is_ready_again_as_it_was(world: World) -> None:
    session = await world.ready()
    port = session.row.port
    back(world, "waiting to be resumed", suspended=True)
    await until(lambda: session.row.state == State.QUEUED)
    assert world.publisher.routes == {}
    again(world, "")
    await until(lambda: session.row.state == State.READY)
    assert session.row.port == port


async def test_a_suspended_job_that_is_requeued_is_another_run(world: World) -> None:
    session = await world.ready()
    back(world, suspended=True)
    await until(lambda: session.row.state == State.QUEUED)
    again(world, "2")
    await until(lambda: session.row.state == State.READY)  # it goes on, and is the same run
    back(world)
    await until(lambda: session.row.state == State.QUEUED)
    again(world, "3")
    await until(lambda: session.row.state == State.STARTING)


async def test_a_session_that_went_back_late_has_its_whole_wait_again(world: World) -> None:
    world.wait = 30
    session = await world.ready()
    session.row.submitting_at = time.time() - 3600
    session.clock.since(session.row.submitting_at)
    back(world)
    await until(lambda: session.row.state == State.QUEUED)
    looks = world.scheduler.looks
    await until(lambda: world.scheduler.looks > looks + 5)
    assert session.row.state == State.QUEUED


async def test_a_follower_closes_its_endpoint_and_opens_it_again(world: World) -> None:
    session = await world.ready()
    host, port = session.row.host, session.row.port
    world.tasks[-1].cancel()
    await asyncio.wait(world.tasks)
    following = asyncio.create_task(follow(session))
    world.publisher.failing = 2
    changes = {
        "state": State.QUEUED,
        "host": None,
        "port": None,
        "version": session.row.version + 1,
    }
    session.refresh(session.row.model_copy(update=changes), driven=False)
    await until(lambda: not world.publisher.routes)
    assert (session.tunnel_state, session.settled.is_set()) == (None, False)
    changes = {"state": State.READY, "host": host, "port": port, "version": session.row.version + 1}
    session.refresh(session.row.model_copy(update=changes), driven=False)
    await until(lambda: session.settled.is_set() and world.publisher.routes)
    following.cancel()
    await asyncio.wait({following})


@pytest.mark.parametrize("state", [State.STARTING, State.READY])
async def test_a_completing_job_ends_its_session_at_once_and_is_ended_with_proof(
    world: World, state: State
) -> None:
    """Its epilogue runs for a minute: until then the job is there, and its application is not."""
    session = await (world.ready() if state == State.READY else world.starting())
    job_id = session.row.job_id or ""
    world.scheduler.details[job_id] = JobInfo(
        job_id, session.row.job_name, JobState.COMPLETING, None, "", EndReason.FAILED, 139
    )
    world.scheduler.change(job_id, state=JobState.COMPLETING)
    await until(lambda: session.row.state == State.ENDED)
    assert session.row.exit_status == 139
    assert "exit status 139" in session.row.message
    assert not session.row.job_ended
    del world.scheduler.details[job_id]
    await ended(world, EndReason.FAILED)


async def test_a_second_question_that_fails_ends_no_session_and_shows_that(world: World) -> None:
    session = await world.ready()
    job_id = session.row.job_id or ""
    world.scheduler.details[job_id] = ClusterError("qstat told neither jobs nor why not (0).")
    del world.scheduler.jobs[job_id]
    await until(lambda: session.unknown_since)
    looks = world.scheduler.looks
    await until(lambda: world.scheduler.looks > looks + 5)
    assert session.row.state == State.READY
    del world.scheduler.details[job_id]
    await ended(world, EndReason.FAILED, "no longer knows")


async def test_a_job_that_pbs_holds_after_failed_starts_is_given_up_in_its_words(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As recorded: a listing catches the short R first, again and again, and then the hold."""
    monkeypatch.setattr(watcher_module, "HOPELESS", 0.05)
    session = await world.queued()
    job_id = session.row.job_id or ""
    for number in range(1, 9):
        jobs = read_json((RECORDED / f"held_after_failed_starts_{number}.json").read_text()) or {}
        (attributes,) = jobs.values()
        told = job_info(job_id, attributes, PBS_ENDS)
        world.scheduler.jobs[job_id] = JobInfo(
            **{**vars(told), "name": session.row.job_name, "job_id": job_id}
        )
        looks = world.scheduler.looks
        await until(lambda looks=looks: world.scheduler.looks > looks + 2)
    await ended(world, EndReason.REJECTED, "too many failed attempts to run", error=JobRejected)


def test_the_recorded_rerun_is_seen_by_its_count() -> None:
    runs = []
    for name in ("rerun_before", *(f"rerun_after_{number}" for number in range(1, 7))):
        (job,) = (read_json((RECORDED / f"{name}.json").read_text()) or {}).values()
        told = job_info("1", job, PBS_ENDS)
        assert told.state == JobState.RUNNING
        runs.append(told.run)
    assert runs == ["1", *["2"] * 6]


def test_the_recorded_suspension_waits_and_goes_on() -> None:
    (job,) = (read_json((RECORDED / "suspended.json").read_text()) or {}).values()
    told = job_info("1", job, PBS_ENDS)
    assert (told.state, told.suspended, told.host) == (JobState.QUEUED, True, None)
    assert told.detail == "waiting for its resumption: it is suspended"


async def test_a_session_goes_back_only_when_no_front_end_leads_to_its_old_port(
    world: World,
) -> None:
    session = await world.ready()
    world.publisher.failing = 3
    back(world)
    await until(lambda: session.row.state == State.QUEUED)
    assert world.publisher.failing == 0
    assert world.publisher.routes == {}
