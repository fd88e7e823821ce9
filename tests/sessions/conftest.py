"""A world for each test of one session."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hpcbridge.frontends.table import RouteTable
from tests.fakes import FakeFiles, FakePublisher, FlakyStore, fake_cluster
from tests.intervals import watch_every
from tests.sessions.world import World


@pytest.fixture
def fast_watcher(monkeypatch: pytest.MonkeyPatch) -> None:
    watch_every(0.01, monkeypatch, least=0.002)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """One that an application listens on."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


@pytest.fixture
async def world(
    fast_watcher: None, tmp_path: Path, directory: Path, port: int
) -> AsyncIterator[World]:
    store = await FlakyStore.open(f"sqlite+aiosqlite:///{tmp_path}/db.sqlite")
    assert isinstance(store, FlakyStore)
    publisher = FakePublisher()
    routes = RouteTable([publisher])
    world = World(store, publisher, FakeFiles(), fake_cluster(), port, directory, routes)
    yield world
    for task in world.tasks:
        task.cancel()
    await asyncio.gather(*world.tasks, return_exceptions=True)
    for session in world.sessions:
        await session.release()
    await routes.close()
    await world.cluster.close()
    await store.close()
