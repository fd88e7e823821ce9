"""From nothing to a session on a real cluster: hpcbridge init over SSH, then the service."""

import subprocess
import sys
import time
from pathlib import Path

import httpx

from testbed.handle import Testbed
from tests.serviceprocess import ServiceProcess


def init(folder: Path, site: Testbed, *options: str, typed: str = "") -> str:
    """Run the command as a person would who has an entry for the login host in ~/.ssh/config."""
    home = folder.parent / "home"
    (home / ".ssh").mkdir(parents=True, exist_ok=True, mode=0o700)
    config = home / ".ssh/config"
    config.write_text(site.ssh_config.read_text())
    config.chmod(0o600)
    done = subprocess.run(
        [sys.executable, "-m", "hpcbridge", "init", str(folder), *options],
        input=typed,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(home)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def visit(address: str) -> httpx.Response:
    """Open ID.localhost as a browser does, for which each name below localhost is this machine."""
    url = httpx.URL(address)
    host = {"Host": f"{url.host}:{url.port}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{url.port}", headers=host) as browser:
        reply = browser.get(url.raw_path.decode())
        while reply.is_redirect:
            reply = browser.get(httpx.URL(reply.headers["Location"]).raw_path.decode())
        return reply


async def test_a_site_is_set_up_and_has_its_first_session(site: Testbed, tmp_path: Path) -> None:
    began = time.monotonic()
    folder = tmp_path / "new"
    told = init(folder, site, "--ssh", "alice@hpcb-head", "-y")
    assert "batch system: Slurm (slurm-wlm " in told
    assert "viz" in told
    assert "FAIL" not in told
    file = folder / "hpcbridge.toml"
    with ServiceProcess(
        folder, file, "--end-sessions", HPCBRIDGE_SERVER__PORT="0", HOME=str(tmp_path / "home")
    ) as service:
        async with service.client() as client:
            reply = await client.post("/paraview", json={"application": "hello"}, timeout=90)
            assert reply.status_code == 200, reply.text
        session = reply.json()
        page = visit(session["page"])
        assert "This page was served by your job." in page.text
        assert "SLURM_JOB_ID" in page.text
        assert "hpcb-n" in page.text
    # The whole way, as far as a machine types it: three minutes are the aim.
    assert time.monotonic() - began < 180


def test_what_is_asked_can_be_answered_by_hand_and_nothing_is_overwritten(
    site: Testbed, tmp_path: Path
) -> None:
    folder = tmp_path / "new"
    told = init(folder, site, "--name", "lab", typed="alice@hpcb-head\nnosuch\nviz\n")
    assert "There is no 'nosuch'." in told
    text = (folder / "hpcbridge.toml").read_text()
    assert "[clusters.lab.ssh]" in text
    assert 'partition = "viz"' in text
    done = subprocess.run(
        [sys.executable, "-m", "hpcbridge", "init", str(folder), "-y"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "is there already, and is left as it is" in done.stderr
    assert (folder / "hpcbridge.toml").read_text() == text
