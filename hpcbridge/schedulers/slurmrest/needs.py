"""What a job needs on each node, as far as its directives tell: sbatch(1), section OPTIONS."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from hpcbridge.schedulers.slurmrest.amounts import megabytes, minutes
from hpcbridge.schedulers.slurmrest.options import DROPPED

# What changes nothing about where and when a job can start.
_ASIDE = {
    "account",
    "comment",
    "export",
    "get-user-env",
    "nice",
    "partition",
    "qos",
    "signal",
    "time-min",
    "wckey",
} | DROPPED


@dataclass(frozen=True)
class Needs:
    """``cpus``, ``memory`` (in MB, None for the site's default) and ``gpus`` are those of a node.

    ``feature`` is one that nodes must have, "" for none. ``whole`` is for nodes on which nothing
    else runs. ``minutes`` is None for the partition's default.
    """

    nodes: int = 1
    cpus: int = 1
    memory: int | None = None
    gpus: int = 0
    gpu_kind: str = ""
    feature: str = ""
    whole: bool = False
    minutes: int | None = None


def needs(given: Mapping[str, str], walltime: int | None) -> Needs | None:
    """What a job with these directives needs; None where that cannot be told for certain.

    ``walltime``, in seconds, counts more than the directive for it.
    """
    left = {name: value for name, value in given.items() if name not in _ASIDE}
    limit = math.ceil(walltime / 60) if walltime else minutes(left.get("time", "UNLIMITED"))
    if limit is not None:
        left.pop("time", None)
    try:
        nodes, cpus = _counted(left)
        memory = _memory(left, cpus)
        kind, gpus = _gpus(left, nodes)
    except ValueError:
        return None
    whole = left.pop("exclusive", None) is not None or memory == 0
    feature = left.pop("constraint", "")
    if left or not re.fullmatch(r"[\w.+-]*", feature):
        return None
    return Needs(nodes, cpus, memory or None, gpus, kind, feature, whole, limit)


def _counted(left: dict[str, str]) -> tuple[int, int]:
    """Nodes, and CPUs of each. Where tasks may spread they are taken to be on as few as is said."""
    nodes = _whole(re.sub(r"-\d+$", "", left.pop("nodes", "1")))
    tasks, each = left.pop("ntasks", None), left.pop("ntasks-per-node", None)
    if each is None:
        on_each = math.ceil(_whole(tasks or "1") / nodes)
    else:
        on_each = _whole(each)
        nodes = max(nodes, math.ceil(_whole(tasks or "1") / on_each))
    return nodes, on_each * _whole(left.pop("cpus-per-task", "1"))


def _memory(left: dict[str, str], cpus: int) -> int | None:
    """0 is all that a node has."""
    per_node, per_cpu = left.pop("mem", None), left.pop("mem-per-cpu", None)
    if per_node is not None and per_cpu is not None:
        raise ValueError
    if per_cpu is not None:
        return megabytes(per_cpu) * cpus
    return None if per_node is None else megabytes(per_node)


def _gpus(left: dict[str, str], nodes: int) -> tuple[str, int]:
    """The kind of GPUs, "" for any, and how many on each node."""
    names = ("gpus-per-node", "gpus") if nodes == 1 else ("gpus-per-node",)
    said = [left.pop("gres", ""), *(f"gpu:{left.pop(name)}" for name in names if name in left)]
    if not any(said):
        return "", 0
    # Of several, nothing tells whether they add up.
    text = ",".join(filter(None, said))
    match = re.fullmatch(r"(?:gres[:/])?gpu(?::([A-Za-z][\w.-]*))?(?::(\d{1,4}))?", text)
    if not match:
        raise ValueError
    return match[1] or "", int(match[2] or 1)


def _whole(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,6}", text):
        raise ValueError
    return int(text)
