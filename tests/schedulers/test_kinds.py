"""Adapters of other packages, as pip leaves them: a module and a dist-info directory."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

GOOD = """
from typing import Literal
from hpcbridge.config.clusters import ClusterSettings
from hpcbridge.schedulers.base import Kind, Listing

class Settings(ClusterSettings):
    scheduler: Literal["abacus"]
    beads: int = 10

class Abacus:
    async def list_jobs(self):
        return Listing()
    def notify(self, changed):
        pass
    async def close(self):
        pass

KIND = Kind(Settings, lambda site: Abacus())
"""
CONFIG = """
server.state_dir = "state"
clusters.here = {{ scheduler = "{scheduler}", session_root = "{root}/sessions" }}
[applications.cone]
cluster = "here"
template = "command.sh"
properties.program = "/bin/true"
"""


class Site:
    """A directory that pip could have installed to, and a configuration."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.packages = root / "packages"

    def install(self, module: str, text: str, *points: str) -> None:
        info = self.packages / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        lines = "".join(f"{point}\n" for point in points)
        (info / "entry_points.txt").write_text(f"[hpcbridge.schedulers]\n{lines}")
        (self.packages / f"{module}.py").write_text(text)

    def hpcbridge(self, *words: str, scheduler: str) -> subprocess.CompletedProcess[str]:
        config = self.root / "hpcbridge.toml"
        config.write_text(CONFIG.format(scheduler=scheduler, root=self.root))
        return subprocess.run(
            [sys.executable, "-m", "hpcbridge", *words, str(config)],
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(self.packages)},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_an_adapter_of_another_package_is_configured_by_its_name(site: Site) -> None:
    site.install("abacus", GOOD, "abacus = abacus:KIND")
    done = site.hpcbridge("config", "show", scheduler="abacus")
    assert done.returncode == 0, done.stderr
    assert 'scheduler = "abacus"\n' in done.stdout
    assert "beads = 10\n" in done.stdout
    assert done.stderr == ""


def test_the_doctor_asks_its_scheduler(site: Site) -> None:
    site.install("abacus", GOOD, "abacus = abacus:KIND")
    done = site.hpcbridge("doctor", scheduler="abacus")
    assert "here: scheduler" in done.stdout
    assert "living jobs of this account: 0" in done.stdout
    assert done.returncode == 0, done.stdout + done.stderr


def test_adapters_that_cannot_be_used_are_told_and_the_others_work(site: Site) -> None:
    reasons = {
        "absent": ("import no_such_module", "it cannot be imported: ModuleNotFoundError: No mod"),
        "exits": ("raise SystemExit(3)", "it cannot be imported: SystemExit: 3"),
        "fails": ("1 / 0", "it cannot be imported: ZeroDivisionError: division by zero"),
        "nameless": ("", "it cannot be imported: AttributeError"),
        "number": ("KIND = 7", "number:KIND is not a hpcbridge.schedulers.base.Kind"),
        "other": (GOOD, "its settings have no 'scheduler: Literal[\"other\"]'"),
    }
    for name, (text, _) in reasons.items():
        site.install(name, text, f"{name} = {name}:KIND")
    site.install("thief", GOOD.replace('"abacus"', '"slurm"'), "slurm = thief:KIND")
    site.install("abacus", GOOD, "abacus = abacus:KIND")
    site.install("abacus2", GOOD, "abacus = abacus2:KIND")

    wrong = site.hpcbridge("config", "show", scheduler="other")
    assert wrong.returncode == 1
    assert "clusters.here.scheduler: 'other' is not known. Allowed: local, slurm" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    right = site.hpcbridge("config", "show", scheduler="slurm")
    assert right.returncode == 0
    assert "beads" not in right.stdout
    for done in (wrong, right):
        for name, (_, reason) in reasons.items():
            assert f"the adapter '{name}' of {name} is not used: {reason}" in done.stderr
        assert "'slurm' of thief is not used: hpcbridge has an adapter of that name" in done.stderr
        assert re.search(r"'abacus' of abacus2? is not used: another package", done.stderr)
