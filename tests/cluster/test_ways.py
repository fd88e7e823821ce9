"""The other ways to a node: through the login host, straight over the network, on this machine."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from testbed.handle import Testbed
from tests.cluster.conftest import ROOT
from tests.serviceprocess import READY, ServiceProcess, Start
from tests.wslinkclient import WslinkClient, colours


async def test_through_the_login_host_to_the_nodes_address(
    start: Start, configuration: dict[str, Any]
) -> None:
    """For sites whose users may not log in to nodes: the application listens on the network."""
    configuration["clusters"]["lab"]["tunnel"]["via"] = "login"
    async with start(configuration).client() as client:
        session = (await client.post("/paraview", json={"application": "flow"})).json()
    async with WslinkClient.connect(session["sessionURL"], session["secret"]) as flow:
        assert colours(await flow.picture()) > 100


async def test_the_example_runs_as_it_is(site: Testbed, tmp_path: Path) -> None:
    """But for its port and its state, which would be in the checkout."""
    example = shutil.copytree(ROOT / "examples/slurm-ssh", tmp_path / "examples/slurm-ssh")
    (tmp_path / ".testbed").symlink_to(site.layout.state)
    with ServiceProcess(
        tmp_path,
        example / "hpcbridge.toml",
        "--end-sessions",
        HPCBRIDGE_SERVER__STATE_DIR=str(tmp_path / "state"),
        HPCBRIDGE_SERVER__PORT="0",
    ) as service:
        async with service.client() as client:
            posted = {"application": "flow", "streamlines": 30}
            reply = await client.post("/paraview", json=posted)
            assert reply.status_code == 200, reply.text
            session = reply.json()
        async with WslinkClient.connect(session["sessionURL"], session["secret"]) as flow:
            assert colours(await flow.picture()) > 100


@pytest.fixture
def login_service(site: Testbed, configuration: dict[str, Any]) -> Iterator[list[str]]:
    """The service on the login host itself, as alice: Slurm's commands without SSH."""
    home = site.home()
    package = home / "software/hpcbridge-here"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(ROOT / "hpcbridge", package / "hpcbridge")
    lab = configuration["clusters"]["lab"]
    del lab["ssh"]
    lab["tunnel"] = {"via": "direct", "node_pattern": "hpcb-n[0-9]"}
    configuration["server"]["state_dir"] = "/home/alice/state"
    configuration["template_dirs"] = []
    (home / "hpcbridge.toml").write_text(tomli_w.dumps(configuration))
    serve = (
        "import sys; sys.path.insert(0, '/home/alice/software/hpcbridge-here'); "
        "from hpcbridge.cli.main import main; "
        "sys.argv = ['hpcbridge', 'serve', '/home/alice/hpcbridge.toml', '--end-sessions']; main()"
    )
    command = site.exec_args("head", "alice", ["/home/alice/software/python", "-c", serve])
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline().rstrip("\n")
    try:
        ready = READY.match(line)
        assert ready, line
        yield [ready[1]]
    finally:
        process.terminate()
        process.wait(40)
        process.stdout.close()
        shutil.rmtree(package)
        shutil.rmtree(home / "state")


def test_slurm_on_this_machine_and_nodes_straight_over_the_network(
    site: Testbed, login_service: list[str]
) -> None:
    """Asked with curl from the login host, where only it listens."""
    url = login_service[0] + "/paraview"
    curl = ["curl", "-s", "--max-time", "60", "-d", '{"application": "flow"}', url]
    session = site.run("head", "alice", curl, timeout=70).stdout
    assert '"sessionURL"' in session, session
    assert len(site.jobs()) == 1
