"""The templates of trame and of ParaView: what they start, by which words, on what display."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcbridge.jobscripts import ScriptContext, TemplateSet, check, render

from .conftest import SECRET, Job

RunJob = Callable[..., Job]

APP = f"""\
import os, sys
from pathlib import Path
handed = sys.argv[sys.argv.index("--authKeyFile") + 1]
print("read", Path(handed).read_text() == {SECRET!r}, handed.startswith("/proc/self/fd/"))
print("words", [word for word in sys.argv[1:] if word != os.environ["HPCBRIDGE_PORT"]])
print("environment", os.environ.get("TRAME_ARGS"), os.environ.get("PYTHONUNBUFFERED"))
print("App running at:", end="")
"""

# Says what it was built for when it is asked, and else how it was started. One word a line.
PVPYTHON = """\
#!/bin/bash
if [[ $1 == -c ]]; then echo asked >>"$HPCBRIDGE_DIRECTORY/asked"; echo "BUILT"; exit; fi
echo "display ${DISPLAY:-none}, window ${VTK_DEFAULT_OPENGL_WINDOW:-any}"
echo "unbuffered $PYTHONUNBUFFERED"
printf '<%s>\\n' "$@"
"""

needs_xvfb = pytest.mark.skipif(not shutil.which("Xvfb"), reason="Xvfb is not installed")


@pytest.fixture
def app(tmp_path: Path) -> str:
    path = tmp_path / "apps" / "app.py"
    path.parent.mkdir()
    path.write_text(APP)
    return str(path)


@pytest.fixture
def paraview(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Properties with a pvpython that gives this answer about its build."""

    def made(built: str) -> dict[str, str]:
        path = tmp_path / "pvpython"
        path.write_text(PVPYTHON.replace("BUILT", built))
        path.chmod(0o755)
        return {"pvpython": str(path), "script": "/srv/apps/app.py"}

    return made


def words(log: str) -> list[str]:
    """What pvpython was started with."""
    return [line[1:-1] for line in log.splitlines() if line.startswith("<")]


def test_a_trame_application_gets_its_words_and_a_file_with_the_secret(
    run_job: RunJob, app: str
) -> None:
    properties = {"script": app, "arguments": ["--data", "/a b/$(id)", "", -3]}
    job = run_job(
        "trame.sh", properties=properties, parameters={"size": "x y"}, env={"TRAME_ARGS": "--x"}
    )
    assert job.finish() == 0, job.log
    read, said, environment, ready = job.log.splitlines()
    assert read == "read True True"
    expected = ["--server", "--host", "127.0.0.1", "--port", "--timeout", "0", "--data"]
    expected += ["/a b/$(id)", "", "-3", "--size=x y", "--authKeyFile"]
    assert said.startswith(f"words {expected!r}".removesuffix("]"))
    assert environment == "environment None 1"
    assert ready == "App running at:"
    assert not (job.directory / "secret").exists()


def test_a_module_runs_with_the_python_of_the_virtual_environment(
    run_job: RunJob, app: str, tmp_path: Path
) -> None:
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho from the venv\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    properties = {
        "module": "app",
        "venv": str(tmp_path / "venv"),
        "pythonpath": str(Path(app).parent),
    }
    job = run_job("trame.sh", properties=properties, parameters={})
    assert job.finish() == 0, job.log
    assert job.log.startswith("from the venv\nread True True\n")


@needs_xvfb
def test_a_paraview_for_x11_alone_gets_a_display(
    run_job: RunJob, paraview: Callable[[str], dict[str, str]]
) -> None:
    job = run_job("paraview.sh", properties=paraview("needs a display"), parameters={})
    assert job.finish() == 0, job.log
    assert "display :" in job.log
    assert "window any" in job.log
    assert (job.directory / "asked").exists()


@pytest.mark.parametrize(
    ("rendering", "said", "asked"),
    [
        ("auto", "display none, window any", True),
        ("egl", "display none, window vtkEGLRenderWindow", False),
        ("osmesa", "display none, window vtkOSOpenGLRenderWindow", False),
    ],
)
def test_other_paraviews_draw_by_themselves(
    run_job: RunJob,
    paraview: Callable[[str], dict[str, str]],
    rendering: str,
    said: str,
    asked: bool,
) -> None:
    properties = paraview("chooses") | {"rendering": rendering}
    here = {"DISPLAY": "", "VTK_DEFAULT_OPENGL_WINDOW": ""}
    job = run_job("paraview.sh", properties=properties, parameters={"load": "a b"}, env=here)
    assert job.finish() == 0, job.log
    assert said in job.log
    assert "unbuffered 1" in job.log
    assert (job.directory / "asked").exists() == asked
    started = words(job.log)
    assert started[:3] == ["--force-offscreen-rendering", "launch.py", "/srv/apps/app.py"]
    assert started[-3:] == ["--timeout", "300", "--load=a b"]


def test_trame_on_paraview_gets_trames_words_and_its_environment(
    run_job: RunJob, paraview: Callable[[str], dict[str, str]]
) -> None:
    more = {"trame": True, "venv": "/opt/tr ame", "rendering": "egl", "arguments": ["--x", "y z"]}
    job = run_job("paraview.sh", properties=paraview("chooses") | more, parameters={})
    assert job.finish() == 0, job.log
    started = words(job.log)
    assert started[:7] == [
        *("--venv", "/opt/tr ame", "--force-offscreen-rendering", "launch.py"),
        *("--secret-file", "--authKeyFile", "/srv/apps/app.py"),
    ]
    assert started[-5:] == ["--server", "--timeout", "0", "--x", "y z"]


@pytest.fixture
def mpiexec(tmp_path: Path) -> str:
    """A command that says how it was started, and then starts one rank."""
    path = tmp_path / "mpiexec"
    path.write_text('#!/bin/bash\necho "mpiexec $1 $2"\nexec "${@:3}"\n')
    path.chmod(0o755)
    return str(path)


def test_pvbatch_runs_the_script_in_its_ranks_and_nothing_in_front_of_them(
    run_job: RunJob, paraview: Callable[[str], dict[str, str]], mpiexec: str
) -> None:
    properties = paraview("chooses")
    more = {"mpi": 4, "mpiexec": mpiexec, "pvbatch": properties["pvpython"], "rendering": "osmesa"}
    here = {"VTK_DEFAULT_OPENGL_WINDOW": ""}
    job = run_job("paraview.sh", properties=properties | more, parameters={"size": 3}, env=here)
    assert job.finish() == 0, job.log
    assert job.log.startswith("mpiexec -n 4\n")
    assert "window vtkOSOpenGLRenderWindow" in job.log
    started = words(job.log)
    assert started[:3] == ["--force-offscreen-rendering", "launch.py", "/srv/apps/app.py"]
    assert started[-1] == "--size=3"


def test_pvserver_runs_in_the_ranks_and_connects_to_pvpython(
    run_job: RunJob, paraview: Callable[[str], dict[str, str]], mpiexec: str, tmp_path: Path
) -> None:
    server = tmp_path / "pvserver"
    server.write_text('#!/bin/bash\nprintf "%s\\n" "$@" >server\n')
    server.chmod(0o755)
    program = tmp_path / "waiting"
    program.write_text(
        '#!/bin/bash\nuntil [[ -s server ]]; do read -rt .05 <> <(:); done\nprintf "<%s>\\n" "$@"\n'
    )
    program.chmod(0o755)
    properties = paraview("chooses") | {"pvpython": str(program), "rendering": "egl"}
    more = {"mpi": 2, "mpiexec": mpiexec, "pvserver": str(server)}
    job = run_job("paraview.sh", properties=properties | more, parameters={})
    assert job.finish() == 0, job.log
    started = words(job.log)
    told = (job.directory / "server").read_text().splitlines()
    assert told[:2] == ["--force-offscreen-rendering", "--reverse-connection"]
    assert started[0].startswith("--connect-id=")
    assert started[0] in told
    port = started[started.index("--reverse-connect-port") + 1]
    assert f"--server-port={port}" in told


@pytest.mark.parametrize("scheduler", ["slurm", "slurmrest", "pbs", "local"])
def test_each_batch_system_has_its_own_way_to_start_ranks(
    context: ScriptContext, scheduler: str
) -> None:
    properties: dict[str, Any] = {"script": "/srv/app.py", "mpi": 8}
    asked = replace(context, scheduler=scheduler, properties=properties)
    command = "srun" if scheduler.startswith("slurm") else "mpiexec"
    assert f"mpi=({command})\nmpi+=(-n 8)" in render(TemplateSet(), "paraview.sh", asked)


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"mpi": "four"}, "app.mpi is 'four'; it must be a whole number, 1 or more"),
        ({"mpi": 0}, "is '0'; it must be a whole number, 1 or more"),
        ({"mpi": True}, "is 'true'; it must be a whole number, 1 or more"),
        ({"pvserver": "pvserver"}, "mpi"),
        ({"pvbatch": "/opt/bin/pvbatch"}, "mpi"),
        ({"mpi": 2, "pvsever": "pvserver"}, "pvserver"),
        ({"rendering": "glx"}, "it can be xvfb, egl, osmesa, auto"),
    ],
)
def test_a_check_tells_what_of_paraview_cannot_be(
    context: ScriptContext, properties: dict[str, Any], said: str
) -> None:
    given = {"script": "/srv/app.py", **properties}
    found = check(TemplateSet(), "paraview.sh", replace(context, properties=given, parameters={}))
    assert any(said in str(problem) for problem in found), found
