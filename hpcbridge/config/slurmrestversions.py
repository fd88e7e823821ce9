"""The versions of slurmrestd's interface, and what differs between them.

Slurm 22.05 offers v0.0.36 to v0.0.38, 24.11 v0.0.40 to v0.0.42, 26.05 v0.0.42 to v0.0.45; each
release drops the oldest and adds a new one (https://slurm.schedmd.com/rest.html, "Plugin life
cycle"). From v0.0.45 on the ping has ``responding`` alone, and partitions tell in ``partition``
whether jobs share nodes.
"""

import json
import re

KNOWN = (
    "v0.0.46",
    "v0.0.45",
    "v0.0.44",
    "v0.0.43",
    "v0.0.42",
    "v0.0.41",
    "v0.0.40",
    "v0.0.38",
    "v0.0.37",
    "v0.0.36",
)
"""The versions that this adapter knows, the newest first: v0.0.46 by its description (Slurm 26.11),
the others from slurmrestd itself."""

_OFFERED = re.compile(r"/slurm/(v\d+\.\d+\.\d+)/")


def is_typed(version: str) -> bool:
    """Whether a job is described by Slurm's own fields (from v0.0.40 on), or by sbatch's options.

    A version that is newer than any known one is taken for one like the newest.
    """
    return _number(version) >= 40


def is_speakable(version: str) -> bool:
    """Whether the version is known, or so new that it can only be tried."""
    return version in KNOWN or _number(version) > _number(KNOWN[0])


def offered(specification: str) -> list[str]:
    """The versions that an OpenAPI document tells of, in order."""
    found = set(_OFFERED.findall(specification.replace("\\/", "/")))
    return sorted(found, key=_number)


def deprecated(specification: str) -> list[str]:
    """The versions that an OpenAPI document calls deprecated, in order: the next release of Slurm
    may be without them."""
    try:
        paths = json.loads(specification)["paths"]
        old = [
            path
            for path, methods in paths.items()
            if methods and all(each.get("deprecated") for each in methods.values())
        ]
    except (ValueError, KeyError, AttributeError, TypeError):
        return []
    return offered(" ".join(old))


def _number(version: str) -> int:
    return int(version.rpartition(".")[2])
