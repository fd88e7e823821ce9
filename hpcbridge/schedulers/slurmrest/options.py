"""What becomes of each sbatch option in a request to slurmrestd: sbatch(1), section OPTIONS.

Until v0.0.38 a request names sbatch's own options, and slurmrestd reads their values as sbatch
does. From v0.0.40 on it names the fields of Slurm's job description, so what sbatch makes of an
option is made here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from hpcbridge.schedulers.slurmrest.amounts import Fields, boxed, megabytes, minutes

Writer = Callable[[str], Fields]


class Takes(Enum):
    """Whether an option takes a value."""

    VALUE = auto()
    NOTHING = auto()
    #: Only after an equals sign.
    PERHAPS = auto()


@dataclass(frozen=True)
class Option:
    """``words`` writes the option for v0.0.36 to v0.0.38, ``typed`` for those from v0.0.40 on.

    None means that there is no way to say it. A writer raises :class:`ValueError`, with what is
    allowed, for a value that sbatch would not take.
    """

    words: Writer | None
    typed: Writer | None
    short: str = ""
    takes: Takes = Takes.VALUE


def _text(field: str) -> Writer:
    return lambda value: {field: value}


def _listed(field: str) -> Writer:
    # One element: a comma can be part of a node list, as in n[1,3].
    return lambda value: {field: [value]}


def _whole(field: str) -> Writer:
    def write(value: str) -> Fields:
        if not re.fullmatch(r"\d{1,9}", value):
            raise ValueError("allowed is a whole number")
        return {field: int(value)}

    return write


def _fixed(field: str, fixed: Any) -> Writer:
    return lambda _: {field: fixed}


def _boxed(field: str, convert: Callable[[str], int | None]) -> Writer:
    return lambda value: {field: boxed(convert(value))}


def _plain_minutes(field: str) -> Writer:
    # sbatch's own word for no limit is one that slurmrestd reads as well.
    return lambda value: {field: "UNLIMITED" if minutes(value) is None else minutes(value)}


def _devices(value: str) -> Fields:
    """``--gres=gpu:h100:2,shard:1`` as Slurm writes trackable resources."""
    names = [part.removeprefix("gres/").removeprefix("gres:") for part in value.split(",")]
    return {"tres_per_node": ",".join(f"gres/{name}" for name in names)}


def _gpus(field: str) -> Writer:
    return lambda value: {field: ",".join(f"gres/gpu:{part}" for part in value.split(","))}


def _gpus_per_task(value: str) -> Fields:
    return {
        "tres_per_task": ",".join(f"gres/gpu{_counted(part)}" for part in value.split(",")),
        "tres_bind": f"gres/gpu:per_task:{value.rpartition(':')[2]}",
    }


def _counted(gpus: str) -> str:
    """``h100:2`` as Slurm writes what each task has: ``:h100=2``."""
    kind, _, count = gpus.rpartition(":")
    return f":{kind}={count}" if kind else f"={count}"


def _memory_per_gpu(value: str) -> Fields:
    return {"memory_per_tres": f"gres/gpu:{megabytes(value)}"}


def _shared(value: str) -> Fields:
    kinds = {"": "none", "exclusive": "none", "user": "user", "mcs": "mcs"}
    if value.lower() not in kinds:
        raise ValueError("allowed are no value, user and mcs")
    return {"shared": [kinds[value.lower()]]}


def _environment(value: str) -> Fields:
    """``--export``: there is no environment of a submitting shell, so only what it sets counts."""
    if value.upper() in ("NONE", "NIL"):
        return {"environment": {"SLURM_GET_USER_ENV": "1"}}
    named = [part.partition("=") for part in value.split(",")]
    return {"environment": {name: text for name, given, text in named if given}}


def _cpus_per_task(value: str) -> Fields:
    return _whole("cpus_per_task")(value) | {"tres_per_task": f"cpu={int(value)}"}


def _signal(value: str) -> Fields:
    """``[B:]TERM[@60]``."""
    match = re.fullmatch(r"(B:)?([A-Za-z0-9]{1,12})(?:@(\d{1,5}))?", value)
    if not match:
        raise ValueError("allowed is [B:]SIGNAL[@SECONDS]")
    return {
        "kill_warning_signal": match[2],
        "kill_warning_delay": boxed(int(match[3] or 60)),
        "kill_warning_flags": ["BATCH_JOB"] if match[1] else [],
    }


def _plain_signal(value: str) -> Fields:
    _signal(value)
    if value.startswith("B:"):
        raise ValueError("slurmrestd refuses B: in this version")
    return {"signal": value}


def _same(field: str, short: str = "") -> Option:
    return Option(_text(field), _text(field), short)


def _number(field: str, short: str = "") -> Option:
    return Option(_whole(field), _whole(field), short)


def _nothing(_: str) -> Fields:
    return {}


def _dropped(short: str = "", takes: Takes = Takes.VALUE) -> Option:
    """What hpcbridge sets itself, or what only concerns the command sbatch."""
    return Option(_nothing, _nothing, short, takes)


_NOTHING = Takes.NOTHING

OPTIONS = {
    "account": _same("account", "A"),
    "comment": _same("comment"),
    "constraint": _same("constraints", "C"),
    "contiguous": Option(None, _fixed("contiguous", True), takes=_NOTHING),
    "cores-per-socket": Option(_whole("cores_per_socket"), None),
    "cpus-per-gpu": Option(_text("cpus_per_gpu"), _gpus("cpus_per_tres")),
    "cpus-per-task": Option(_whole("cpus_per_task"), _cpus_per_task, "c"),
    "dependency": _same("dependency", "d"),
    "exclude": Option(_text("exclude_nodes"), _listed("excluded_nodes"), "x"),
    "exclusive": Option(
        lambda value: {"exclusive": value or "exclusive"}, _shared, takes=Takes.PERHAPS
    ),
    "export": Option(_environment, _environment),
    "get-user-env": Option(
        lambda _: _environment("NONE"), lambda _: _environment("NONE"), takes=Takes.PERHAPS
    ),
    "gpus": Option(_text("gpus"), _gpus("tres_per_job"), "G"),
    "gpus-per-node": Option(_text("gpus_per_node"), _gpus("tres_per_node")),
    "gpus-per-socket": Option(_text("gpus_per_socket"), _gpus("tres_per_socket")),
    "gpus-per-task": Option(_text("gpus_per_task"), _gpus_per_task),
    "gres": Option(_text("gres"), _devices),
    "hold": Option(_fixed("hold", True), _fixed("hold", True), "H", _NOTHING),
    "licenses": _same("licenses", "L"),
    "mem": Option(_text("memory_per_node"), _boxed("memory_per_node", megabytes)),
    "mem-per-cpu": Option(_text("memory_per_cpu"), _boxed("memory_per_cpu", megabytes)),
    "mem-per-gpu": Option(_text("memory_per_gpu"), _memory_per_gpu),
    "mincpus": _number("minimum_cpus_per_node"),
    "nice": _number("nice"),
    "nodelist": Option(_text("nodelist"), _listed("required_nodes"), "w"),
    "nodes": _same("nodes", "N"),
    "ntasks": _number("tasks", "n"),
    "ntasks-per-core": _number("tasks_per_core"),
    "ntasks-per-node": _number("tasks_per_node"),
    "ntasks-per-socket": _number("tasks_per_socket"),
    "oversubscribe": Option(None, _fixed("shared", ["oversubscribe"]), "s", _NOTHING),
    "partition": _same("partition", "p"),
    "prefer": Option(None, _text("prefer")),
    "qos": _same("qos", "q"),
    "reservation": _same("reservation"),
    "signal": Option(_plain_signal, _signal),
    "sockets-per-node": _number("sockets_per_node"),
    "threads-per-core": _number("threads_per_core"),
    "time": Option(_plain_minutes("time_limit"), _boxed("time_limit", minutes), "t"),
    "time-min": Option(_plain_minutes("time_minimum"), _boxed("time_minimum", minutes)),
    "tmp": Option(
        _text("temporary_disk_per_node"),
        lambda value: {"temporary_disk_per_node": megabytes(value)},
    ),
    "wckey": _same("wckey"),
    "chdir": _dropped("D"),
    "error": _dropped("e"),
    "input": _dropped("i"),
    "job-name": _dropped("J"),
    "no-requeue": _dropped(takes=_NOTHING),
    "open-mode": _dropped(),
    "output": _dropped("o"),
    "parsable": _dropped(takes=_NOTHING),
    "quiet": _dropped("Q", _NOTHING),
    "requeue": _dropped(takes=_NOTHING),
    "verbose": _dropped("v", _NOTHING),
}
"""By their long names. What is missing cannot be said to slurmrestd, or makes no sense here."""

DROPPED = {name for name, option in OPTIONS.items() if option.words is _nothing}
"""Those of which no request says anything."""

VARIABLES = {
    "cpus-per-gpu": "SLURM_CPUS_PER_GPU",
    "cpus-per-task": "SLURM_CPUS_PER_TASK",
    "gpus": "SLURM_GPUS",
    "gpus-per-node": "SLURM_GPUS_PER_NODE",
    "gpus-per-socket": "SLURM_GPUS_PER_SOCKET",
    "gpus-per-task": "SLURM_GPUS_PER_TASK",
    "mem-per-gpu": "SLURM_MEM_PER_GPU",
    "ntasks-per-core": "SLURM_NTASKS_PER_CORE",
    "ntasks-per-node": "SLURM_NTASKS_PER_NODE",
    "ntasks-per-socket": "SLURM_NTASKS_PER_SOCKET",
    "threads-per-core": "SLURM_THREADS_PER_CORE",
}
"""What sbatch tells srun inside the job by its environment: sbatch(1), OUTPUT ENVIRONMENT."""

SHORT = {option.short: name for name, option in OPTIONS.items() if option.short}
