"""The command line: everything has a help text, and every mistake a sentence."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hpcbridge
from hpcbridge.cli import main as cli
from hpcbridge.cli import serve

COMMANDS = [
    [],
    ["serve"],
    ["doctor"],
    ["config"],
    ["config", "show"],
    ["template"],
    ["template", "list"],
    ["template", "show"],
    ["template", "render"],
    ["template", "check"],
    ["frontend"],
    ["frontend", "apache"],
    ["token"],
    ["token", "create"],
    ["token", "list"],
    ["token", "revoke"],
    ["import"],
    ["backup"],
    ["restore"],
    *(["login"], ["logout"], ["launch"], ["sessions"], ["show"], ["logs"], ["stop"]),
    ["applications"],
    ["top"],
]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Exit status, output and errors of ``hpcbridge ARGUMENT...``."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")

    def command(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hpcbridge", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        said = capsys.readouterr()
        status = caught.value.code
        assert status is None or isinstance(status, int)
        return status or 0, said.out, said.err

    return command


Run = Callable[..., tuple[int, str, str]]


def refusal(answer: tuple[int, str, str]) -> str:
    """The sentence of a command that failed."""
    status, _, error = answer
    assert status == 1
    assert error.startswith("hpcbridge: ")
    assert "Traceback" not in error
    return error


def success(answer: tuple[int, str, str]) -> str:
    status, out, error = answer
    assert (status, error) == (0, "")
    return out


# -- help


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(run: Run, command: list[str]) -> None:
    out = success(run(*command, "--help"))
    assert "Usage: " in out
    for line in re.findall(r"^│ +(--[a-z-]+|[a-z]+) (.*)│$", out, re.MULTILINE):
        assert line[1].strip(), f"{line[0]} has no help text"


def test_what_a_command_works_with_is_not_imported_for_its_help() -> None:
    """Help and shell completion have to be quick."""
    heavy = (
        "{'httpx', 'pydantic', 'sqlalchemy', 'fastapi', 'asyncssh', 'rich.live', 'platformdirs'}"
    )
    program = f"import sys, hpcbridge.cli.main; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_without_arguments_the_help_is_shown(run: Run) -> None:
    assert "Usage: " in "".join(map(str, run()))


def test_the_version_is_told(run: Run) -> None:
    assert success(run("--version")) == f"hpcbridge {hpcbridge.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["serve"],
        ["serve", "x.toml", "--port", "99999"],
        ["serve", "x.toml", "--port", "-1"],
        ["serve", "x.toml", "--nonsense"],
        ["config", "show"],
    ],
)
def test_a_wrong_command_line_is_told_with_its_usage(run: Run, arguments: list[str]) -> None:
    status, _, error = run(*arguments)
    assert status == 2
    assert "Usage: " in error
    assert "Traceback" not in error


# -- what serve says first


@pytest.mark.parametrize(
    ("accept", "browser", "said"),
    [
        ([], True, 'curl -X POST -d \'{"application": "cone"}\' http://h:1/paraview'),
        (["token"], False, 'curl -X POST -H "Authorization: Bearer TOKEN" -d'),
        (["header"], False, "The front end names the users to it."),
    ],
)
def test_who_starts_the_service_is_told_what_works_now(
    site: Any, tmp_path: Path, accept: list[str], browser: bool, said: str
) -> None:
    secret = {"secret_file": str(tmp_path / "secret")} if "header" in accept else {}
    meant = {"here": {"trust_jobs": True}}
    settings = site.settings(auth={"accept": accept, **secret}, clusters=meant)
    told = serve._first_steps(settings, "http://h:1/")
    assert said in told
    assert ("In a browser:   http://h:1/" in told) is browser


# -- mistakes in the configuration


@pytest.mark.parametrize(
    "command", [each for each in COMMANDS if len(each) == 2] + [["serve"]], ids=" ".join
)
def test_a_wrong_configuration_is_told_by_every_command(
    run: Run, site: Any, command: list[str]
) -> None:
    needed = {"show": ["xvfb.sh"], "render": ["cone"], "create": ["--user=x"], "revoke": ["x"]}
    more = [] if command == ["config", "show"] else needed.get(command[-1], [])
    said = refusal(run(*command, site.root / "missing.toml", *more))
    assert (
        said == f"hpcbridge: {site.root}/missing.toml: cannot be read: No such file or directory.\n"
    )
    path = site.write(server={"prot": 1})
    assert "server.prot: unknown key. Did you mean 'port'?" in refusal(run(*command, path, *more))


# -- config show


def test_the_configuration_in_force_is_shown(
    run: Run, site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = site.write(
        store={"url": "postgresql+asyncpg://bridge:p4ssw0rd@db/sessions"},
        clusters={"here": {"scheduler": "slurm"}},
    )
    monkeypatch.setenv("HPCBRIDGE_SERVER__PORT", "1234")
    out = success(run("config", "show", path))
    assert "p4ssw0rd" not in out
    assert tomllib.loads(out)["server"]["port"] == 1234


# -- templates


def test_templates_are_listed_with_where_they_are_and_who_uses_them(run: Run, site: Any) -> None:
    own = site.root / "own"
    own.mkdir()
    (own / "python.sh").write_text("#!/bin/bash\n")
    (own / "notes.txt").write_text("no template\n")
    out = success(run("template", "list", site.write(template_dirs=["own"])))
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert {"command.sh", "egl.sh", "osmesa.sh", "python.sh", "xvfb.sh"} <= set(lines)
    assert "prelude.sh" not in lines
    assert "notes.txt" not in lines
    assert str(own / "python.sh") in lines["python.sh"]
    assert "(used by cone, crash, mute, missing, late, tuned)" in lines["command.sh"]


def test_a_template_is_shown_as_it_is(run: Run, site: Any) -> None:
    out = success(run("template", "show", site.write(), "command.sh"))
    builtin = Path(hpcbridge.__file__).parent / "jobscripts/templates/command.sh"
    assert out == builtin.read_text()


@pytest.mark.parametrize("name", ["nosuch.sh", "../launch.py", "/etc/passwd", "", "."])
def test_only_templates_can_be_shown(run: Run, site: Any, name: str) -> None:
    refusal(run("template", "show", site.write(), name))


def test_a_job_script_is_shown_as_it_would_be_submitted(run: Run, site: Any) -> None:
    path = site.write(applications={"tuned": {"walltime": 3600}})
    out = success(run("template", "render", path, "tuned", "-p", "file=a b'c", "-p", "level=7"))
    assert out.startswith("#!/bin/bash\n")
    assert "#SBATCH" not in out  # the built-in batch runner reads no directives
    assert """--file='a b'"'"'c'""" in out
    assert "--level=7" in out
    assert "{{" not in out
    checked = subprocess.run(["bash", "-n"], input=out, text=True, check=False)
    assert checked.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nosuch"], "There is no application 'nosuch'. Applications: cone, crash"),
        (["cone", "-p", "x=1"], "No parameter 'x' in 'cone'. Parameters: none."),
        (["tuned", "-p", "levle=1"], "No parameter 'levle' in 'tuned'. Parameters: file, level."),
        (["tuned", "-p", "level=10"], "Parameter 'level' must be a whole number, at least 1"),
        (["tuned", "-p", "level"], "--param: 'level' is not like NAME=VALUE."),
        (["tuned", "-p", "file=a\nb"], "Parameter 'file' must be a text"),
        (["cone", "--cluster", "x"], "'cone' does not run on 'x'. Its clusters: here."),
        (["tuned", "-p", "file=\udcff"], "Parameter 'file' must be a text"),
    ],
)
def test_a_launch_that_would_be_refused_is_told(
    run: Run, site: Any, arguments: list[str], said: str
) -> None:
    assert said in refusal(run("template", "render", site.write(), *arguments))


def test_a_job_script_is_shown_as_each_of_its_clusters_would_get_it(run: Run, site: Any) -> None:
    big = {"scheduler": "slurm", "options": {"partition": "viz"}}
    both = {"cone": {"cluster": ["here", "big"]}}
    path = site.write(clusters={"big": big}, applications=both)
    assert "#SBATCH" not in success(run("template", "render", path, "cone"))
    out = success(run("template", "render", path, "cone", "--cluster", "big"))
    assert "#SBATCH --partition=viz\n" in out


def test_a_template_that_fails_on_one_of_the_clusters_is_told(run: Run, site: Any) -> None:
    (site.root / "own.sh").write_text(
        '#!/bin/bash\n{% include "prelude.sh" %}\necho {{ cluster.partition }}\nexec true\n'
    )
    own = {"cone": {"cluster": ["big", "here"], "template": "own.sh"}}
    big = {"scheduler": "slurm", "options": {"partition": "viz"}}
    path = site.write(template_dirs=["."], clusters={"big": big}, applications=own)
    status, out, _ = run("template", "check", path)
    assert status == 1
    assert "cone: error: " in out
    assert "partition" in out


def test_good_templates_are_fine(run: Run, site: Any) -> None:
    out = success(run("template", "check", site.write()))
    assert len(out.splitlines()) == 6
    assert "cone: command.sh is fine" in out


def test_a_template_can_be_checked_without_the_values_that_users_give(run: Run, site: Any) -> None:
    required = {
        "text": {"type": "str", "pattern": "[0-9]{4}"},
        "number": {"type": "float", "min": 10},
        "word": {"type": "str", "choices": ["a b"]},
        "flag": {"type": "bool"},
    }
    path = site.write(applications={"cone": {"parameters": required}})
    assert "cone: command.sh is fine" in success(run("template", "check", path))
    assert "Parameter 'text' is required" in refusal(run("template", "render", path, "cone"))


def test_a_template_with_a_mistake_fails_the_check(run: Run, site: Any) -> None:
    own = site.root / "own"
    own.mkdir()
    (own / "typo.sh").write_text("#!/bin/bash\necho {{ app.programm }}\n")
    path = site.write(template_dirs=["own"], applications={"cone": {"template": "typo.sh"}})
    status, out, error = run("template", "check", path)
    assert (status, error) == (1, "")
    assert re.search(r"^cone: error: .*app\.programm is not defined", out, re.MULTILINE)
    assert "crash: command.sh is fine" in out
    path = site.write(applications={"cone": {"template": "nosuch.sh"}})
    status, out, _ = run("template", "check", path)
    assert status == 1
    assert "cone: error: nosuch.sh: Template nosuch.sh was not found" in out


# -- front ends


def test_a_virtual_host_is_printed(run: Run, site: Any) -> None:
    path = site.write(
        server={"port": 8123, "endpoint": "/viz"},
        frontend={"map_file": "/srv/map/sessions", "server_name": "viz.example.org"},
    )
    out = success(run("frontend", "apache", path, "--listen", "*:8443"))
    assert "<VirtualHost *:8443>" in out
    assert "ServerName viz.example.org" in out
    assert "http://127.0.0.1:8123" in out
    assert "/srv/map/sessions" in out


def test_pages_of_the_site_are_in_the_printed_virtual_host(
    run: Run, site: Any, tmp_path: Path
) -> None:
    (tmp_path / "www").mkdir()
    path = site.write(
        server={"port": 8123, "content": {"/visualizer-1.0": str(tmp_path / "www")}},
        frontend={"map_file": "/srv/map/sessions"},
    )
    out = success(run("frontend", "apache", path))
    assert 'ProxyPass "/visualizer-1.0" "http://127.0.0.1:8123/visualizer-1.0"' in out


@pytest.mark.parametrize(
    ("sections", "arguments", "said"),
    [
        ({}, [], "Apache finds sessions by frontend.map_file"),
        ({"frontend": {"map_file": "/m"}}, ["--listen", "80\nInclude /x"], "listen is "),
        ({"frontend": {"map_file": "/m", "server_name": "a b"}}, [], "server_name is 'a b'"),
        ({"frontend": {"map_file": "/m m"}}, [], "map_file is '/m m'"),
        ({"frontend": {"map_file": "/m"}, "server": {"host": "a b"}}, [], "api_url is "),
    ],
)
def test_what_apache_could_misread_is_refused(
    run: Run, site: Any, sections: dict[str, Any], arguments: list[str], said: str
) -> None:
    assert said in refusal(run("frontend", "apache", site.write(**sections), *arguments))


def test_an_ipv6_address_is_written_as_in_a_url(run: Run, site: Any) -> None:
    path = site.write(server={"host": "::1", "port": 8080}, frontend={"map_file": "/srv/map"})
    assert "http://[::1]:8080" in success(run("frontend", "apache", path))


@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_full_disk_behind_the_output_is_told_in_a_sentence(buffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "hpcbridge", "--version"],
            env={**os.environ, "PYTHONUNBUFFERED": buffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "hpcbridge: cannot write the output: No space left on device.\n"


def test_a_command_whose_output_is_closed_says_nothing() -> None:
    command = [sys.executable, "-m", "hpcbridge", "--help"]
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    done = subprocess.run(closed, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_reader_who_has_read_enough_ends_the_command_without_a_word() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "hpcbridge", "--help"],
            stdout=closed,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"")


def test_the_help_answers_without_importing_what_commands_work_with() -> None:
    """What is not imported costs no time: `--help` and completion are to answer at once."""
    program = (
        "import sys; from hpcbridge.cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'fastapi', 'sqlalchemy', 'asyncssh', 'pydantic', 'httpx', 'jinja2', 'uvicorn'}\n"
        "sys.exit(', '.join(sorted(heavy & sys.modules.keys())) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert "serve" in done.stdout
