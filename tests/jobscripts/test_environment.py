"""A site's surroundings of a job: modules, prologue, epilogue, container, and granted GPUs."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcbridge.jobscripts import TemplateSet

from .conftest import Job

Made = Callable[..., TemplateSet]
RunJob = Callable[..., Job]


def script(body: str) -> str:
    """A job that includes what our own templates include, and then does this."""
    return (
        "#!/bin/bash\n"
        '{% include "options.sh" %}\n{% include "prelude.sh" %}\n{% include "environment.sh" %}\n'
        f"{body}\n"
    )


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str, str], str]:
    """Writes an executable file; returns its path."""

    def write(name: str, text: str) -> str:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    return write


Program = Callable[[str, str], str]


def test_modules_are_loaded_in_order_each_as_one_word(run_job: RunJob, made: Made) -> None:
    """As on a site: "module" is a shell function that the job inherits from the login shell."""
    environment = {"BASH_FUNC_module%%": '() { echo "$#: $*"; export LOADED=$2; }'}
    options = {"modules": "paraview/5.13 openmpi $(touch-x) *"}
    job = run_job("t.sh", made(script("hpcbridge_run env")), environment, options=options)
    assert job.finish() == 0, job.log
    assert "5: load paraview/5.13 openmpi $(touch-x) *" in job.log
    assert "LOADED=paraview/5.13" in job.log


def test_a_module_that_is_not_there_ends_the_job_with_a_sentence(
    run_job: RunJob, made: Made
) -> None:
    environment = {"BASH_FUNC_module%%": '() { echo "$2 is unknown" >&2; return 1; }'}
    template = made(script("hpcbridge_run echo begun"))
    job = run_job("t.sh", template, environment, options={"modules": "nosuch"})
    assert job.finish() == 1
    assert "nosuch is unknown" in job.log
    assert "hpcbridge: module load failed" in job.log
    assert "begun" not in job.log


def test_a_prologue_prepares_the_shell_and_an_epilogue_hears_the_exit_status(
    run_job: RunJob, made: Made, program: Program
) -> None:
    options = {
        "prologue": program("pro.sh", "export SITE=prepared\n"),
        "epilogue": program("epi.sh", '#!/bin/sh\necho "epilogue in $PWD, status $1, $SITE"\n'),
    }
    template = made(script("hpcbridge_run bash -c 'echo site $SITE; exit 7'"))
    job = run_job("t.sh", template, options=options)
    assert job.finish() == 7
    said = [line for line in job.log.splitlines() if "site" in line or "epilogue" in line]
    assert said == ["site prepared", f"epilogue in {job.directory}, status 7, prepared"]
    assert job.status["exit"] == "7"


@pytest.mark.parametrize("text", ["exit 4\n", "return 4\n", "no-such-command-at-all\n"])
def test_a_prologue_that_fails_ends_the_job_and_the_epilogue_still_runs(
    run_job: RunJob, made: Made, program: Program, text: str
) -> None:
    options = {
        "prologue": program("pro.sh", text),
        "epilogue": program("epi.sh", "#!/bin/sh\necho epilogue $1\n"),
    }
    job = run_job("t.sh", made(script("hpcbridge_run echo begun")), options=options)
    assert job.finish() != 0
    assert "begun" not in job.log
    assert "epilogue" in job.log


def test_the_epilogue_of_a_cancelled_job_comes_after_the_end_of_its_processes(
    run_job: RunJob, made: Made, program: Program
) -> None:
    epilogue = '#!/bin/sh\npgrep -f "sleep 101[0]" && echo left\necho epilogue $1\n'
    options = {"epilogue": program("epi.sh", epilogue)}
    template = made(script("hpcbridge_run bash -c 'echo begun; sleep 1010'"))
    job = run_job("t.sh", template, options=options)
    job.wait_for("begun")
    assert job.terminate() == 143
    assert job.log.splitlines()[-1] == "epilogue 143"
    assert "left" not in job.log
    assert job.status["exit"] == "143"


def test_an_epilogue_that_is_missing_does_not_change_how_the_job_ended(
    run_job: RunJob, made: Made
) -> None:
    options = {"epilogue": "/nowhere/epilogue"}
    job = run_job("t.sh", made(script("hpcbridge_run true")), options=options)
    assert job.finish() == 0
    assert "/nowhere/epilogue" in job.log
    assert job.status["exit"] == "0"


GRANTED = [
    ({}, ""),
    ({"CUDA_VISIBLE_DEVICES": "2,3"}, "2 3"),
    ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, ""),
    ({"CUDA_VISIBLE_DEVICES": "GPU-8a2b,MIG-1f"}, ""),
    ({"CUDA_VISIBLE_DEVICES": "0", "SLURM_JOB_GPUS": "3"}, "0"),
    ({"ROCR_VISIBLE_DEVICES": "1"}, "1"),
    ({"SLURM_JOB_GPUS": "1,3"}, "1 3"),
    ({"SGE_HGR_gpu": "1 2"}, "1 2"),
    ({"CUDA_VISIBLE_DEVICES": "$(id) *"}, ""),
]


@pytest.mark.parametrize(("environment", "granted"), GRANTED, ids=str)
def test_the_granted_gpus_are_known_as_numbers(
    run_job: RunJob, made: Made, environment: dict[str, str], granted: str
) -> None:
    template = made(script('hpcbridge_run echo "granted:${hpcbridge_gpus[*]}."'))
    job = run_job("t.sh", template, environment)
    assert job.finish() == 0
    assert f"granted:{granted}." in job.log


def test_of_torques_file_only_this_nodes_gpus_count(
    run_job: RunJob, made: Made, tmp_path: Path
) -> None:
    here = socket.gethostname().partition(".")[0]
    file = tmp_path / "gpufile"
    file.write_text(f"other-gpu0\n{here}-gpu3\n{here}.site.edu-gpu1\n{here}2-gpu5\n")
    template = made(script('hpcbridge_run echo "granted:${hpcbridge_gpus[*]}."'))
    job = run_job("t.sh", template, {"PBS_GPUFILE": str(file)})
    assert job.finish() == 0
    assert "granted:3 1." in job.log


def test_egl_draws_on_the_first_granted_gpu(run_job: RunJob, program: Program) -> None:
    python = program("python", '#!/bin/sh\nenv | grep ^VTK\nshift; echo "ran $*"\n')
    job = run_job("egl.sh", env={"CUDA_VISIBLE_DEVICES": "2,3"}, python=python, parameters={})
    assert job.finish() == 0
    assert "VTK_DEFAULT_EGL_DEVICE_INDEX=2" in job.log
    assert "VTK_DEFAULT_OPENGL_WINDOW=vtkEGLRenderWindow" in job.log


# What stands for Apptainer: it says how it was called and runs the command outside of any image.
APPTAINER = """#!/bin/bash
printf 'apptainer:'; printf ' <%s>' "$@"; echo
while [[ $1 != *.sif ]]; do shift; done
shift
exec "$@"
"""


@pytest.mark.parametrize("gpus", ["", "0"])
def test_a_container_is_entered_with_the_session_directory_and_the_gpus(
    run_job: RunJob, program: Program, gpus: str
) -> None:
    stand_in = Path(program("apptainer", APPTAINER))
    server = program("server", "#!/bin/sh\necho server at $PWD; echo $*\n")
    image = str(stand_in.parent / "para view.sif")
    job = run_job(
        "command.sh",
        env={"PATH": f"{stand_in.parent}:/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": gpus},
        options={"container": image, "container_options": "--bind /data:/data:ro --cleanenv"},
        properties={"program": server},
    )
    assert job.finish() == 0, job.log
    nv = " <--nv>" if gpus else ""
    directory = job.directory
    assert (
        f"apptainer: <exec> <--bind> <{directory}> <--pwd> <{directory}>{nv} "
        f"<--bind> </data:/data:ro> <--cleanenv> <{image}> <{server}> <--host>"
    ) in job.log
    assert f"server at {directory}" in job.log
    assert f"--port {job.status['port']}" in job.log


def test_cancelling_ends_what_runs_in_the_container(run_job: RunJob, program: Program) -> None:
    stand_in = Path(program("apptainer", APPTAINER))
    server = program("server", "#!/bin/sh\necho up; exec sleep 1010\n")
    job = run_job(
        "command.sh",
        env={"PATH": f"{stand_in.parent}:/usr/bin:/bin"},
        options={"container": "/site/x.sif"},
        properties={"program": server},
    )
    job.wait_for("up")
    assert job.terminate() == 143
    assert job.processes() == {}


# What stands for MPI: two ranks, as mpiexec starts them on one node.
MPIEXEC = """#!/bin/bash
for rank in 0 1; do OMPI_COMM_WORLD_LOCAL_RANK=$rank "$@" & done
wait -n
"""
PVSERVER = """#!/bin/sh
echo "pvserver $OMPI_COMM_WORLD_LOCAL_RANK gpu $VTK_DEFAULT_EGL_DEVICE_INDEX: $*"
"""
PVPYTHON = """#!/bin/sh
echo "pvpython $*"
until [ "$(grep -c ^pvserver output.log)" = 2 ]; do sleep 0.05; done
"""


def test_each_rank_of_pvserver_gets_a_gpu_and_finds_pvpython(
    run_job: RunJob, program: Program
) -> None:
    properties = {
        "mpi": f"env A=1 {program('mpiexec', MPIEXEC)}",
        "pvserver": program("pvserver", PVSERVER),
        "pvpython": program("pvpython", PVPYTHON),
        "script": "/srv/visualizer.py",
        "display": "egl",
    }
    job = run_job("pvserver.sh", env={"CUDA_VISIBLE_DEVICES": "4,6"}, properties=properties)
    assert job.finish() == 0, job.log
    servers = sorted(line for line in job.log.splitlines() if line.startswith("pvserver"))
    assert [line.partition(":")[0] for line in servers] == [
        "pvserver 0 gpu 4",
        "pvserver 1 gpu 6",
    ]
    (front,) = [line for line in job.log.splitlines() if line.startswith("pvpython")]
    words = front.split()
    port = words[words.index("--reverse-connect-port") + 1]
    (number,) = {word for word in words if word.startswith("--connect-id=")}
    assert port != job.status["port"]
    assert all(f"--server-port={port} {number}" in line for line in servers)
    assert words[words.index("launch.py") + 1] == "/srv/visualizer.py"
