"""``hpcbridge import``: TOML that means the same, and says what works differently."""

import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcbridge.cli import main as cli
from hpcbridge.config import file as configfile
from hpcbridge.jobscripts.samples import check_all
from tests.config.launcherjson.files import cmd, put, without, written

EXAMPLE = Path(__file__).parents[3] / "examples/launcher-json/launcher.json"

Import = Callable[[Path], tuple[int, str, str]]


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Import:
    """Exit status, output and errors of ``hpcbridge import FILE``."""

    def run(path: Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hpcbridge", "import", str(path)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        said = capsys.readouterr()
        return int(caught.value.code or 0), said.out, said.err

    return run


def same(folder: Path, path: Path, text: str) -> None:
    """The text is TOML that loads to the very same settings."""
    copy = folder / "hpcbridge.toml"
    copy.write_text(text)
    assert configfile.load(copy) == configfile.load(path)


@pytest.mark.parametrize(
    "changes",
    [
        (),
        (put("apps", "a.b", {"cmd": ["x", "$port"], "ready_line": 'say "hi" \\ é'}),),
        (cmd("x", "$port", "", '"', "'", "\\", "$$", "${file}", "${dataDir}/${a}", "# no"),),
        (put("configuration", "sessionURL", "ws://${host}:${port}/other"),),
        (
            put("sessionData", {"up dir": "/Home", "n": 5, "é": "${file}"}),
            put("configuration", "fields", ["up dir", "n", "é", "host"]),
        ),
        (put("resources", 0, "port_range", [1024, 9999]), put("configuration", "content", "www")),
        (
            put("configuration", "sanitize", {"f": {"type": "inList", "list": ["a", 1, "b'\""]}}),
            cmd("x", "$port", "${f}"),
        ),
        (without("apps", "viewer", "ready_line"), without("properties")),
    ],
)
def test_the_toml_means_the_same(
    tmp_path: Path, imported: Import, changes: tuple[Any, ...]
) -> None:
    if changes and changes[-1].__qualname__.startswith("without"):
        changes = (*changes, cmd("x", "$port"))
    path = written(tmp_path, *changes)
    status, text, error = imported(path)
    assert (status, error) == (0, "")
    same(tmp_path, path, text)


def test_what_works_differently_stands_beside_its_section(tmp_path: Path, imported: Import) -> None:
    told = put("configuration", "note", 1)
    path = written(tmp_path, cmd("start.sh", "${port}", "${secret}"), put("comment", "x"), told)
    _, text, _ = imported(path)
    before, _, application = text.partition("[applications.viewer]\n")
    assert application.startswith("# apps.viewer.cmd (line ")
    assert "the secret stands on the command line" in application.replace("\n#   ", " ")
    assert "# configuration.note (line 13): has no effect" in before
    assert "# comment (line " in before.partition("[server]")[0]
    assert all(len(line) <= 100 for line in text.splitlines() if line.startswith("#"))


def test_a_text_in_the_file_cannot_become_a_setting(tmp_path: Path, imported: Import) -> None:
    evil = 'x"\n[server]\nhost = "0.0.0.0"\n#'
    path = written(tmp_path, put(evil, "x"), put("configuration", "fields", [evil]))
    _, text, _ = imported(path)
    assert tomllib.loads(text)["server"]["host"] == "localhost"
    same(tmp_path, path, text)


def test_a_file_that_is_wrong_is_told_and_nothing_is_printed(
    tmp_path: Path, imported: Import
) -> None:
    path = written(tmp_path, put("configuration", "port", 0))
    status, text, error = imported(path)
    assert (status, text) == (1, "")
    assert error.startswith(f"hpcbridge: {path}: line 4, column 13: configuration.port: must be")


def test_any_name_of_a_file_will_do(tmp_path: Path, imported: Import) -> None:
    path = written(tmp_path)
    other = path.rename(tmp_path / "launcher.txt")
    status, text, _ = imported(other)
    assert status == 0
    assert "Made from launcher.txt" in text


# -- the documentation's applications


def test_the_four_applications_of_the_old_documentation_are_translated(
    tmp_path: Path, imported: Import
) -> None:
    status, text, error = imported(EXAMPLE)
    assert (status, error) == (0, "")
    same(tmp_path, EXAMPLE, text)
    settings = configfile.load(EXAMPLE)
    assert list(settings.applications) == ["visualizer", "loader", "data_prober", "pipeline"]
    for application in settings.applications.values():
        assert application.command[0] == "/opt/paraview/bin/pvpython"
        assert application.command.count("${job.launch}") == 1
        assert "--authKey" not in application.command
        assert "${job.port}" in application.command
    assert "/srv/data/${param.fileToLoad}" in settings.applications["loader"].command
    assert settings.server.reply == {"updir": "/Home"}
    assert [problems for _, problems in check_all(settings)] == [[], [], [], []]


def test_the_commands_take_a_launcher_file_for_a_configuration(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hpcbridge", "template", "render", str(EXAMPLE), "loader"]
    done = subprocess.run(
        [*command, "--param", "fileToLoad=disk.ex2"], capture_output=True, text=True, check=True
    )
    assert "  /srv/data/disk.ex2\n" in done.stdout
    assert "upload_dir: files are sent by PUT" in done.stderr


def test_the_machine_s_own_name_is_no_other_machine(tmp_path: Path, imported: Import) -> None:
    path = written(tmp_path, put("resources", 0, "host", socket.gethostname()))
    assert imported(path)[0] == 0
