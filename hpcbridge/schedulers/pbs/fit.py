"""Whether a job that waits fits on any host at all, whatever runs there now.

PBS itself compares with what all nodes have in all, so ten CPUs of one chunk wait for ever on nodes
of eight and four. ``Resource_List.select`` is that of pbs_resources(7B).
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from hpcbridge.schedulers.pbs.comments import amount
from hpcbridge.schedulers.pbs.forecast import number
from hpcbridge.schedulers.pbs.jobs import Attributes

_PREFIX = "resources_available."

# What one host has in all: numbers, in bytes where they are sizes, and how they are written.
Host = Mapping[str, float]


def hosts(vnodes: Iterable[Attributes]) -> list[tuple[Attributes, Host]]:
    """What the vnodes of a host have in all, those included that are down.

    Of hosts that have the same there is one: each job that waits is compared with each, and a
    cluster of thousands has few kinds.
    """
    found: dict[str, tuple[Attributes, dict[str, float]]] = {}
    for each in vnodes:
        name = each.get(f"{_PREFIX}host", "") or each.get("Mom", "") or str(len(found))
        _, has = found.setdefault(f"{name} {each.get('queue', '')}", (each, {}))
        for key, value in each.items():
            size = number(value) if key.startswith(_PREFIX) else None
            if size is not None:
                resource = key.removeprefix(_PREFIX)
                has[resource] = has.get(resource, 0) + size
    kinds = {
        (node.get("queue"), tuple(sorted(has.items()))): (node, has) for node, has in found.values()
    }
    return list(kinds.values())


def too_big(job: Attributes, known: Sequence[tuple[Attributes, Host]]) -> str:
    """What no host of the job's queue has, as a phrase; "" where one has it, or nobody knows."""
    own = [has for node, has in known if node.get("queue") == job.get("queue")]
    able = own or [has for node, has in known if "queue" not in node]
    for chunk in job.get("Resource_List.select", "").split("+"):
        wanted = {}
        for item in chunk.split(":"):
            name, _, value = item.partition("=")
            size = number(value)
            # What no host is said to have is no number of theirs.
            if size is not None and any(name in has for has in able):
                wanted[name] = (size, value)
        lacking = [
            {name for name, (size, _) in wanted.items() if has.get(name, 0) < size} for has in able
        ]
        if not wanted or not lacking or not all(lacking):
            continue
        most = {name: max(has.get(name, 0) for has in able) for name in wanted}
        for name, (size, value) in wanted.items():
            if most[name] < size:
                words = amount(name, value)
                return f"a node with {words}, and the largest has {_written(value, most[name])}"
        words = " and ".join(amount(name, value) for name, (_, value) in wanted.items())
        return f"a node with {words}, and none has all of it"
    return ""


def _written(like: str, most: float) -> str:
    """The number in the unit of ``like``."""
    unit = re.sub(r"[\d.]", "", like)
    size = number(f"1{unit}") or 1
    return f"{most / size:g}{f' {unit.upper()}' if unit else ''}"
