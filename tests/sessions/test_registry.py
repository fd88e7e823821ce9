"""What a service has of its sessions besides their rows: whose connections, and whose limits."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from hpcbridge.clusters.cluster import Cluster
from hpcbridge.config.settings import Settings
from hpcbridge.frontends.table import RouteTable
from hpcbridge.identity.views import Views
from hpcbridge.sessions.context import SessionContext
from hpcbridge.sessions.registry import SessionRegistry
from hpcbridge.states import EndReason, State
from hpcbridge.store import SessionRow, Store
from tests.fakes import FakeFiles, FakePublisher, fake_cluster
from tests.waiting import until

WAIT, WARM_WAIT = 60.0, 7200.0


@pytest.fixture
async def views() -> "AsyncIterator[Views[Cluster]]":
    """Each account's connections; those that nobody needs are closed at once."""
    views = Views(lambda _account: fake_cluster(), linger=0)
    yield views
    await views.close()


@pytest.fixture
async def registry(
    tmp_path: Path, database: str, views: "Views[Cluster]", fast_watcher: None
) -> AsyncIterator[SessionRegistry]:
    """One that leads, on a cluster on which users have accounts of their own."""
    cluster = fake_cluster()
    cluster.views, cluster.service = views, "hpcbridge"
    warm = {"count": 1, "wait": WARM_WAIT}
    application = {"cluster": "fake", "template": "t", "wait": WAIT}
    settings = Settings(
        server={"state_dir": tmp_path / "state"},  # type: ignore[arg-type]
        clusters={"fake": {"scheduler": "local", "session_root": "/s", "grace": 0.1}},  # type: ignore[dict-item]
        applications={"cone": application | {"warm": warm, "walltime": 86400}},  # type: ignore[dict-item]
    )
    store = await Store.open(database)
    routes = RouteTable([FakePublisher()])
    context = SessionContext(store, routes, cast(Any, FakeFiles()))
    registry = SessionRegistry(settings, context, {"fake": cluster})
    await registry.start()
    await registry.lead()
    yield registry
    await registry.close()
    await routes.close()
    await cluster.close()
    await store.close()


async def launched(registry: SessionRegistry, number: int = 1, **columns: Any) -> SessionRow:
    """The row of a session that was just asked for."""
    given = {"secret": "s3cret", "application": "cone", "cluster": "fake"}
    given |= {"job_name": f"hpcb-test-{number}", "submitting_at": time.time(), "claimed": True}
    row = SessionRow(id=f"{number:040d}", **(given | columns))
    await registry._context.store.add(row)
    return row


async def test_a_users_connections_are_kept_until_the_users_last_session_is_over(
    registry: SessionRegistry, views: "Views[Cluster]"
) -> None:
    sessions = [
        registry.begin(await launched(registry, number, account="alice")) for number in (1, 2)
    ]
    assert list(views.accounts) == ["alice"]
    for session, left in zip(sessions, (["alice"], []), strict=True):
        await until(lambda session=session: session.row.state == State.QUEUED)
        session.stop()
        await until(lambda session=session: registry.task(session.row.id) is None)
        assert session.row.reason == EndReason.STOPPED
        await until(lambda left=left: list(views.accounts) == left, "the connections' end")


async def test_a_warm_session_may_take_longer_to_start_than_one_that_somebody_waits_for(
    registry: SessionRegistry,
) -> None:
    warm = registry.begin(await launched(registry, 1, pool="cone"))
    own = registry.begin(await launched(registry, 2))
    handed_over = registry.begin(await launched(registry, 3, pool="cone", taken_at=time.time()))
    waits = [each.application.wait for each in (warm, own, handed_over) if each.application]
    assert waits == [WARM_WAIT, WAIT, WAIT]


async def test_who_follows_lets_the_jobs_be_and_who_leads_again_takes_them_up(
    registry: SessionRegistry,
) -> None:
    session = registry.begin(await launched(registry))
    await until(lambda: session.watch is not None)
    watcher = session.cluster.watcher
    await registry.follow()
    assert (registry.leading, session.watch, watcher._watches) == (False, None, set())
    assert watcher._observer is None, "who follows ends no jobs that no session knows"
    assert registry.session(session.row.id) is session
    task = registry.task(session.row.id)
    assert task is not None
    assert not task.done()
    session.stop()
    await registry.lead()
    assert watcher._observer is not None
    await until(lambda: registry.task(session.row.id) is None)
    assert session.row.reason == EndReason.STOPPED


async def test_a_follower_learns_from_the_database_what_became_of_its_sessions(
    registry: SessionRegistry,
) -> None:
    session = registry.begin(await launched(registry))
    await until(lambda: session.row.state == State.QUEUED)
    await registry.follow()
    store, name = registry._context.store, session.row.job_name
    (read,) = await store.named([name])
    await store.update(read, message="written by the leader")
    await registry.heard([name])
    assert session.row.message == "written by the leader"
    end = {"state": State.ENDED, "reason": EndReason.FINISHED, "job_ended": True}
    await store.update(read, **end, message="It was over.", secret=None, ended_at=time.time())
    await registry.reread()
    await until(lambda: registry.session(session.row.id) is None)
    assert session.error is not None
    assert "It was over." in str(session.error)


async def test_sessions_that_others_began_are_taken_up_and_those_of_no_cluster_are_not(
    registry: SessionRegistry,
) -> None:
    here = await launched(registry, 1)
    await launched(registry, 2, cluster="gone")
    await launched(registry, 3, state=State.ENDED, job_ended=True)
    await registry.follow()
    await registry.reread()
    assert {session.row.id for session in registry.sessions} == {here.id}
    await launched(registry, 4, state=State.ENDED, job_ended=False)
    await registry.reread()
    assert len(registry.sessions) == 1, "who follows cleans nothing up"


async def test_what_is_asked_for_again_is_the_same_session(registry: SessionRegistry) -> None:
    session = registry.begin(await launched(registry))
    task = registry.task(session.row.id)
    newer = session.row.model_copy(update={"stopped": True, "version": session.row.version + 1})
    assert registry.begin(newer) is session
    assert (registry.task(session.row.id), session.stopping) == (task, True)


async def test_who_begins_to_lead_drives_each_session_once(registry: SessionRegistry) -> None:
    """Also one of which it has just read for the first time."""
    known = registry.begin(await launched(registry, 1))
    await until(lambda: known.row.state == State.QUEUED)
    await registry.follow()
    new = await launched(registry, 2)
    await registry.lead()
    assert {session.row.id for session in registry.sessions} == {known.row.id, new.id}
    driving = [task for task in asyncio.all_tasks() if task.get_name().startswith("session ")]
    assert len(driving) == 2
