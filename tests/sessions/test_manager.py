"""What clients ask of all sessions at once: one never spoils it for another."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from hpcbridge.auth.identity import How, Identity
from hpcbridge.clusters.cluster import Cluster
from hpcbridge.config.settings import Settings
from hpcbridge.errors import (
    KeyReused,
    NoCapacity,
    SessionFailed,
    SessionNotFound,
    StoreError,
    TunnelError,
    UnknownApplication,
)
from hpcbridge.frontends.table import RouteTable
from hpcbridge.sessions.context import SessionContext
from hpcbridge.sessions.manager import Sessions
from hpcbridge.sessions.session import Session
from hpcbridge.states import EndReason
from hpcbridge.store import Selection, State, Store
from tests.fakes import FakeFiles, FakePublisher, FakeScheduler, FakeTransport, fake_cluster
from tests.waiting import until

KEY = "0123456789abcdef"
APPLICATION = {"cluster": "fake", "template": "t", "hold": 60}


@pytest.fixture
def cluster() -> Cluster:
    return fake_cluster()


@pytest.fixture
async def sessions(tmp_path: Path, database: str, cluster: Cluster) -> AsyncIterator[Sessions]:
    settings = Settings(
        server={"state_dir": tmp_path / "state"},  # type: ignore[arg-type]
        clusters={"fake": {"scheduler": "local", "session_root": "/s", "grace": 0.1}},  # type: ignore[dict-item]
        applications={"one": APPLICATION, "other": APPLICATION},  # type: ignore[dict-item]
    )
    store = await Store.open(database)
    routes = RouteTable([FakePublisher()])
    sessions = Sessions(
        settings, SessionContext(store, routes, cast(Any, FakeFiles())), {"fake": cluster}
    )
    await sessions.start()
    yield sessions
    await sessions.close()
    await routes.close()
    await cluster.close()
    await store.close()


async def become_ready(session: Session, cluster: Cluster, port: int) -> None:
    await until(lambda: session.row.state == State.QUEUED)
    cast(FakeScheduler, cluster.scheduler).run(session.row.job_id or "")
    application = cast(FakeTransport, cluster.transport).session(session.row)
    application.tells(f"port={port}\n")
    application.prints("Starting factory")
    await until(lambda: session.row.state == State.READY)


async def test_a_launch_hears_nothing_of_what_became_of_anothers(sessions: Sessions) -> None:
    await sessions.launches.begin("one", {}, client="alice", key=KEY)
    wrong = asyncio.create_task(sessions.launches.begin("other", {}, client="bob", key=KEY))
    await until(lambda: sessions.launches._writes)
    session = await sessions.launches.begin("one", {}, client="carol")
    assert session.row.state != State.ENDED
    with pytest.raises(KeyReused):
        await wrong


async def test_a_launch_that_is_given_up_leaves_anothers_alone(sessions: Sessions) -> None:
    first = asyncio.create_task(sessions.launches.begin("one", {}, client="alice"))
    await until(lambda: sessions.launches._writes)
    second = asyncio.create_task(sessions.launches.begin("one", {}, client="bob"))
    await asyncio.sleep(0)
    second.cancel()
    assert (await first).row.state != State.ENDED


async def test_a_client_that_hangs_up_while_it_is_given_its_session_leaves_it_to_its_repeat(
    sessions: Sessions, cluster: Cluster, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    note, noted, going_on = sessions.store.note, asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any, **changes: Any) -> bool:
        done = await note(*arguments, **changes)
        if changes == {"claimed": True}:
            noted.set()
            await going_on.wait()
        return done

    monkeypatch.setattr(sessions.store, "note", slow)
    session = await sessions.launches.begin("one", {}, client="alice")
    await become_ready(session, cluster, port)
    waiting = asyncio.create_task(sessions.launches.ready(session))
    await noted.wait()
    waiting.cancel()
    going_on.set()
    await asyncio.wait({waiting})
    row = await sessions.store.get(session.row.id)
    assert row is not None
    assert (row.claimed, row.forsaken) == (False, True)
    repeated = await sessions.launches.begin("one", {}, client="alice")
    assert repeated is session
    assert await sessions.launches.ready(repeated)


async def test_who_is_given_a_session_keeps_it_though_another_who_waited_hangs_up(
    sessions: Sessions, cluster: Cluster, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sent the same Idempotency-Key."""
    note, noted, going_on = sessions.store.note, asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any, **changes: Any) -> bool:
        if changes == {"claimed": True} and not noted.is_set():
            noted.set()
            await going_on.wait()
        return await note(*arguments, **changes)

    monkeypatch.setattr(sessions.store, "note", slow)
    session = await sessions.launches.begin("one", {}, key=KEY)
    await become_ready(session, cluster, port)
    first = asyncio.create_task(sessions.launches.ready(session))
    await noted.wait()
    assert await sessions.launches.ready(session)
    first.cancel()
    going_on.set()
    await asyncio.wait({first})
    row = await sessions.store.get(session.row.id)
    assert row is not None
    assert (row.claimed, row.forsaken, session.keepalive.claimed) == (True, False, True)


async def test_a_launch_waits_for_what_is_written_about_a_client_that_just_left(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that hangs up and asks again at once gets what it waited for, not a second one."""
    note, leaving, going_on = sessions.store.note, asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any, **changes: Any) -> bool:
        if changes == {"forsaken": True}:
            leaving.set()
            await going_on.wait()
        return await note(*arguments, **changes)

    monkeypatch.setattr(sessions.store, "note", slow)
    session = await sessions.launches.begin("one", {}, client="alice")
    waiting = asyncio.create_task(sessions.launches.ready(session))
    await until(lambda: session.keepalive.has_clients)
    waiting.cancel()
    await leaving.wait()
    again = asyncio.create_task(sessions.launches.begin("one", {}, client="alice"))
    await asyncio.wait({again}, timeout=0.2)
    going_on.set()
    assert (await again) is session
    assert [row.id for row in await sessions.page(Selection(), 10)] == [session.row.id]


async def test_what_is_no_application_is_told_with_those_that_are(sessions: Sessions) -> None:
    with pytest.raises(UnknownApplication, match=r"'tow'.*Applications: one, other"):
        await sessions.launches.begin("tow", {})


async def test_whoever_waits_when_the_service_stops_is_told_and_nobody_else_begins(
    sessions: Sessions,
) -> None:
    session = await sessions.launches.begin("one", {}, client="alice")
    waiting = asyncio.create_task(sessions.launches.ready(session))
    await until(lambda: session.keepalive.has_clients)
    assert not sessions.leaving
    sessions.leave()
    assert sessions.leaving
    with pytest.raises(NoCapacity, match="The service is stopping"):
        await waiting
    with pytest.raises(NoCapacity, match="The service is stopping"):
        await sessions.launches.begin("one", {}, client="bob")
    assert session.row.state != State.ENDED


async def test_a_session_is_stopped_although_the_store_cannot_be_written(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other replica can take it over, so that it is enough that this service knows."""
    session = await sessions.launches.begin("one", {}, client="alice")
    await until(lambda: session.row.state == State.QUEUED)

    async def away(*_: Any, **__: Any) -> bool:
        raise StoreError("The database is locked.")

    with monkeypatch.context() as patch:
        patch.setattr(sessions.store, "note", away)
        with pytest.raises(StoreError):
            await sessions.stop(session.row.id)
        with pytest.raises(SessionNotFound):
            await sessions.stop(session.row.id)
    await until(lambda: session.row.state == State.ENDED)
    assert session.row.reason == EndReason.STOPPED


async def test_a_session_is_stopped_once(sessions: Sessions) -> None:
    session = await sessions.launches.begin("one", {}, client="alice")
    await sessions.stop(session.row.id)
    written = await sessions.store.get(session.row.id)
    assert written is not None
    assert written.stopped, "a service that is killed now does not forget it"
    for gone in (session.row.id, "0" * 40, "no id"):
        with pytest.raises(SessionNotFound):
            await sessions.stop(gone)


async def test_where_a_ready_session_leads_is_waited_for_and_not_for_ever(
    sessions: Sessions, cluster: Cluster, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await sessions.launches.begin("one", {}, client="alice")
    assert await sessions.coming("0" * 40) is None
    assert await sessions.coming(session.row.id) is None, "it is not ready"
    await become_ready(session, cluster, port)
    assert str(await sessions.coming(session.row.id)) == session.endpoint.address
    monkeypatch.setattr("hpcbridge.sessions.manager.COMING", 0.01)
    await session.endpoint.close()
    with pytest.raises(TunnelError, match="not open here yet"):
        await sessions.coming(session.row.id)


async def test_a_session_that_has_ended_meanwhile_is_given_to_nobody(
    sessions: Sessions, cluster: Cluster, port: int
) -> None:
    session = await sessions.launches.begin("one", {}, client="alice")
    await become_ready(session, cluster, port)
    read = await sessions.store.get(session.row.id)
    assert read is not None
    await sessions.store.update(read, state=State.ENDED)
    with pytest.raises(SessionFailed, match="has just ended"):
        await session.claim()
    assert not session.keepalive.claimed


async def test_whoever_asks_for_a_session_keeps_it_and_learns_what_became_of_it(
    sessions: Sessions,
) -> None:
    for unknown in ("0" * 40, "no id", "\0"):
        with pytest.raises(SessionNotFound):
            await sessions.get(unknown)
    session = await sessions.launches.begin("one", {}, client="alice")
    session.keepalive.here()
    assert await sessions.get(session.row.id) is session.row
    assert session.wanted_here(), "the time to keep it begins anew"
    await sessions.stop(session.row.id)
    await until(lambda: sessions.session(session.row.id) is None)
    row = await sessions.get(session.row.id)
    assert (row.state, row.reason) == (State.ENDED, EndReason.STOPPED)
    with pytest.raises(SessionNotFound):
        await sessions.get(row.id, Identity("bob", How.TOKEN))
    assert await sessions.page(Selection("all", user="bob"), 10) == []


async def test_a_service_that_stops_lets_sessions_be_or_ends_them(sessions: Sessions) -> None:
    session = await sessions.launches.begin("one", {}, client="alice")
    await until(lambda: session.row.state == State.QUEUED)
    await sessions.close(end_sessions=True)
    assert (session.row.reason, session.row.job_ended) == (EndReason.STOPPED, True)
    assert sessions.registry.tasks == []
    assert sessions._pruning is not None
    assert sessions._pruning.done()


async def test_old_sessions_are_forgotten_again_and_again_though_the_store_failed(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    async def prune(keep: float) -> None:
        asked.append(keep)
        if len(asked) == 2:
            raise StoreError("The database is locked.")

    monkeypatch.setattr("hpcbridge.sessions.manager.PRUNE_INTERVAL", 0.005)
    monkeypatch.setattr(sessions.store, "prune", prune)
    pruning = asyncio.create_task(sessions._prune())
    await until(lambda: len(asked) > 3)
    pruning.cancel()
    assert set(asked) == {sessions._settings.store.keep_ended}


async def test_nothing_waits_any_more_once_a_launch_was_answered(
    sessions: Sessions, cluster: Cluster, port: int
) -> None:
    session = await sessions.launches.begin("one", {}, client="alice")
    await become_ready(session, cluster, port)
    before = asyncio.all_tasks()
    assert await sessions.launches.ready(session)
    await until(lambda: asyncio.all_tasks() <= before)
