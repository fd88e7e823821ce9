"""When PBS would start a job that nobody submits, by what it says of queues and nodes.

Pure functions of what ``qstat -B``, ``qstat -Q`` (pbs_server_attributes(7B),
pbs_queue_attributes(7B)) and ``pbsnodes -av`` (pbs_node_attributes(7B)) tell. Whatever may decide
that is not understood here makes a forecast without a start.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from hpcbridge.errors import JobRejected
from hpcbridge.schedulers.base import Forecast, JobRequest
from hpcbridge.schedulers.pbs.directives import OF_ONE_CHUNK, PLACE, Chunks, Directives, read
from hpcbridge.schedulers.pbs.jobs import Attributes
from hpcbridge.schedulers.pbs.readers import Jobs

# A node in one of these states starts no job until somebody or something brings it back.
OUT = frozenset({"down", "offline", "stale", "state-unknown", "unresolvable", "maintenance"})
RESERVED = re.compile(r"[MRS]\d+")
"""Queues of reservations, which have nodes and hours of their own."""

_UNITS = {"": 1, "kb": 2**10, "mb": 2**20, "gb": 2**30, "tb": 2**40, "pb": 2**50, "b": 1}
# Resources of chunks that tell how to use a node, and take nothing of it.
_USES = frozenset({"mpiprocs", "ompthreads"})


@dataclass(frozen=True)
class Wanted:
    """What is to be placed on the nodes of ``queue``, in which ``waiting`` jobs are already.

    ``most`` is how many such jobs the limits of the queue and of the server leave room for.
    """

    queue: str
    partition: str
    chunks: Chunks
    waiting: int
    most: float


def queue_of(asked: Directives | None, server: Attributes) -> str:
    """The queue that a job gets into; "" where that is not known."""
    name = (asked.queue or server.get("default_queue", "")) if asked else ""
    return "" if "@" in name or RESERVED.fullmatch(name) else name


def closed(name: str, queue: Attributes) -> str:
    """Why jobs of this queue are not taken or not started, if so."""
    for attribute, word in (("enabled", "disabled"), ("started", "stopped")):
        if queue.get(attribute) == "False":
            return f"its queue {name} is {word}"
    return ""


def by_queue(request: JobRequest, server: Attributes, queues: Jobs) -> Wanted | Forecast:
    """What to look for on the nodes, or what there is to say without them.

    Raises :class:`~hpcbridge.errors.JobRejected` for a queue that is not there, or whose limits
    the job exceeds.
    """
    asked = read(request.text)
    name = queue_of(asked, server)
    if asked is None or not name:
        return Forecast()
    queue = queues.get(name)
    if queue is None:
        raise JobRejected(f"PBS would refuse the job: there is no queue {name}.")
    if why := closed(name, queue):
        return Forecast(closed=why)
    # A queue with a partition has a scheduler of its own.
    if server.get("scheduling") == "False" and "partition" not in queue:
        return Forecast(closed="PBS' scheduling is turned off")
    counts = re.findall(r"\b(?:Queued|Transit):(\d{1,9})\b", queue.get("state_count", ""))
    executes = queue.get("queue_type") == "Execution" and queue.get("started") == "True"
    chunks = _with_defaults(asked.chunks, server, queue) if asked.chunks else None
    if chunks is None or not executes or len(counts) != 2:
        return Forecast()
    walltime = str(request.walltime or asked.walltime)
    _check(name, {**server, **queue}, chunks, {"walltime": walltime})
    most = min(_left(chunks, server), _left(chunks, queue))
    return Wanted(name, queue.get("partition", ""), chunks, sum(map(int, counts)), most)


def _with_defaults(chunks: Chunks, server: Attributes, queue: Attributes) -> Chunks | None:
    """With the queue's defaults, and the server's where the queue has none."""
    said = {**server, **queue}
    each, job = _under("default_chunk.", said), _under("resources_default.", said)
    if not chunks.given:
        if job.keys() & {"select", "nodes"}:
            return None
        each |= {name: value for name, value in job.items() if name in OF_ONE_CHUNK}
    place = chunks.place or job.get("place", "")
    if not PLACE.fullmatch(place):
        return None
    return replace(chunks, each=each | dict(chunks.each), place=place)


def _under(prefix: str, attributes: Attributes) -> dict[str, str]:
    return {k.removeprefix(prefix): v for k, v in attributes.items() if k.startswith(prefix)}


def _check(queue: str, said: Attributes, chunks: Chunks, job: Mapping[str, str]) -> None:
    for name, limit in _under("resources_max.", said).items():
        amount, most = number(chunks.each.get(name, "") or job.get(name, "")), number(limit)
        total = amount and amount * (1 if name in job else chunks.count)
        if total is not None and most is not None and total > most:
            raise JobRejected(
                f"PBS would refuse the job: queue {queue} allows no more than {limit} of {name}."
            )


def _left(chunks: Chunks, said: Attributes) -> float:
    limits = _under("resources_available.", said).keys() & chunks.each.keys()
    return min((_times(n, chunks.each[n], said) // chunks.count for n in limits), default=math.inf)


def by_nodes(wanted: Wanted, nodes: Jobs) -> Forecast:
    """How many such jobs the nodes have room for. With room, and nobody before it, a job starts."""
    theirs = _nodes_of(wanted, by_host(nodes.values()))
    if theirs and all(OUT & set(_words(node)) for node in theirs):
        return Forecast(closed=f"none of the nodes of its queue {wanted.queue} is up")
    room = int(min(wanted.most, _room(wanted.chunks, theirs)))
    return Forecast(0.0 if room and not wanted.waiting else None, room)


def by_host(vnodes: Iterable[Attributes]) -> list[Attributes]:
    """Hosts, with what their vnodes have in all: a chunk can be put on several of one host.

    pbsnodes merges vnodes itself where it is not asked for each, and then calls ``<various>`` what
    is not the same, and full or offline ones free. Here only those count that could start a job,
    unless none could.
    """
    hosts: dict[tuple[str, ...], list[Attributes]] = {}
    for each in vnodes:
        host = each.get("resources_available.host", "") or each.get("Mom", "")
        key = (host or str(len(hosts)), each.get("queue", ""), each.get("partition", ""))
        hosts.setdefault(key, []).append(each)
    return [_together(each) for each in hosts.values()]


def _together(vnodes: list[Attributes]) -> Attributes:
    able = [each for each in vnodes if _words(each) == ["free"] and not each.get("resv")] or vnodes
    first, *others = able
    whole = dict(first)
    for each in others:
        for name, value in each.items():
            if name.startswith(("resources_available.", "resources_assigned.")):
                whole[name] = _sum(whole.get(name, ""), value)
        if each.get("jobs"):
            whole["jobs"] = each["jobs"]
    return whole


def _sum(one: str, other: str) -> str:
    """Two amounts, in bytes where they are sizes; of what is no amount, both."""
    if not one or (one == other and not one[:1].isdigit()):
        return other
    amounts = number(one), number(other)
    if None in amounts:
        return f"{one},{other}"
    unit = "b" if "b" in f"{one}{other}".lower() else ""
    return f"{sum(each or 0 for each in amounts):.0f}{unit}"


def _nodes_of(wanted: Wanted, nodes: Iterable[Attributes]) -> list[Attributes]:
    """A queue has the nodes that name it, or else those that name none."""
    same = [node for node in nodes if node.get("partition", "") == wanted.partition]
    own = [node for node in same if node.get("queue") == wanted.queue]
    return own or [node for node in same if "queue" not in node]


def _words(node: Attributes) -> list[str]:
    return [word.strip().lower() for word in node.get("state", "").split(",")]


def _room(chunks: Chunks, nodes: Iterable[Attributes]) -> int:
    fits = [_fits(chunks, node) for node in nodes]
    if chunks.place.startswith("scatter") and chunks.count > 1:
        return sum(each > 0 for each in fits) // chunks.count
    if chunks.place.startswith("pack"):
        return sum(each // chunks.count for each in fits)
    return sum(fits) // chunks.count


def _fits(chunks: Chunks, node: Attributes) -> int:
    """How many of the chunks the node can take now. A reservation may be about to need it."""
    if _words(node) != ["free"] or node.get("resv"):
        return 0
    numbers = [_times(n, value, node) for n, value in chunks.each.items() if n not in _USES]
    most = min(numbers, default=math.inf)
    if most == math.inf:
        return 0  # of a chunk that takes nothing it is not known what it takes
    sharing = node.get("sharing", "")
    alone = "excl" in chunks.place and sharing != "ignore_excl"
    if alone or sharing.startswith(("default_excl", "force_excl")):
        used = [number(value) for value in _under("resources_assigned.", node).values()]
        return 0 if any(each != 0 for each in used) or node.get("jobs") else min(int(most), 1)
    return int(most)


def _times(name: str, value: str, node: Attributes) -> float:
    """How often a node, or whatever has resources, has this much left; for ever where it fits."""
    have = node.get(f"resources_available.{name}", "")
    wanted, total = number(value), number(have)
    used = number(node.get(f"resources_assigned.{name}", "0"))
    if wanted is None or total is None or used is None:
        same = value.casefold() in [each.strip().casefold() for each in have.split(",")]
        return math.inf if same else 0
    return max(0, total - used) // wanted if wanted else math.inf


def number(text: str) -> float | None:
    """``8``, ``16gb`` in bytes, ``01:00:00`` in seconds; None for anything else."""
    if re.fullmatch(r"\d{1,6}(:\d{1,2}){1,2}", text):
        seconds = 0
        for part in text.split(":"):
            seconds = seconds * 60 + int(part)
        return seconds
    size = re.fullmatch(r"(\d{1,18})([kmgtp]?b|)", text.lower())
    return int(size[1]) * _UNITS[size[2]] if size else None
