"""A world for each test of one session."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hpcbridge.clusters import watcher as watcher_module
from hpcbridge.frontends.table import RouteTable
from tests.fakes import FakeFiles, FakePublisher, FlakyStore, fake_cluster
from tests.sessions.world import World


@pytest.fixture
def fast_watcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_module, "LEAST", 0.002)
    for name in ("STARTING", "WAITING", "QUIET", "FAILING"):
        monkeypatch.setattr(watcher_module, f"INTERVAL_{name}", 0.01)


@pytest.fixture
async def world(fast_watcher: None, tmp_path: Path, directory: Path) -> AsyncIterator[World]:
    store = await FlakyStore.open(f"sqlite+aiosqlite:///{tmp_path}/db.sqlite")
    assert isinstance(store, FlakyStore)
    publisher = FakePublisher()
    routes = RouteTable([publisher])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    world = World(
        store,
        publisher,
        FakeFiles(),
        fake_cluster(),
        server.sockets[0].getsockname()[1],
        directory,
        routes,
    )
    yield world
    for task in world.tasks:
        task.cancel()
    await asyncio.gather(*world.tasks, return_exceptions=True)
    for session in world.sessions:
        await session.release()
    await routes.close()
    await world.cluster.close()
    await store.close()
    server.close()
    await server.wait_closed()
