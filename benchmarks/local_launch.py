"""POST to 200 with the ``local`` scheduler, against the reference launcher."""

import shutil
from pathlib import Path
from typing import Any

from benchmarks.bridge import Bridge
from benchmarks.figures import Unavailable, interleave, ratio_to_median, spread
from benchmarks.reference import Reference
from benchmarks.table import Row, Section, total_and_parts

NAME = "local-launch"
HOW = (
    "POST to 200 for an application that is ready at once, on this machine, one session at a time; "
    "the peer is `python -m wslink.launcher` with the same program. It looks at once and then "
    "every second, so the ratio is to its median and not to the other run of the pair."
)
AIM = 0.05
FIRST_LOOK = 0.5
"""Seconds; the reference launcher's replies come well before or well after."""
INSTANT = Path(__file__).parent / "apps/instant.pl"


def measure(runs: int, folder: Path) -> Section:
    """Both launchers side by side."""
    if shutil.which("perl") is None:
        raise Unavailable("perl, in which the application is written, is not installed")
    root = folder / "sessions"
    with (
        Bridge(folder / "bridge", _config(folder / "bridge", root), root) as bridge,
        Reference(folder / "reference", [str(INSTANT)]) as reference,
    ):
        found = interleave(
            runs, {"ours": lambda: bridge.measure("instant"), "theirs": reference.measure}
        )
    theirs = found["theirs"]
    ratio = ratio_to_median(found["ours"], theirs)
    rows = total_and_parts("hpcbridge", found["ours"], ratio, AIM)
    rows += total_and_parts("wslink.launcher", theirs)
    if lucky := [run for run in theirs if run.total < FIRST_LOOK]:
        what = f"ready at its first look: {len(lucky)} of {runs}"
        rows.append(Row(what, spread([run.total for run in lucky]), indent=True))
    return Section(NAME, HOW, runs, rows)


def _config(folder: Path, root: Path) -> dict[str, Any]:
    return {
        "server": {"port": 0, "state_dir": str(folder / "state")},
        "clusters": {"here": {"scheduler": "local", "session_root": str(root)}},
        "applications": {
            "instant": {
                "cluster": "here",
                "template": "command.sh",
                "wait": 60,
                "properties": {"program": str(INSTANT)},
            }
        },
    }
