"""The adapter in examples/adapter, installed as its users install it, runs sessions."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.site import Service, Site
from tests.waiting import until

EXAMPLE = Path(__file__).parents[1] / "examples" / "adapter"

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory to which pip has installed it."""
    root = tmp_path_factory.mktemp("adapter")
    source = shutil.copytree(EXAMPLE, root / "source")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(root / "target")]
    subprocess.run([*command, str(source)], check=True, timeout=100)
    return root / "target"


def test_it_passes_the_suite(installed: Path, tmp_path: Path) -> None:
    tests = shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    shutil.copy(EXAMPLE / "pyproject.toml", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout


async def test_a_session_is_launched_and_stopped_through_it(
    installed: Path, site: Site, serve: Callable[..., Service]
) -> None:
    site.config["clusters"]["here"]["scheduler"] = "taskspooler"
    site.config["server"]["fields"] = ["job_id"]
    site.write()
    service = serve("--end-sessions", PYTHONPATH=str(installed), TS_MAXFINISHED="10")
    reply = service.post({"application": "cone"})
    assert reply.status_code == 200, reply.text
    session = reply.json()
    tsp = ["env", f"TS_SOCKET={site.state_dir}/local/here/socket", "tsp"]
    try:
        listed = subprocess.check_output([*tsp, "-l"], text=True)
        number, _, name = session["job_id"].partition(":")
        assert [line.split()[:2] for line in listed.splitlines()[1:]] == [[number, "running"]]
        assert f"[{name}]" in listed
        assert len(site.processes()) > 0
        assert service.http.delete(f"/paraview/{session['id']}").status_code == 200
        await until(lambda: not site.processes(), "the end of the job's processes")
    finally:
        subprocess.run([*tsp, "-K"], check=True)


def test_its_configuration_is_fine(installed: Path) -> None:
    for words in (["config", "show"], ["template", "check"]):
        done = subprocess.run(
            [sys.executable, "-m", "hpcbridge", *words, str(EXAMPLE / "taskspooler.toml")],
            env={**os.environ, "PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
