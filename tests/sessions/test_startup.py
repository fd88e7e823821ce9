"""From the launch of a session to the moment when it is ready."""

import asyncio

import pytest

from hpcbridge.clusters import queuestatus as queuestatus_module
from hpcbridge.clusters import watcher as watcher_module
from hpcbridge.errors import JobRejected
from hpcbridge.schedulers.base import EndReason, JobState, Outlook
from hpcbridge.store import State
from tests.sessions.world import ID, LINE, World, ended
from tests.waiting import until


async def test_ready_means_that_the_application_accepts_connections(world: World) -> None:
    await world.ready()
    host, _, port = (world.session.endpoint.address or "").rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.close()
    await writer.wait_closed()


async def test_the_local_end_can_be_a_unix_socket(world: World) -> None:
    world.unix = True
    await world.ready()
    path = world.sockets / f"{ID}.sock"
    assert world.session.endpoint.address == f"unix:{path}"
    assert path.is_socket()
    world.session.stop()
    await ended(world, EndReason.STOPPED)


async def test_a_ready_line_without_a_port_waits_for_the_port(world: World) -> None:
    await world.starting()
    application = world.transport.session(world.row)
    application.prints(LINE)
    await asyncio.sleep(0.1)
    assert world.row.state == State.STARTING
    application.tells(f"port={world.port}\n")
    await until(lambda: world.row.state == State.READY)


async def test_a_ready_line_counts_only_once_the_scheduler_told_the_host(world: World) -> None:
    await world.queued()
    world.become_ready()
    await asyncio.sleep(0.1)
    assert world.row.state == State.QUEUED
    world.scheduler.run("1")
    await until(lambda: world.row.state == State.READY)


async def test_a_job_that_runs_on_no_node_yet_still_waits(world: World) -> None:
    session = await world.queued()
    world.scheduler.change("1", state=JobState.RUNNING, host=None)
    watch = session.watch
    await until(lambda: watch and watch.job and watch.job.state == JobState.RUNNING)
    looks = world.scheduler.looks
    await until(lambda: world.scheduler.looks > looks + 3)
    assert session.row.state == State.QUEUED


async def test_why_a_job_waits_is_told(world: World) -> None:
    await world.queued()
    world.scheduler.change("1", detail="Resources")
    await until(lambda: world.row.message == "Waiting in the queue: Resources.")


async def test_for_what_and_behind_whom_a_job_waits_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queuestatus_module, "PATIENCE", 0.0)
    world.scheduler.outlooks["1"] = Outlook("viz", 14, None, "2 GPUs", "partition")
    await world.queued()
    expected = "Waiting for 2 GPUs; 14 jobs are ahead in partition viz."
    await until(lambda: world.row.message == expected)
    assert world.session.outlook == world.scheduler.outlooks["1"]
    world.scheduler.run("1")
    await until(lambda: world.row.state == State.STARTING)
    assert world.session.outlook == Outlook()


async def test_a_job_that_can_never_start_ends_the_session_and_is_cancelled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "HOPELESS", 0.1)
    await world.queued()
    world.scheduler.change("1", hopeless="The job can never start: too much.")
    await ended(world, EndReason.REJECTED, "can never start: too much.", error=JobRejected)
    await until(lambda: world.scheduler.cancelled)


async def test_a_job_that_is_hopeless_for_a_moment_only_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "HOPELESS", 60.0)
    await world.queued()
    world.scheduler.change("1", hopeless="The job can never start: too much.", detail="No.")
    await until(lambda: "No." in world.row.message)
    world.scheduler.run("1")
    await until(lambda: world.row.state == State.STARTING)


async def test_a_place_in_the_queue_is_told_in_numbers_and_words_of_one_moment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queuestatus_module, "PATIENCE", 0.0)
    world.scheduler.outlooks["1"] = Outlook("viz", 14, None, "2 GPUs", "partition")
    session = await world.queued()
    await until(lambda: session.outlook.ahead == 14)
    assert "14 jobs are ahead" in session.row.message
    watch = session.watch
    assert watch is not None
    world.scheduler.outlooks["1"] = watch.outlook = Outlook("viz", 3, None, "2 GPUs", "partition")
    assert session.outlook.ahead == 14  # as long as the message says so
    assert "14 jobs are ahead" in session.row.message
    watch.changed()
    await until(lambda: session.outlook.ahead == 3)
    assert "3 jobs are ahead" in session.row.message
    world.scheduler.change("1", state=JobState.RUNNING, host=None)  # on no node yet
    await until(lambda: session.outlook == Outlook())
    assert "ahead" not in session.row.message
