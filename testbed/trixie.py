"""Run a command with the Slurm of another Debian in place of the installed one.

    python3 -m testbed.trixie [--release RELEASE] COMMAND...

RELEASE is trixie (Debian 13, Slurm 24.11; the default) or forky (Debian 14, Slurm 26.05). It is put
into a directory by debootstrap, which takes about a minute; the cluster's machines then run their
programs from there. Afterwards the cluster is taken down and the directory removed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from testbed import cluster, network
from testbed.layout import ROOT_VARIABLE, TestbedError

RELEASES = {"trixie": "Debian 13", "forky": "Debian 14"}
_SCRIPTS = Path("/usr/share/debootstrap/scripts")
_MIRROR = "http://deb.debian.org/debian"
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
        _install(root, release)
        os.environ[ROOT_VARIABLE] = str(root)
        try:
            return subprocess.run(argv, check=False).returncode
        finally:
            cluster.down()
    finally:
        remove(root)


def _install(root: Path, release: str) -> None:
    if shutil.which("debootstrap") is None:
        raise TestbedError("debootstrap is not installed: run python3 -m testbed install.")
    print(f"Putting {RELEASES[release]} into {root} ...", flush=True)
    root.chmod(0o755)
    # Nothing is started in there: minbase has no init, and daemons ask this file first.
    (root / "usr/sbin").mkdir(parents=True)
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    include = f"--include={','.join(_PACKAGES)}"
    command = ["debootstrap", "--variant=minbase", include, release, str(root)]
    if not (_SCRIPTS / release).exists():  # younger than debootstrap, which is the same for all
        command += [_MIRROR, str(_SCRIPTS / "sid")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise TestbedError(f"debootstrap failed:\n{(done.stdout + done.stderr)[-2000:]}")


def remove(root: Path) -> None:
    """Remove what was put there, and nothing that is mounted into it."""
    if f" {root}/" in Path("/proc/mounts").read_text():
        raise TestbedError(f"Something is mounted below {root}: unmount it and remove the rest.")
    subprocess.run(["rm", "-rf", "--one-file-system", "--", str(root)], check=True, timeout=120)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
