"""The test cluster for many small jobs, the configuration for it, and the end of both."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.lab import Lab, lab
from benchmarks.waiting import until

NAMED = Path(__file__).parent.parent / "apps/named.pl"
GRACE = 10
"""Seconds; ``grace`` of the cluster."""
SHARED = "OverSubscribe=FORCE:40"
"""For the partition: the nodes claim eight cores each, and the small jobs need none."""


@contextlib.contextmanager
def place(*, crowded: bool = False) -> Iterator[Lab]:
    """The test cluster with the application; ``crowded`` lets hundreds of jobs run at once."""
    with lab() as site:
        site.install(NAMED)
        site.idle()
        try:
            with _crowded(site) if crowded else contextlib.nullcontext():
                try:
                    yield site
                finally:
                    clear(site)
        finally:
            shutil.rmtree(site.sessions, ignore_errors=True)


@contextlib.contextmanager
def _crowded(site: Lab) -> Iterator[None]:
    # A later `testbed up` repairs the file should this process be killed.
    path = site.site.layout.state / "slurm/slurm.conf"
    before = path.read_text()
    path.write_text(before.replace("PartitionName=viz ", f"PartitionName=viz {SHARED} ", 1))
    try:
        site.site.call("scontrol", "reconfigure")
        yield
    finally:
        path.write_text(before)
        site.site.call("scontrol", "reconfigure")


def clear(site: Lab) -> None:
    """End all jobs of the cluster's user."""
    site.site.call("scancel", f"--user={site.site.user}", timeout=60)
    until(lambda: not site.site.jobs(), "the jobs have ended", limit=180, pause=0.5)


def config(site: Lab, **application: Any) -> dict[str, Any]:
    """A configuration with the application ``named``; ``application`` changes its settings."""
    settings = site.settings()
    settings["options"] |= {"memory": "1M"}
    settings["grace"] = GRACE
    program = {"program": f"{site.inside}/{NAMED.name}"}
    named = {"cluster": "lab", "template": "command.sh", "wait": 300, "properties": program}
    return {
        "clusters": {"lab": settings},
        "applications": {"named": named | application},
        "limits": {"sessions": 5000},
    }
