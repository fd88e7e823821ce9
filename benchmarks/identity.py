"""What it costs that a job is its user's own: each way beside the service's own account."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli_w

from benchmarks.bridge import Bridge
from benchmarks.figures import Run, Spread, interleave, spread
from benchmarks.lab import Lab, lab
from benchmarks.slurm_launch import SLURM_INTERVAL
from benchmarks.table import Row, Section, total_and_parts
from testbed.handle import Testbed
from tests.cluster import people

NAME = "identity"
USER = "alice"
HOW = (
    "POST to 200 for a job of Alice's on the test cluster, over SSH: as the service's own account "
    "(whose login is hers), by sudo on the login host, and by certificates, with connections that "
    "an earlier session left (kept), or with new ones (new): to the node, and for certificates to "
    "the login host as well, where the service's own account always has one. 'more' is what a way "
    "takes more than the service's own account with the same, in each round, without the wait for "
    "Slurm, which starts jobs on a beat."
)
SLURMS = "queue and start"


def measure(runs: int, folder: Path) -> Section:
    """All ways side by side, one job at a time."""
    with lab() as site, contextlib.ExitStack() as stack:
        ways = {
            "service, kept": _service(site.site, _made(folder / "service")),
            "service, new": _service(site.site, _made(folder / "service-new")),
            "sudo, kept": people.by_sudo(site.site, _made(folder / "sudo")),
            "ssh-ca, kept": people.by_certificates(site.site, _made(folder / "kept")),
            "ssh-ca, new": people.by_certificates(site.site, _made(folder / "new")),
        }
        for name in ("service, new", "ssh-ca, new"):
            ways[name]["clusters"]["lab"]["tunnel"]["linger"] = 0.001
        rules = folder / "sudo.toml"
        rules.write_text(tomli_w.dumps(ways["sudo, kept"]))
        stack.enter_context(people.sudo_rules(site.site, rules))
        sources: dict[str, Callable[[], Run]] = {}
        for name, config in ways.items():
            place = Path(config["template_dirs"][0])
            root = site.site.home(USER) / ".hpcbridge"
            bridge = Bridge(place, config, root, headers=people.headers(USER))
            sources[name] = _one(site, stack.enter_context(bridge))
        found = interleave(runs, sources, period=SLURM_INTERVAL)
    rows = []
    for name, measured in found.items():
        rows += total_and_parts(name, measured)
        way, _, age = name.partition(", ")
        if way != "service":
            rows.append(Row(f"{name}: more", _more(measured, found[f"service, {age}"])))
    return Section(NAME, HOW, runs, rows)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _one(site: Lab, bridge: Bridge) -> Callable[[], Run]:
    def run() -> Run:
        found = bridge.measure("listener")
        site.idle()
        return found

    return run


def _more(ours: list[Run], theirs: list[Run]) -> Spread:
    """How much longer our part is, in seconds; each pair was measured in one round."""
    own = [[run.total - run.parts[SLURMS] for run in runs] for runs in (ours, theirs)]
    return spread([a - b for a, b in zip(*own, strict=True)])


def _service(site: Testbed, folder: Path) -> dict[str, Any]:
    config = people.settings(site, folder, mode="service")
    key = str(site.layout.client_key(USER))
    config["clusters"]["lab"]["ssh"] |= {"user": USER, "identity_files": [key]}
    return config
