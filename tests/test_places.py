"""A checkout may lie anywhere: below /tmp or /root, in a path with a space."""

import subprocess
import tempfile
import venv
from pathlib import Path

import pytest

from scripts import software
from testbed import layout
from tests import isolated

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A checkout's parts of the cluster, in a directory like /root."""
    (tmp_path / "root").mkdir(mode=0o700)
    return tmp_path / "root" / "a checkout" / "testbed"


def test_the_cluster_lies_where_its_users_get_in(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "HERE", closed)
    state = layout.make_layout().state
    assert not state.is_relative_to(closed.parent)
    assert all(parent.stat().st_mode & 0o001 for parent in state.parents)


def test_each_checkout_has_a_cluster_of_its_own(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = layout.default_state()
    monkeypatch.setattr(layout, "HERE", closed)
    assert layout.default_state() != ours


def test_programs_of_the_tests_start_wherever_the_virtual_environment_is(tmp_path: Path) -> None:
    environment = tmp_path / "a checkout" / ".venv"
    venv.create(environment)
    python = str(environment / "bin/python")
    asked = "import runpy; print(runpy.run_path('tests/programs.py')['PYTHON'])"
    found = run(python, "-c", asked)
    program = tmp_path / "program"
    program.write_text(f"#!{found} -SE\nprint('started')\n")
    program.chmod(0o755)
    assert run(str(program)) == "started"


def test_the_software_of_the_nodes_is_linked_and_across_file_systems_copied(tmp_path: Path) -> None:
    source = tmp_path / "site"
    source.mkdir()
    (source / "module.py").write_text("text")
    software.put(source, tmp_path / "near")
    assert (tmp_path / "near/module.py").samefile(source / "module.py")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        software.put(source, Path(other) / "far")
        assert (Path(other) / "far/module.py").read_text() == "text"


@pytest.mark.servers
def test_the_empty_tmp_of_a_file_has_the_checkout_and_nothing_else() -> None:
    """With what else is done before a file's tests begin."""
    unshare = ["unshare", "--net", "--mount", "bash", "-c", isolated.PREPARE, "bash"]
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as above,
        tempfile.TemporaryDirectory(dir="/var/lib") as place,
    ):
        checkout = Path(above) / "a checkout"
        checkout.mkdir()
        (checkout / "Makefile").touch()
        seen = run(*unshare, f"{place}/1", str(checkout), "find", "/tmp", "-printf", "%p\n")
        assert seen.splitlines() == ["/tmp", above, str(checkout), f"{checkout}/Makefile"]
        assert run(*unshare, f"{place}/2", str(ROOT), "pwd") == str(ROOT)
