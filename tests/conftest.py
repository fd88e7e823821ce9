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

PLACES = {
    "cluster": ("cluster", "gridengine"),
    "servers": (
        "conformance", "pbs", "postgres", "schedulers/hosts",
        # Services, jobs and SSH servers as processes of their own: many seconds for a file.
        "auth/test_owners.py", "clusters/test_placement.py", "clusters/test_readiness.py",
        "frontends/test_border.py", "frontends/test_embedded.py", "frontends/test_textmap.py",
        "jobscripts/test_environment.py", "jobscripts/test_listener.py",
        "jobscripts/test_prelude.py", "jobscripts/test_servers.py", "jobscripts/test_xvfb.py",
        "schedulers/local/test_restarts.py", "schedulers/test_kinds.py",
        "sessions/test_capacity.py", "sessions/test_expiry.py", "sessions/test_readyways.py",
        "sessions/test_retries.py", "sessions/test_startup_failures.py", "test_attacks.py",
        "test_histories.py", "test_launcher_contract.py", "test_readyprograms.py",
        "test_tunnels.py", "transports/test_sudo.py", "warm/test_flow.py", "warm/test_users.py",
        "web/test_crowds.py", "web/test_fronthost.py", "web/test_listener.py",
        "web/test_origins.py", "web/test_tls.py", "web/test_uploads.py",
    ),
    "paraviews": ("paraviews",),
}  # fmt: skip
"""What all tests of a folder or a file are marked with."""


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where HPCBRIDGE_NO_SKIPS is set (in CI), a test that was skipped is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("HPCBRIDGE_NO_SKIPS") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole folders and files that need a cluster, or whole batch systems and databases."""
    here = Path(__file__).parent
    for item in items:
        for marker, places in PLACES.items():
            if any(here / place in (item.path, *item.path.parents) for place in places):
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
