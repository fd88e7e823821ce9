"""What a service has of its sessions besides their rows: whose connections, and whose limits."""

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
    tmp_path: Path, views: "Views[Cluster]", fast_watcher: None
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
    store = await Store.open(f"sqlite+aiosqlite:///{tmp_path}/db.sqlite")
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
