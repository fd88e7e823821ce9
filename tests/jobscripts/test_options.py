"""What a job asks the batch system for: options become directives of the right kind, or nothing."""

from dataclasses import replace

import pytest

from hpcbridge.errors import BadParameter, TemplateError
from hpcbridge.jobscripts import ScriptContext, TemplateSet, render

from .test_render import CONTROLS, Made

OURS = TemplateSet()
MPI = {"nodes": 2, "tasks": 4, "cpus": 2, "memory": "8gb", "gpus": 2}
EXPECTED = {
    "slurm": [
        ("--time=01:00:00", {}),
        ("--partition=viz", {"partition": "viz"}),
        ("--account=phys/42", {"account": "phys/42"}),
        ("--qos=high", {"qos": "high"}),
        ("--reservation=course", {"reservation": "course"}),
        ("--constraint=h100", {"constraint": "h100"}),
        ("--nodes=2", MPI),
        ("--ntasks-per-node=4", MPI),
        ("--cpus-per-task=2", MPI),
        ("--mem=8gb", MPI),
        ("--gpus-per-node=2", MPI),
        ("--gpus-per-node=h100:2", {"gpus": "h100:2"}),
        ("--gres=gpu:h100:2,tmpfs:10G", {"gres": "gpu:h100:2,tmpfs:10G"}),
        ("--exclusive", {"exclusive": True}),
    ],
    "pbs": [
        ("-l walltime=01:00:00", {}),
        ("-q viz", {"queue": "viz"}),
        ("-q R123", {"queue": "viz", "reservation": "R123"}),
        ("-A phys", {"account": "phys"}),
        ("-P cfd", {"project": "cfd"}),
        ("-l select=2:ncpus=8:mpiprocs=4:mem=8gb:ngpus=2", MPI),
        ("-l select=1:ncpus=1:mpiprocs=1:arch=h100", {"constraint": "arch=h100"}),
        ("-l select=2:ncpus=8:mpiprocs=4", {"nodes": "2", "tasks": "4", "cpus": "2"}),
        ("-l place=scatter", MPI),
        ("-l place=scatter:excl", {"exclusive": True}),
    ],
    "torque": [
        ("-l walltime=01:00:00", {}),
        ("-q viz", {"queue": "viz"}),
        ("-A phys", {"account": "phys"}),
        ("-l qos=high", {"qos": "high"}),
        ("-l nodes=2:ppn=8:gpus=2", MPI),
        ("-l nodes=2:ppn=8:gpus=2:h100", {**MPI, "constraint": "h100"}),
        ("-l mem=8gb", MPI),
        ("-l naccesspolicy=singlejob", {"exclusive": True}),
    ],
    "gridengine": [
        ("-l h_rt=01:00:00", {}),
        ("-q viz.q", {"queue": "viz.q"}),
        ("-A phys", {"account": "phys"}),
        ("-P cfd", {"project": "cfd"}),
        ("-pe mpi 16", {**MPI, "pe": "mpi"}),
        ("-l h_vmem=8gb", MPI),
        ("-l gpu=2", MPI),
        ("-l exclusive=true", {"exclusive": True}),
    ],
}  # fmt: skip
PREFIX = {
    "slurm": "#SBATCH", "slurmrest": "#SBATCH", "pbs": "#PBS", "torque": "#PBS", "gridengine": "#$",
}  # fmt: skip
OPTIONS = [
    "partition", "queue", "account", "project", "qos", "reservation", "constraint", "nodes",
    "tasks", "cpus", "memory", "gpus", "gres", "pe",
]  # fmt: skip


def directives(context: ScriptContext, scheduler: str, **options: object) -> list[str]:
    """The directive lines of a job, without what they begin with; all must be of one kind."""
    context = replace(context, scheduler=scheduler, options=options)  # type: ignore[arg-type]
    script = render(OURS, "command.sh", context).split("\n")
    every = [line for line in script if line.startswith(tuple(PREFIX.values()))]
    prefix = PREFIX.get(scheduler, "none")
    assert all(line.startswith(f"{prefix} ") for line in every), every
    return [line.removeprefix(f"{prefix} ") for line in every]


@pytest.mark.parametrize(
    ("scheduler", "line", "options"),
    [(scheduler, *case) for scheduler, cases in EXPECTED.items() for case in cases],
)  # fmt: skip
def test_an_option_becomes_the_directive_of_the_clusters_batch_system(
    context: ScriptContext, scheduler: str, line: str, options: dict[str, object]
) -> None:
    assert line in directives(context, scheduler, **options)


def test_slurms_commands_and_its_rest_interface_get_the_same_directives(
    context: ScriptContext,
) -> None:
    assert directives(context, "slurmrest", **MPI) == directives(context, "slurm", **MPI)


@pytest.mark.parametrize("scheduler", ["local", "lsf", ""])
def test_a_batch_system_that_has_no_directives_here_gets_none(
    context: ScriptContext, scheduler: str
) -> None:
    assert directives(context, scheduler, **MPI, partition="viz", queue="viz") == []


@pytest.mark.parametrize("scheduler", PREFIX)
def test_what_is_not_asked_for_is_not_written(context: ScriptContext, scheduler: str) -> None:
    lines = directives(replace(context, walltime=None), scheduler, exclusive=False)
    one_cpu = {"pbs": ["-l select=1:ncpus=1:mpiprocs=1"], "torque": ["-l nodes=1:ppn=1"]}
    assert lines == one_cpu.get(scheduler, [])


@pytest.mark.parametrize("scheduler", PREFIX)
@pytest.mark.parametrize(
    "value",
    [
        "viz\n#PBS -W block=true",
        "viz\n#SBATCH --uid=0",
        "viz\n#$ -S /bin/evil",
        "viz --wrap=id",
        "viz -o /etc/x",
        "viz;id",
        "viz\t-v LD_PRELOAD=/tmp/x",
        "'viz'",
        '"viz"',
        "$(id)",
        "`id`",
        "viz#",
        "viz\\",
        "viz&",
        "",
        *CONTROLS[:4],
    ],
    ids=ascii,
)
def test_no_option_can_hold_a_second_directive_or_a_second_word(
    context: ScriptContext, scheduler: str, value: str
) -> None:
    """Every option is tried; those that the batch system does not know write nothing at all."""
    none = directives(context, scheduler)
    for option in OPTIONS:
        try:
            lines = directives(context, scheduler, **{option: value})
        except TemplateError:
            continue
        assert lines == none, f"{option} took {value!r}"


@pytest.mark.parametrize(
    "line",
    [
        "#SBATCH --gres=gpu:{{ param.x | directive }}",
        "#SBATCH -p {{ param.x | directive }}",
        "#PBS -l select=1:mem={{ param.x | directive }}",
        "#PBS -v STEP={{ param.x | directive }}",
        "#$ -l gpu={{ param.x | directive }}",
    ],
)
@pytest.mark.parametrize(
    "value",
    [
        "1,license:matlab",
        "1gb:ngpus=8",
        "1gb+64:ncpus=64",
        "1,LD_PRELOAD=/tmp/x",
        "1=2",
        "-lselect",
        "--wrap",
        "(1)",
        "[0-9]",
        "1 2",
    ],
)
def test_a_users_value_is_one_item_and_never_an_option(
    made: Made, context: ScriptContext, line: str, value: str
) -> None:
    templates = made(f"#!/bin/bash\n{line}\n")
    with pytest.raises(BadParameter, match=r"The parameter x is .* directive can only hold"):
        render(templates, "t.sh", replace(context, parameters={"x": value}))
    good = render(templates, "t.sh", replace(context, parameters={"x": "a-1_2.h/3%j"}))
    assert line.replace("{{ param.x | directive }}", "a-1_2.h/3%j") in good


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({}, ["--gpus-per-node=1"]),
        ({"gpus": "h100:2"}, ["--gpus-per-node=h100:2"]),
        ({"gres": "gpu:1"}, ["--gres=gpu:1"]),
    ],
)
def test_the_template_for_gpus_asks_for_one_unless_it_is_told_otherwise(
    context: ScriptContext, options: dict[str, object], asked: list[str]
) -> None:
    context = replace(context, scheduler="slurm", options=options)  # type: ignore[arg-type]
    script = render(OURS, "egl.sh", context).split("\n")
    assert [line.removeprefix("#SBATCH ") for line in script if "gpu" in line and "#S" in line] == (
        asked
    )


@pytest.mark.parametrize(
    ("options", "both"),
    [
        ({"gpus": 2, "gres": "gpu:1"}, True),
        ({"gpus": 2, "gres": "tmpfs:1G,gpu:h100:1"}, True),
        ({"gpus": 2, "gres": "tmpfs:1G"}, False),
    ],
)
def test_gpus_are_asked_for_once(
    context: ScriptContext, options: dict[str, object], both: bool
) -> None:
    """Slurm 26.05: "--gpus-per-node and --gres=gpu are mutually exclusive." """
    context = replace(context, scheduler="slurmrest", options=options)  # type: ignore[arg-type]
    if not both:
        assert "--gres=tmpfs:1G" in render(OURS, "python.sh", context)
        return
    with pytest.raises(TemplateError, match=r"option gpus.*option gres.*say it once"):
        render(OURS, "python.sh", context)
