"""A control group (cgroups(7), version 2) for each job: no process leaves it by itself.

It has no controllers: it only tells which processes are the job's, whatever their environment,
session and parent are, and ends them all at once. Where the service may make none, it does without.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def place() -> Path | None:
    """Where groups can be made: the service's own; None where it may not.

    systemd gives it to the service with ``Delegate=yes`` (systemd.resource-control(5)).
    """
    try:
        own = Path("/proc/self/cgroup").read_text().splitlines()
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    ways = [line.removeprefix("0::/") for line in own if line.startswith("0::/")]
    roots = [line.split()[4] for line in mounts if " - cgroup2 " in line]
    if not ways or not roots:
        return None
    found = Path(roots[0], ways[0])
    able = os.access(found, os.W_OK | os.X_OK) and os.access(found / "cgroup.procs", os.W_OK)
    return found if able else None


def make(name: str) -> str:
    """Make the group of a job; "" where there can be none."""
    if (above := place()) is None:
        return ""
    group = above / f"hpcbridge-{name}"
    try:
        group.mkdir()
    except FileExistsError:
        pass  # the service died when it had made it
    except OSError:
        return ""
    return str(group)


def members(group: str) -> set[int]:
    """The live processes in it and in groups that they made below it."""
    found: set[int] = set()
    for each in _tree(group):
        with contextlib.suppress(OSError, ValueError):
            found |= {int(pid) for pid in (each / "cgroup.procs").read_text().split()}
    return found


def kill(group: str) -> None:
    """SIGKILL to all of them at once, those included that are made meanwhile (Linux 5.14)."""
    if group:
        with contextlib.suppress(OSError):
            Path(group, "cgroup.kill").write_text("1")


def remove(group: str) -> None:
    """Remove an empty group; one that is not is left."""
    with contextlib.suppress(OSError):
        for each in _tree(group):
            each.rmdir()


def _tree(group: str) -> Iterator[Path]:
    """The group and those below it, the deepest first."""
    if group:
        for path, _, _ in os.walk(group, topdown=False):
            yield Path(path)
