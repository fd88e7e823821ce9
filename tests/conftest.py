"""What every test can have: a site in its directory, a launcher, a service."""

import functools
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.site import Launch, Launcher, Service, Site, make_site, start_launcher
from tests.sshpeer import SSHPeer

FOLDERS = {
    "cluster": ("cluster", "gridengine"),
    "servers": ("conformance", "pbs", "postgres", "schedulers/hosts"),
    "paraviews": ("paraviews",),
}
"""What all tests of a folder are marked with."""


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where HPCBRIDGE_NO_SKIPS is set (in CI), a test that was skipped is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("HPCBRIDGE_NO_SKIPS") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole folders that need a cluster, or whole batch systems and databases."""
    here = Path(__file__).parent
    for item in items:
        for marker, folders in FOLDERS.items():
            if any(here / folder in item.path.parents for folder in folders):
                item.add_marker(marker)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("HPCBRIDGE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory of a short name, for sockets, that other accounts may pass through."""
    with tempfile.TemporaryDirectory(prefix="hpcb-") as path:
        Path(path).chmod(0o711)
        yield Path(path)


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[SSHPeer]:
    """An SSH server whose faults can be switched on."""
    with SSHPeer(tmp_path / "peer") as peer:
        yield peer


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = make_site(tmp_path)
    yield site
    site.end_processes()


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The same for all tests of a module."""
    site = make_site(tmp_path_factory.mktemp("site"))
    yield site
    site.end_processes()


@pytest.fixture
def launcher(site: Site) -> Launch:
    """The same on the test's own site."""
    return functools.partial(start_launcher, site)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_api(shared_site: Site) -> AsyncIterator[Launcher]:
    """One for all tests of a module; they leave it as it was, or with a session more."""
    async with start_launcher(shared_site, clusters={"here": {"slots": 100}}) as api:
        yield api


@pytest.fixture
def serve(site: Site) -> Iterator[Callable[..., Service]]:
    """Starts services on the site; they are killed afterwards."""
    started: list[Service] = []

    def start(*arguments: str, **environment: str) -> Service:
        service = Service(site, *arguments, **environment)
        service.start()
        started.append(service)
        return service

    yield start
    for each in started:
        each.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def shared_service(shared_site: Site) -> Iterator[Service]:
    """One service for all tests of a module."""
    shared_site.write()
    with Service(shared_site, "--end-sessions") as service:
        yield service
