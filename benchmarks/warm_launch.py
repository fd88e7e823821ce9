"""POST to 200 for a session that is ready already, beside one that has to begin."""

import sqlite3
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.bridge import Bridge
from benchmarks.figures import Run, spread
from benchmarks.table import Row, Section
from benchmarks.waiting import until

NAME = "warm-launch"
RUNS = 100
"""The fewest of each: a 99th percentile of fewer is only the slowest."""
HOW = (
    "POST to 200 with the `local` scheduler, one session at a time, the application a small "
    "program in Perl (cold, warm) or the demo's, drawn by VTK (flow). Cold ones begin a job; warm "
    "ones are ready, and the next one is waited for before the next POST; 'new secret': the "
    "application is given a new secret first, and has confirmed it. At least 100 of each, but for "
    "flow, cold."
)
INSTANT = Path(__file__).parent / "apps/instant.pl"
FLOW = Path(__file__).parents[1] / "examples/warm/templates"
WARM: Mapping[str, Any] = {"count": 2}


def measure(runs: int, folder: Path) -> Section:
    """All kinds, one after the other: a pool that fills would disturb the others."""
    count = max(runs, RUNS)
    instant = {"template": "command.sh", "properties": {"program": str(INSTANT)}}
    flow = {"template": "flow.sh"}
    kinds: dict[str, tuple[dict[str, Any], int]] = {
        "cold": (instant, count),
        "warm": (instant | {"warm": {**WARM}}, count),
        "flow, cold": (flow, runs),
        "flow, warm, new secret": (flow | {"warm": {**WARM, "new_secret": True}}, count),
    }
    rows = []
    for number, (name, (application, times)) in enumerate(kinds.items()):
        root = folder / f"sessions-{number}"
        config = _config(folder / str(number), root, application)
        with Bridge(folder / str(number), config, root) as bridge:
            if "warm" in application:
                found = [_warm(bridge, folder / str(number)) for _ in range(times)]
            else:
                found = [bridge.measure("app") for _ in range(times + 1)][1:]
        rows.append(_row(name, found))
    return Section(NAME, HOW, count, rows)


def _warm(bridge: Bridge, folder: Path) -> Run:
    """One launch, once all sessions are ready that are to be."""
    until(lambda: _ready(folder / "state") == WARM["count"], "warm sessions")
    return bridge.launch_and_stop("app")


def _ready(state: Path) -> int:
    """How many sessions of the pool are ready."""
    connection = sqlite3.connect(f"file:{state / 'hpcbridge.sqlite'}?mode=ro", uri=True)
    query = "SELECT count(*) FROM sessions WHERE state = 'ready' AND taken_at IS NULL"
    (count,) = connection.execute(query).fetchone()
    connection.close()
    return int(count)


def _row(name: str, runs: list[Run]) -> Row:
    totals = [run.total for run in runs]
    share = statistics.quantiles(totals, n=100, method="inclusive")[98]
    return Row(f"{name} (99th percentile {share * 1000:.1f})", spread(totals))


def _config(folder: Path, root: Path, application: Mapping[str, Any]) -> dict[str, Any]:
    given = {"cluster": "here", "wait": 60, "walltime": 3600}
    return {
        "server": {"port": 0, "state_dir": str(folder / "state")},
        "template_dirs": [str(FLOW)],
        "clusters": {"here": {"scheduler": "local", "session_root": str(root), "slots": 8}},
        "applications": {"app": given | application},
    }
