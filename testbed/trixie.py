"""Run a command with the Slurm of another Debian in place of the installed one.

    python3 -m testbed.trixie [--release RELEASE] COMMAND...

RELEASE is trixie (Debian 13, Slurm 24.11; the default) or forky (Debian 14, Slurm 26.05). It is put
into a directory by debootstrap, which takes about a minute; the cluster's machines then run their
programs from there. Afterwards the cluster is taken down and the directory removed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from testbed import cluster, debian, network
from testbed.layout import ROOT_VARIABLE, TestbedError

RELEASES = {"trixie": "Debian 13", "forky": "Debian 14"}
_PACKAGES = (
    "munge",
    "slurmctld",
    "slurmd",
    "slurm-client",
    "slurmrestd",
    "slurmdbd",
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
    release = "trixie"
    if argv[:1] == ["--release"]:
        release, argv = (argv[1:2] or [""])[0], argv[2:]
    if not argv or release not in RELEASES:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        return _run(release, argv)
    except TestbedError as error:
        print(error, file=sys.stderr)
        return 2


def _run(release: str, argv: list[str]) -> int:
    cluster.check_root()
    if network.is_up():
        raise TestbedError("A test cluster is up: take it down first (make cluster-down).")
    root = Path(tempfile.mkdtemp(prefix=f"hpcb-{release}-", dir=_PLACE))
    try:
        print(f"Putting {RELEASES[release]} into {root} ...", flush=True)
        debian.bootstrap(root, release, _PACKAGES)
        os.environ[ROOT_VARIABLE] = str(root)
        try:
            return subprocess.run(argv, check=False).returncode
        finally:
            cluster.down()
    finally:
        debian.remove(root)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
