"""POST to 200 through real Slurm over SSH, against ``ssh head sbatch`` and watching the file."""

from pathlib import Path
from typing import Any

from benchmarks.bare import BareSSH
from benchmarks.bridge import Bridge
from benchmarks.figures import Run, interleave, paired_ratio
from benchmarks.lab import Lab, lab
from benchmarks.local_launch import INSTANT
from benchmarks.table import Section, total_and_parts

NAME = "slurm-launch"
HOW = (
    "the same program as a job of the test cluster, submitted over SSH; the peer is "
    "`ssh head sbatch --parsable` and then `ssh head` with a loop that looks at the job's output "
    "every 50 ms, both over one open connection (OpenSSH's ControlMaster). The peer opens no "
    "tunnel; hpcbridge does, and its connections are open as well. Slurm starts jobs on a beat, so "
    "each pair begins at the same fraction of a second, and the pairs at all fractions."
)
AIM = 1.15
SLURM_INTERVAL = 1.0
"""Seconds; slurmctld starts batch jobs on a interval of half a second, whenever they came."""


def measure(runs: int, folder: Path) -> Section:
    """Both ways side by side, one job at a time."""
    with lab() as site:
        site.install(INSTANT)
        with (
            Bridge(folder / "bridge", _config(folder / "bridge", site), site.sessions) as bridge,
            BareSSH(folder / "bare", site) as bare,
        ):
            found = interleave(
                runs,
                {
                    "ours": lambda: _then_idle(site, bridge.measure("instant")),
                    "theirs": lambda: _then_idle(site, bare.measure()),
                },
                period=SLURM_INTERVAL,
            )
    ratio = paired_ratio(found["ours"], found["theirs"])
    rows = total_and_parts("hpcbridge", found["ours"], ratio, AIM)
    rows += total_and_parts("ssh, sbatch, watch", found["theirs"])
    return Section(NAME, HOW, runs, rows)


def _then_idle(site: Lab, run: Run) -> Run:
    site.idle()
    return run


def _config(folder: Path, site: Lab) -> dict[str, Any]:
    return {
        "server": {"port": 0, "state_dir": str(folder / "state")},
        "clusters": {"lab": site.settings()},
        "applications": {
            "instant": {
                "cluster": "lab",
                "template": "command.sh",
                "wait": 60,
                "properties": {"program": f"{site.inside}/instant.pl"},
            }
        },
    }
