"""The test cluster, brought up once, and the service in front of it."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts import software
from testbed import cluster
from testbed.handle import Testbed
from tests.serviceprocess import ServiceProcess

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def site() -> Iterator[Testbed]:
    """The cluster with its software. It is taken down at the end if these tests brought it up."""
    testbed, started = cluster.up()
    software.install_on_cluster(ROOT)
    try:
        yield testbed
    finally:
        if started:
            cluster.down()


@pytest.fixture(scope="session")
def visualizer(site: Testbed) -> dict[str, str]:
    """The properties of ParaView's Visualizer on the nodes."""
    properties = software.visualizer_on_cluster(ROOT)
    assert properties is not None, "pvpython, Xvfb or npm are not installed"
    return properties


@pytest.fixture(autouse=True)
def nothing_left(site: Testbed) -> Iterator[None]:
    """Before and after each test no job runs; after it, no session directory is there."""
    site.settle()
    site.cancel_all()
    yield
    site.settle()
    site.cancel_all()
    root = site.home() / ".hpcbridge"
    left = [path.name for path in root.glob("*")] if root.is_dir() else []
    for path in root.glob("*"):
        shutil.rmtree(path)
    assert left == []


def settings(site: Testbed, folder: Path, **changes: Any) -> dict[str, Any]:
    """A configuration for the test cluster; ``changes`` replace whole sections."""
    home = "/home/alice"
    flow = {
        "cluster": "lab",
        "template": "python.sh",
        "walltime": 600,
        "wait": 60,
        "properties": {"script": f"{home}/software/apps/flow.py"},
    }
    config = {
        "template_dirs": [str(folder)],
        "server": {"port": 0, "state_dir": str(folder / "state")},
        "clusters": {
            "lab": {
                "scheduler": "slurm",
                "python": f"{home}/software/python",
                "options": {"partition": "viz"},
                "ssh": {"host": site.head, "config": str(site.ssh_config)},
                "tunnel": {"node_pattern": "hpcb-n[0-9]"},
            }
        },
        "applications": {"flow": flow},
    }
    return config | changes


@pytest.fixture
def configuration(site: Testbed, tmp_path: Path) -> dict[str, Any]:
    """The configuration that most tests start from."""
    return settings(site, tmp_path)


@pytest.fixture
def other_host_key(site: Testbed, tmp_path: Path) -> Path:
    """A known_hosts file that has a node's key for the login host."""
    known = tmp_path / "known_hosts"
    right = site.known_hosts.read_text().splitlines()
    head = next(line for line in right if site.head in line.split()[0])
    other = next(line for line in right if "hpcb-n1" in line.split()[0])
    known.write_text(f"{head.split()[0]} {' '.join(other.split()[1:])}\n")
    return known


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., ServiceProcess]]:
    """Starts services that end all their sessions when the test is over."""
    with contextlib.ExitStack() as stack:

        def begin(config: dict[str, Any], *arguments: str) -> ServiceProcess:
            service = ServiceProcess(tmp_path, config, *(arguments or ("--end-sessions",)))
            return stack.enter_context(service)

        yield begin
