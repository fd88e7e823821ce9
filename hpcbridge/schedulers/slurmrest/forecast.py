"""When Slurm would start a job that nobody submits, from what slurmrestd tells of its resources.

REST has no ``sbatch --test-only``. So only what is certain is told: that a partition starts
nothing, or that a job would start at once, because some nodes have room for it and nobody waits for
them. Everything else is not known.
"""

import dataclasses
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from hpcbridge.config.slurmrestversions import is_typed
from hpcbridge.errors import JobRejected, UnexpectedReply
from hpcbridge.schedulers.base import Forecast, JobRequest, JobState
from hpcbridge.schedulers.slurm.reasons import set_aside
from hpcbridge.schedulers.slurmrest.client import Client
from hpcbridge.schedulers.slurmrest.description import submission
from hpcbridge.schedulers.slurmrest.directives import directives
from hpcbridge.schedulers.slurmrest.jobs import info
from hpcbridge.schedulers.slurmrest.needs import Needs, needs
from hpcbridge.schedulers.slurmrest.replies import Answer, Job
from hpcbridge.schedulers.slurmrest.resources import (
    Node,
    Nodes,
    Partition,
    Partitions,
    Reservations,
)

A = TypeVar("A", bound=Answer)
Jobs = Callable[[], Awaitable[tuple[list[Job], list[Job]]]]

SETTLED = 60.0
"""Seconds after its begin by which the nodes of a reservation are marked as reserved."""


async def ask(client: Client, request: JobRequest, jobs: Jobs) -> Forecast:
    """The forecast, by as few questions as it takes.

    ``jobs`` asks for the jobs of this account, and those of everybody else. Raises
    :class:`~hpcbridge.errors.JobRejected` where a submission would be refused.
    """
    version = await client.version()
    submission(request, version, {})
    given = directives(request.text)
    # From v0.0.40 on hidden partitions have to be asked for.
    path = f"slurm/{version}/partitions{'/?flags=ALL' if is_typed(version) else ''}"
    listed = await _listed(client, path, Partitions)
    partitions = _chosen(listed.partitions, given.get("partition", ""))
    if not any(each.states for each in partitions):
        return Forecast()
    if all(each.closed for each in partitions):
        return Forecast(closed=partitions[0].closed)
    nodes = (await _listed(client, f"slurm/{version}/nodes", Nodes)).nodes
    shut = [each.closed or _deserted(each, nodes) for each in partitions]
    if all(shut):
        return Forecast(closed=shut[0])
    if (wanted := needs(given, request.walltime)) is None:
        return Forecast()
    rooms = _rooms(wanted, given, partitions, nodes)
    if not rooms or not (rooms := _uncontested(rooms, nodes, *await jobs())):
        return Forecast()
    path = f"slurm/{version}/reservations"
    reservations = (await _listed(client, path, Reservations)).reservations
    if any(_in_the_way(each.start, wanted) for each in reservations):
        return Forecast()
    return Forecast(0.0, max(rooms.values()))


async def _listed(client: Client, path: str, model: type[A]) -> A:
    reply = await client.ask("GET", path, model=model)
    if not isinstance(reply.answer, model) or reply.answer.errors:
        what = model.__name__.lower()
        raise UnexpectedReply(f"slurmrestd did not list {what}: {reply.words}")
    return reply.answer


def _chosen(partitions: Sequence[Partition], wanted: str) -> list[Partition]:
    """The partitions in which the job may run; none where that is not told."""
    if not wanted:
        return [each for each in partitions if "default" in each.flags]
    known = {each.name: each for each in partitions}
    names = wanted.split(",")
    if known and (missing := [name for name in names if name not in known]):
        raise JobRejected(
            f"Slurm would refuse the job: it shows this account no partition {missing[0][:60]!r}."
        )
    return [known[name] for name in names if name in known]


def _deserted(partition: Partition, nodes: Sequence[Node]) -> str:
    its = [node for node in nodes if partition.name in node.partitions]
    if its and all(node.is_gone for node in its):
        return f"all nodes of its partition {partition.name} are down or drained"
    return ""


def _rooms(
    wanted: Needs, given: Mapping[str, str], partitions: Sequence[Partition], nodes: Sequence[Node]
) -> dict[str, int]:
    """How many such jobs there is room for, by the partitions that have room and let them in."""
    found = {}
    for each in partitions:
        may = each.is_up and each.admits(given.get("account", ""), given.get("qos", ""))
        if may and _within(wanted, each) and (count := room(wanted, each, nodes)):
            found[each.name] = count
    return found


def _within(wanted: Needs, partition: Partition) -> bool:
    """Whether the job keeps the partition's limits."""
    memory = math.inf if wanted.memory is None else wanted.memory
    amounts = (
        (wanted.nodes, partition.nodes),
        (wanted.cpus, partition.cpus),
        (wanted.minutes or 0, partition.minutes),
        (memory, partition.memory),
        (memory / wanted.cpus, partition.cpu_memory),
    )
    if any(limit is not None and amount > limit for amount, limit in amounts):
        return False
    return wanted.nodes >= (partition.least_nodes or 1)


def room(wanted: Needs, partition: Partition, nodes: Iterable[Node]) -> int:
    """How many such jobs would start at once on the partition's nodes, at most."""
    if partition.gives_whole_nodes:
        wanted = dataclasses.replace(wanted, whole=True)
    slots = [_slots(wanted, node) for node in nodes if partition.name in node.partitions]
    enough = sum(count > 0 for count in slots) >= wanted.nodes
    return sum(slots) // wanted.nodes if enough else 0


def _slots(wanted: Needs, node: Node) -> int:
    """How many jobs can have their part of this node."""
    cpus, memory = node.idle_cpus, node.idle_memory
    fits = node.is_usable and (not wanted.feature or wanted.feature in node.features)
    if not fits or cpus is None or memory is None:
        return 0
    # The site's default memory is not told; it may be all that a node has.
    if node.cpus_used and (wanted.whole or (wanted.memory is None and node.memory_used)):
        return 0
    # A core is given away with all its threads.
    threads = node.threads or 1
    counts = [cpus // (math.ceil(wanted.cpus / threads) * threads)]
    if wanted.memory:
        counts.append(memory // wanted.memory)
    if wanted.gpus:
        counts.append(node.idle_gpus(wanted.gpu_kind) // wanted.gpus)
    return max(0, min([*counts, 1] if wanted.whole else counts))


def _uncontested(
    rooms: dict[str, int], nodes: Sequence[Node], mine: list[Job], others: list[Job]
) -> dict[str, int]:
    """The rooms that certainly nobody waits for.

    Where others' jobs are hidden (slurm.conf(5), PrivateData), nobody knows who waits: so it is
    when none is seen, and more is in use than this account has.
    """
    running = sum(job.cpus or 0 for job in mine if info(job).state == JobState.RUNNING)
    if not others and sum(node.cpus_used or 0 for node in nodes) > running:
        return {}
    waiting = [job for job in (*mine, *others) if "PENDING" in job.states]
    awaited = {
        name for job in waiting if not set_aside(job.why) for name in job.partition.split(",")
    }
    for node in nodes:
        if awaited.intersection(node.partitions):
            rooms = {name: count for name, count in rooms.items() if name not in node.partitions}
    return rooms


def _in_the_way(start: int | None, wanted: Needs) -> bool:
    """Whether a reservation that begins then, in seconds since the epoch, may keep the job from
    starting. Nodes that are reserved already are marked as such."""
    now = time.time()
    end = math.inf if wanted.minutes is None else now + 60 * wanted.minutes
    return start is None or now - SETTLED < start < end
