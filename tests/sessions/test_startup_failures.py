"""How a session can end before it is ready, and what is told of it."""

import asyncio
import contextlib
import socket
import time
from typing import Any

import pytest

from hpcbridge import tunnels as tunnels_module
from hpcbridge.errors import (
    ClusterUnreachable,
    NotReadyInTime,
    NotServing,
    OutcomeUnknown,
    TunnelError,
    UnexpectedReply,
)
from hpcbridge.schedulers.base import EndReason, JobRequest
from hpcbridge.store import State
from tests.sessions.world import LINE, World, ended, nothing_is_left
from tests.waiting import until


@pytest.mark.parametrize(
    ("reason", "status", "words"),
    [
        (EndReason.FAILED, 139, "exit status 139"),
        (EndReason.FAILED, -11, "signal 11"),
        (EndReason.OUT_OF_MEMORY, None, "more memory"),
        (EndReason.TIMED_OUT, 0, "used up its walltime"),
        (EndReason.NODE_FAILED, None, "node failed"),
        (EndReason.PREEMPTED, None, "make room"),
        (EndReason.CANCELLED, -15, "was cancelled"),
    ],
)
async def test_a_job_that_dies_before_it_is_ready_is_told_with_its_last_lines(
    world: World, reason: EndReason, status: int | None, words: str
) -> None:
    await world.starting()
    world.transport.session(world.row).prints("cannot open display\n")
    world.scheduler.end("1", reason, status, detail="Why")
    await ended(world, reason, "before it was ready", words, "cannot open display", "(Why)")
    assert (world.row.exit_status, world.row.log_tail) == (status, "cannot open display")


async def test_an_application_that_ends_well_before_it_is_ready_has_failed(world: World) -> None:
    await world.starting()
    world.scheduler.end("1", EndReason.FINISHED, 0)
    await ended(world, EndReason.FAILED, "exit status 0", "It printed nothing")


async def test_a_job_that_is_over_before_it_wunchanged_to_run_is_told(world: World) -> None:
    await world.queued()
    world.scheduler.end("1", EndReason.FAILED, 127)
    await ended(world, EndReason.FAILED, "127")


async def test_a_job_that_never_gets_ready_is_ended_in_time(world: World) -> None:
    world.wait = 2
    await world.starting()
    world.transport.session(world.row).prints("still loading\n")
    await ended(
        world,
        EndReason.NEVER_READY,
        "not ready after 2 s",
        LINE,
        "still loading",
        error=NotReadyInTime,
    )
    assert set(world.scheduler.cancelled) == {"1"}  # maybe more than once


async def test_a_job_that_waits_too_long_is_cancelled(world: World) -> None:
    world.wait = 1.5
    await world.queued()
    world.scheduler.change("1", detail="Priority")
    await ended(
        world, EndReason.NEVER_READY, "still in the queue", "Priority", error=NotReadyInTime
    )


@pytest.mark.parametrize(("by", "wait"), [(7200, 300.0), (-7200, 1.5)])
async def test_a_launch_may_take_as_long_as_before_when_the_clock_is_set(
    world: World, monkeypatch: pytest.MonkeyPatch, by: int, wait: float
) -> None:
    world.wait, real, submit = wait, time.time, world.scheduler.submit

    async def meanwhile(request: JobRequest) -> str:
        monkeypatch.setattr(time, "time", lambda: real() + by)
        return await submit(request)

    monkeypatch.setattr(world.scheduler, "submit", meanwhile)
    if by > 0:
        await world.ready()
    else:
        await world.queued()
        await ended(world, EndReason.NEVER_READY, "still in the queue", error=NotReadyInTime)


async def test_an_application_that_does_not_listen_ends_the_session(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnels_module, "PROBE_TIME", 0.2)
    await world.starting()
    with contextlib.closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        world.become_ready(bound.getsockname()[1])
        await ended(world, EndReason.FAILED, "nothing accepts connections", error=NotServing)


async def test_a_host_that_is_not_allowed_ends_the_session(world: World) -> None:
    await world.queued()
    world.scheduler.run("1", host="169.254.169.254")
    await until(lambda: world.row.state == State.STARTING)
    world.become_ready()
    await ended(world, EndReason.FAILED, "169.254.169.254", error=TunnelError)


async def test_a_front_end_that_cannot_be_told_ends_the_session(world: World) -> None:
    await world.starting()
    world.publisher.failing = 1
    world.become_ready()
    row = await world.over()
    assert row.reason == EndReason.FAILED
    assert "map cannot be written" in row.message
    nothing_is_left(world)


async def test_a_stop_while_the_tunnel_is_probed_ends_the_session_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnels_module, "PROBE_TIME", 60.0)
    session = await world.starting()
    with contextlib.closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        world.become_ready(bound.getsockname()[1])
        await asyncio.sleep(0.1)
        session.stop()
        await ended(world, EndReason.STOPPED)


async def test_a_secret_that_an_application_prints_is_not_kept(world: World) -> None:
    await world.starting()
    world.transport.session(world.row).prints("authKey is s3cret\n")
    world.scheduler.end("1", EndReason.FAILED, 1)
    await ended(world, EndReason.FAILED, "authKey is ********")
    assert "s3cret" not in world.row.log_tail


async def test_the_true_reason_is_told_although_the_output_cannot_be_understood(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(_: object) -> list[bytes | None]:
        raise UnexpectedReply("hpcbridge-files: not all was read")

    await world.starting()
    monkeypatch.setattr(world.transport, "read", read)
    world.scheduler.end("1", EndReason.OUT_OF_MEMORY, 137)
    await ended(world, EndReason.OUT_OF_MEMORY, "more memory")


# -- the last known cause is told, and not another one


async def test_a_node_that_was_not_reached_until_the_time_was_over_is_the_cause(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ready line was there all along."""

    async def unreachable(*_: Any, **__: Any) -> None:
        raise ClusterUnreachable("The SSH host n1 cannot be reached: no route.")

    world.wait = 1
    monkeypatch.setattr(world.cluster.tunnels, "open", unreachable)
    await world.starting()
    world.become_ready()
    told = ("its node was not reached", "no route", "wslink: Starting factory")
    await ended(world, EndReason.NEVER_READY, *told[:2], error=NotReadyInTime)
    assert "lacks" not in str(world.session.error)
    assert told[2] in (world.row.log_tail or "")


async def test_a_node_that_will_never_be_reached_is_told_at_once_with_the_cause(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forbidden(*_: Any, **__: Any) -> None:
        raise ClusterUnreachable("It does not allow forwarding.", lasting=True)

    monkeypatch.setattr(world.cluster.tunnels, "open", forbidden)
    await world.starting()
    world.become_ready()
    words = ("its node was not reached", "forwarding")
    await ended(world, EndReason.FAILED, *words, error=ClusterUnreachable)


async def test_output_that_cannot_be_read_is_the_cause(world: World) -> None:
    world.wait = 1
    await world.starting()
    world.transport.down = ClusterUnreachable("n1 gives no SFTP")
    await until(lambda: world.row.state == State.ENDED)
    world.transport.down = None
    words = ("cannot be read: n1 gives no SFTP",)
    await ended(world, EndReason.NEVER_READY, *words, error=NotReadyInTime)
    assert "lacks" not in str(world.session.error)


async def test_a_ready_line_without_a_port_is_the_cause(world: World) -> None:
    world.wait = 1
    await world.starting()
    world.transport.session(world.row).prints(f"wslink: {LINE}")
    words = ("did not tell the port",)
    await ended(world, EndReason.NEVER_READY, *words, error=NotReadyInTime)


async def test_what_the_cluster_answered_last_is_the_cause(world: World) -> None:
    world.wait = 1
    await world.queued()
    world.scheduler.down = ClusterUnreachable("The SSH host login refused the login.")
    await until(lambda: world.row.state == State.ENDED)
    world.scheduler.down = None
    words = ("does not answer", "login refused the login")
    await ended(world, EndReason.NEVER_READY, *words, error=NotReadyInTime)


async def test_so_it_is_while_nobody_knows_whether_the_job_was_taken(world: World) -> None:
    world.wait = 1
    world.scheduler.submit_fault = OutcomeUnknown("lost")
    world.scheduler.down = ClusterUnreachable("The SSH host login refused the login.")
    await world.launch()
    await until(lambda: world.row.state == State.ENDED)
    world.scheduler.down = None
    words = ("does not answer", "login refused the login")
    await ended(world, EndReason.NEVER_READY, *words, error=NotReadyInTime)
