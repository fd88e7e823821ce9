"""Run a command with the Slurm of Debian 13 (24.11) in place of the installed one.

    python3 -m testbed.trixie COMMAND...

Debian 13 is put into a directory by debootstrap, which takes about a minute; the cluster's machines
then run their programs from there. Afterwards the cluster is taken down and the directory removed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from testbed import cluster, debian, network
from testbed.layout import ROOT_VARIABLE, TestbedError

SUITE = "trixie"
_PACKAGES = (
    "munge",
    "slurmctld",
    "slurmd",
    "slurm-client",
    "slurmrestd",
    "slurm-wlm-jwt-plugin",
    "openssh-server",
    "sudo",
    "iproute2",
    "procps",
    # What the Python and the visualization software of this machine need of theirs.
    "libexpat1",
    "libegl1",
    "libegl-mesa0",
    "libgl1-mesa-dri",
)
_PLACE = Path("/var/tmp")


def main(argv: list[str]) -> int:
    """The exit status of the command, or 2 where it could not be run."""
    if not argv:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        return _run(argv)
    except TestbedError as error:
        print(error, file=sys.stderr)
        return 2


def _run(argv: list[str]) -> int:
    cluster.check_root()
    if network.is_up():
        raise TestbedError("A test cluster is up: take it down first (make cluster-down).")
    root = Path(tempfile.mkdtemp(prefix="hpcb-trixie-", dir=_PLACE))
    try:
        print(f"Putting Debian 13 into {root} ...", flush=True)
        debian.bootstrap(root, SUITE, _PACKAGES)
        os.environ[ROOT_VARIABLE] = str(root)
        try:
            return subprocess.run(argv, check=False).returncode
        finally:
            cluster.down()
    finally:
        debian.remove(root)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
