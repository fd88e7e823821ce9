"""A world for each test of one session."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hpcbridge.frontends.table import RouteTable
from hpcbridge.store import Store
from tests.fakes import FakeFiles, FakePublisher, FlakyStore, fake_cluster
from tests.intervals import watch_every
from tests.sessions.world import World


@pytest.fixture
def fast_watcher(monkeypatch: pytest.MonkeyPatch) -> None:
    watch_every(0.01, monkeypatch, least=0.002)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database of the newest schema: making one takes longer than most tests."""
    path = tmp_path_factory.mktemp("migrated") / "db.sqlite"
    await (await Store.open(f"sqlite+aiosqlite:///{path}")).close()
    return path


@pytest.fixture
def database(migrated: Path, tmp_path: Path) -> str:
    """The URL of an empty database of the test's own."""
    return f"sqlite+aiosqlite:///{shutil.copy(migrated, tmp_path / 'db.sqlite')}"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """One that an application listens on."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


@pytest.fixture
async def world(
    fast_watcher: None, database: str, directory: Path, port: int
) -> AsyncIterator[World]:
    store = await FlakyStore.open(database)
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
