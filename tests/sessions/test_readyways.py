"""Ready by a line, by the port or by an answer; and that nobody is led to another's port."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable

import pytest

from hpcbridge.errors import NotReadyInTime, TunnelError
from hpcbridge.schedulers.base import EndReason, JobState, Listing
from hpcbridge.sessions import applicationend, teardown
from hpcbridge.store import State
from tests.sessions.world import ID, LINE, World, ended
from tests.waiting import until


class Counted(asyncio.Protocol):
    """Counts who connects."""

    count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        type(self).count += 1


@pytest.fixture
async def strange_port() -> AsyncIterator[int]:
    """One on which somebody else listens."""
    Counted.count = 0
    server = await asyncio.get_running_loop().create_server(Counted, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applicationend, "PATIENCE", 0.2)


async def some_looks(world: World, number: int = 5) -> None:
    looks = world.scheduler.looks
    await until(lambda: world.scheduler.looks > looks + number)


# -- the listener


async def test_an_application_that_binds_its_port_late_is_waited_for(world: World) -> None:
    session = await world.starting()
    application = world.transport.session(session.row)
    application.tells(f"port={world.port}\nlistening=0\n")
    application.prints(LINE)
    await some_looks(world)
    assert session.row.state == State.STARTING
    application.tells(f"port={world.port}\nlistening=0\nlistening=1\n")
    await until(lambda: session.row.state == State.READY)
    assert session.row.message == "Ready."


async def test_what_was_told_before_the_ready_line_is_asked_for_again(world: World) -> None:
    """The promise to tell who listens comes with the application's start."""
    session = await world.starting()
    application = world.transport.session(session.row)
    application.tells(f"port={world.port}\n")
    (following,) = world.cluster.follower._followed
    await until(lambda: following.port is not None)
    application.tells(f"port={world.port}\nlistening=0\n")
    application.prints(LINE)
    await some_looks(world)
    assert session.row.state == State.STARTING


async def test_an_application_that_never_binds_its_port_is_told_so(world: World) -> None:
    world.wait = 3
    session = await world.starting()
    application = world.transport.session(session.row)
    application.tells(f"port={world.port}\nlistening=0\n")
    application.prints(LINE)
    words = ("given up after 3 s", f"listens on port {world.port}")
    await ended(world, EndReason.NEVER_READY, *words, error=NotReadyInTime)


async def test_an_application_that_listens_to_the_network_is_told_of(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    session = await world.starting()
    application = world.transport.session(session.row)
    application.tells(f"port={world.port}\nwide=1\nlistening=1\n")
    application.prints(LINE)
    await until(lambda: session.row.state == State.READY)
    assert "more addresses of its node than 127.0.0.1" in session.row.message
    assert sum("more addresses" in each for each in caplog.messages) == 1


@pytest.mark.parametrize("over", [False, True])
async def test_a_launch_whose_port_was_taken_is_tried_again_on_another(
    world: World, strange_port: int, over: bool
) -> None:
    session = await world.starting()
    first = session.row.directory
    application = world.transport.session(session.row)
    application.tells(f"port={strange_port}\nlistening=0\ntaken=1\n")
    application.prints(LINE)
    if over:  # the application found its port in use, and the job was over before it was looked at
        world.scheduler.end("1", EndReason.FAILED, 1)
    await until(lambda: session.row.job_id == "2")
    assert world.scheduler.jobs["1"].state == JobState.ENDED
    assert (session.row.attempt, session.row.directory != first) == (1, True)
    world.scheduler.run("2")
    await until(lambda: session.row.state == State.STARTING)
    world.become_ready()
    await until(lambda: session.row.state == State.READY)
    assert Counted.count == 0
    assert not [path for path in world.transport.files if path.startswith(f"{first}/")]
    session.stop()
    await ended(world, EndReason.STOPPED)


async def test_a_run_with_a_taken_port_that_is_over_before_it_was_seen_is_tried_again(
    world: World, strange_port: int
) -> None:
    session = await world.queued()
    world.transport.session(session.row).tells(f"port={strange_port}\ntaken=1\nexit=1\n")
    world.scheduler.end("1", EndReason.FAILED, 1)
    await until(lambda: session.row.job_id == "2")
    session.stop()
    await ended(world, EndReason.STOPPED)


async def test_a_port_that_is_taken_again_and_again_ends_the_launch(
    world: World, strange_port: int
) -> None:
    session = await world.queued()
    for number in ("1", "2", "3"):
        await until(lambda number=number: session.row.job_id == number)
        world.scheduler.run(number)
        await until(lambda: session.row.state == State.STARTING)
        application = world.transport.session(session.row)
        application.tells(f"port={strange_port}\nlistening=0\ntaken=1\n")
    await ended(world, EndReason.FAILED, f"has taken port {strange_port}", "another account")
    assert Counted.count == 0


async def test_a_stop_while_the_job_with_the_taken_port_is_ended_ends_the_session(
    world: World,
) -> None:
    session = await world.starting()
    world.scheduler.ignores_cancel = 10**6
    world.transport.session(session.row).tells(f"port={world.port}\ntaken=1\n")
    await until(lambda: "on another port" in session.row.message)
    session.stop()
    await until(lambda: session.row.state == State.ENDED)
    world.scheduler.ignores_cancel = 0
    await ended(world, EndReason.STOPPED)


async def test_a_launch_whose_taken_port_cannot_be_given_up_in_time_is_ended(world: World) -> None:
    session = await world.starting()
    world.scheduler.ignores_cancel = 10**6
    world.transport.session(session.row).tells(f"port={world.port}\ntaken=1\n")
    await until(lambda: "on another port" in session.row.message)
    session.row.submitting_at = time.time() - 3600
    await until(lambda: session.row.state == State.ENDED)
    world.scheduler.ignores_cancel = 0
    await ended(world, EndReason.NEVER_READY, "does not answer", error=NotReadyInTime)


# -- by the port, or by an answer


async def test_a_program_that_prints_nothing_is_ready_by_its_port(
    world: World, free_port: int
) -> None:
    world.more = {"ready_port": True}
    session = await world.starting()
    world.transport.session(session.row).tells(f"port={free_port}\n")
    await some_looks(world)
    assert session.row.state == State.STARTING
    loop = asyncio.get_running_loop()
    async with await loop.create_server(asyncio.Protocol, "127.0.0.1", free_port):
        await until(lambda: session.row.state == State.READY)
        session.stop()
        await ended(world, EndReason.STOPPED)


async def test_a_port_that_answers_before_its_job_tells_of_it_is_asked_after(world: World) -> None:
    """As on a busy node: the launch is connected to whoever listens before the job has looked."""
    world.more = {"ready_port": True}
    session = await world.starting()
    application = world.transport.session(session.row)
    connected = asyncio.Event()

    def accepted() -> asyncio.Protocol:
        application.tells(f"port={port}\nlistening=0\n")
        connected.set()
        return asyncio.Protocol()

    loop = asyncio.get_running_loop()
    async with await loop.create_server(accepted, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        application.tells(f"port={port}\n")
        await connected.wait()
        await some_looks(world)
        assert session.row.state == State.STARTING
        application.tells(f"port={port}\nlistening=0\nwide=1\nlistening=1\n")
        await until(lambda: session.row.state == State.READY)
        assert "more addresses of its node than 127.0.0.1" in session.row.message
        session.stop()
        await ended(world, EndReason.STOPPED)


@pytest.mark.parametrize("more", [{"ready_port": True}, {"ready_path": "/api"}])
async def test_a_port_that_nobody_binds_is_told_in_time(
    world: World, free_port: int, more: dict[str, object]
) -> None:
    world.wait, world.more = 3, more
    session = await world.starting()
    world.transport.session(session.row).tells(f"port={free_port}\n")
    words = (
        "given up after 3 s",
        f"nothing accepts connections on port {free_port} of localhost",
    )
    await ended(world, EndReason.NEVER_READY, *words, error=NotReadyInTime)


async def test_the_job_is_watched_while_its_port_is_waited_for(
    world: World, free_port: int
) -> None:
    world.more = {"ready_path": "/"}
    session = await world.starting()
    world.transport.session(session.row).tells(f"port={free_port}\n")
    await some_looks(world)
    world.scheduler.end("1", EndReason.OUT_OF_MEMORY, 137)
    await ended(world, EndReason.OUT_OF_MEMORY, "before it was ready")


async def test_an_application_that_ends_while_its_port_is_waited_for_ends_the_session(
    world: World, free_port: int, impatient: None
) -> None:
    world.more = {"ready_path": "/"}
    session = await world.starting()
    application = world.transport.session(session.row)
    application.tells(f"port={free_port}\n")
    await some_looks(world)
    application.tells(f"port={free_port}\nover=3\n")
    await until(lambda: session.row.state == State.ENDED)
    world.scheduler.end("1", EndReason.FAILED, 3)
    await ended(world, EndReason.FAILED, "before it was ready", "exit status 3")


Answer = Callable[[bytes], bytes | None]


@contextlib.asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[int]:
    """A server that answers each head as the test says, or not at all with None."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            while (reply := answer(head)) is None and not reader.at_eof():
                await asyncio.sleep(0.01)
            writer.write(reply or b"")
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_an_answer_below_500_makes_an_application_ready(world: World) -> None:
    world.more = {"ready_path": "/api?x=1"}
    heads: list[bytes] = []
    status = b"503 Starting"

    def answer(head: bytes) -> bytes:
        heads.append(head)
        return b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 " + status + b"\r\nContent-Length: 9\r\n\r\n"

    session = await world.starting()
    async with answering(answer) as port:
        world.transport.session(session.row).tells(f"port={port}\nlistening=1\n")
        await until(lambda: len(heads) > 2)
        assert session.row.state == State.STARTING
        status = b"404 Not Found"
        await until(lambda: session.row.state == State.READY)
    assert heads[0].startswith(b"GET /api?x=1 HTTP/1.1\r\n")
    assert b"s3cret" not in b"".join(heads)


async def test_an_answer_that_takes_long_is_waited_for(world: World) -> None:
    world.more = {"ready_path": "/"}
    answers: list[bytes] = []
    session = await world.starting()
    async with answering(lambda _: answers[0] if answers else None) as port:
        world.transport.session(session.row).tells(f"port={port}\n")
        await some_looks(world)
        assert session.row.state == State.STARTING
        answers.append(b"HTTP/1.0 200 OK\r\n\r\n")
        await until(lambda: session.row.state == State.READY)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "is not answered in HTTP"),
        (b"", "is not answered in HTTP"),
        (b"HTTP/1.1 502 No\r\n\r\n", "is answered with status 502"),
        (None, "is not answered on port"),
    ],
)
async def test_what_was_answered_at_last_is_told(
    world: World, reply: bytes | None, words: str
) -> None:
    world.wait, world.more = 3, {"ready_path": "/"}
    session = await world.starting()
    async with answering(lambda _: reply) as port:
        world.transport.session(session.row).tells(f"port={port}\n")
        await ended(world, EndReason.NEVER_READY, "GET /", words, error=NotReadyInTime)


# -- the end of the application, before that of its job


@pytest.mark.parametrize("status", [0, 3, 143])
async def test_the_end_of_a_ready_application_ends_its_session_while_the_epilogue_runs(
    world: World, impatient: None, status: int
) -> None:
    session = await world.ready()
    world.transport.session(session.row).tells(f"port={world.port}\nlistening=1\nover={status}\n")
    await until(lambda: session.row.state == State.ENDED)
    assert session.row.exit_status == status
    assert session.row.message == f"The session is over: exit status {status}."
    await some_looks(world)
    assert world.scheduler.cancelled == []  # the epilogue is not cut off
    world.scheduler.end("1", EndReason.FINISHED, status)
    await ended(world, EndReason.FAILED if status else EndReason.FINISHED)


async def test_there_is_no_way_to_the_port_as_soon_as_the_application_is_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applicationend, "PATIENCE", 60.0)
    session = await world.ready()
    world.transport.session(session.row).tells(f"port={world.port}\nover=1\n")
    await until(lambda: session.tunnel_state is None)
    assert world.publisher.routes == {}
    assert session.row.state == State.READY
    world.scheduler.end("1", EndReason.OUT_OF_MEMORY, 137)  # the scheduler knows more
    await ended(world, EndReason.OUT_OF_MEMORY)


async def test_no_front_end_leads_to_the_port_of_an_application_that_is_over(
    world: World, impatient: None
) -> None:
    session = await world.ready()
    world.publisher.failing = 3
    world.transport.session(session.row).tells(f"port={world.port}\nover=1\n")
    await until(lambda: session.row.state == State.ENDED)
    assert (world.publisher.failing, world.publisher.routes) == (0, {})


async def test_an_epilogue_has_its_time_and_not_more(
    world: World, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teardown, "EPILOGUE", 0.2)
    session = await world.ready()
    world.transport.session(session.row).tells(f"port={world.port}\nover=1\n")
    await ended(world, EndReason.FAILED, "exit status 1")
    assert set(world.scheduler.cancelled) == {"1"}


async def test_an_application_that_dies_before_its_port_is_bound_ends_the_session(
    world: World, impatient: None
) -> None:
    session = await world.starting()
    application = world.transport.session(session.row)
    application.prints(f"{LINE}\nno licence")
    application.tells(f"port={world.port}\nlistening=0\nover=4\n")
    await until(lambda: session.row.state == State.ENDED)
    assert "before it was ready: exit status 4" in session.row.message
    assert "no licence" in session.row.message
    world.scheduler.end("1", EndReason.FAILED, 4)
    await ended(world, EndReason.FAILED)


async def test_a_job_that_is_queued_again_goes_on_although_its_application_is_over(
    world: World, impatient: None
) -> None:
    session = await world.ready()
    world.scheduler.before_answer = lambda: world.scheduler.change(
        "1", state=JobState.QUEUED, host=None
    )
    world.transport.session(session.row).tells(f"port={world.port}\nover=1\n")
    await until(lambda: session.row.state == State.QUEUED)
    await some_looks(world, 30)
    assert session.row.state == State.QUEUED


async def test_a_cluster_that_cannot_be_asked_leaves_the_end_open(
    world: World, impatient: None
) -> None:
    session = await world.ready()
    world.scheduler.down = TunnelError("down")
    world.transport.session(session.row).tells(f"port={world.port}\nover=1\n")
    await until(lambda: session.unknown_since is not None and session.tunnel_state is None)
    assert session.row.state == State.READY
    world.scheduler.down = None
    await until(lambda: session.row.state == State.ENDED)


async def test_only_a_listing_from_after_its_end_tells_that_a_job_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applicationend, "PATIENCE", 0.0)
    session = await world.ready()
    list_jobs, asked, going_on = world.scheduler.list_jobs, asyncio.Event(), asyncio.Event()

    async def slow() -> Listing:
        asked.set()
        await going_on.wait()
        return await list_jobs()

    monkeypatch.setattr(world.scheduler, "list_jobs", slow)
    await asked.wait()
    world.transport.session(session.row).tells(f"port={world.port}\nover=1\n")
    await until(lambda: session.tunnel_state is None)
    for _ in range(20):
        session.moved.set()
        await asyncio.sleep(0.001)
    assert session.row.state == State.READY
    going_on.set()
    await until(lambda: session.row.state == State.ENDED)


async def test_the_end_that_came_while_no_service_ran_is_seen(
    world: World, impatient: None
) -> None:
    session = await world.ready()
    world.transport.session(session.row).tells(f"port={world.port}\nover=1\n")
    session = await world.restart()
    await until(lambda: session.row.state == State.ENDED)
    assert session.row.exit_status == 1
    assert ID not in world.publisher.routes
