"""Which Debian packages the cluster and the tests need, and how they get here."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from testbed.daemons import PATH
from testbed.layout import HERE, TestbedError

#: Programs that the cluster itself needs, and the package that brings each.
_PROGRAMS = {
    "munged": "munge",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "slurmrestd": "slurmrestd",
    "sbatch": "slurm-client",
    "sshd": "openssh-server",
    "ssh-keygen": "openssh-client",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "useradd": "passwd",
}
#: Packages that are unpacked where they are used, and not installed: Grid Engine has a qsub, as PBS
#: has, and one of them would be in the other's place.
GRIDENGINE = ("gridengine-common", "gridengine-client", "gridengine-exec", "gridengine-master")
#: Unpacked as well, as on a node whose administrator installs nothing.
OSMESA = ("libosmesa6",)
UNPACKED = GRIDENGINE + OSMESA
_ARCHIVES = HERE.parent / ".packages"
_POLICY = Path("/usr/sbin/policy-rc.d")


def wanted() -> list[str]:
    """packages.txt: all that the cluster and the end-to-end tests need."""
    return (HERE / "packages.txt").read_text().split()


def missing() -> list[str]:
    """Packages without which the cluster cannot come up."""
    packages = {
        package for name, package in _PROGRAMS.items() if shutil.which(name, path=PATH) is None
    }
    # slurmrestd's tokens; a plugin, so there is no program to look for.
    if not list(Path("/usr/lib").glob("*/slurm-wlm/auth_jwt.so")):
        packages.add("slurm-wlm-jwt-plugin")
    return sorted(packages)


def check() -> None:
    """Raise, naming the packages, when the cluster cannot come up for want of some."""
    if names := missing():
        raise TestbedError(
            f"Not installed: {', '.join(names)}. Install what is needed with:\n"
            f"    python3 -m testbed install\n(or: apt-get install {' '.join(names)})"
        )


def install() -> bool:
    """Install what packages.txt names and is not installed; False when all of it was there."""
    names = [name for name in wanted() if not _is_here(name)]
    absent = [name for name in UNPACKED if not list(_ARCHIVES.glob(f"{name}_*.deb"))]
    if not names and not absent:
        return False
    created = _forbid_service_starts()
    try:
        count = len(names) + len(absent)
        print(f"Installing {count} Debian packages and what they need ...", flush=True)
        _apt("update", "-qq")
        if names:
            _apt("install", "-qq", "-y", "--no-install-recommends", *names)
        if absent:
            _ARCHIVES.mkdir(exist_ok=True)
            _apt("download", "-qq", "-o", "APT::Sandbox::User=root", *absent, cwd=_ARCHIVES)
    finally:
        if created:
            _POLICY.unlink()
    return True


def unpack(target: Path, names: tuple[str, ...]) -> None:
    """Unpack some of the packages of UNPACKED below ``target``."""
    for name in names:
        archives = sorted(_ARCHIVES.glob(f"{name}_*.deb"))
        if not archives:
            raise TestbedError(f"{name} was not fetched: run python3 -m testbed install.")
        command = ["dpkg-deb", "--extract", str(archives[-1]), str(target)]
        subprocess.run(command, check=True, timeout=60)


def _is_here(name: str) -> bool:
    """Whether the package is installed, or its program came from elsewhere (npm with Node.js)."""
    if shutil.which(name, path=PATH):
        return True
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status}", name]
    result = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    return result.stdout == "installed"


def _forbid_service_starts() -> bool:
    """The packages' own daemons (on default ports, with default settings) must not start.

    A policy that is there already is the machine's own: it stays, and its word counts.
    """
    if _POLICY.exists():
        return False
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    return True


def _apt(*arguments: str, cwd: Path | None = None) -> None:
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=300", *arguments]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command, env=environment, cwd=cwd, check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise TestbedError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
