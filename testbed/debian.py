"""Another Debian release in a directory of this machine, by debootstrap."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from testbed.layout import TestbedError

_LIMIT = 3600
"""Seconds that a step may take, on a busy machine with a slow network."""

# What is mounted there goes with the namespace, also when a command is interrupted.
_ALONE = ("unshare", "--mount")
# A release in the making signs its lists for some days only, and copies of it lag behind.
_INSTALL = """
set -e
root=$1
shift
for each in /proc /dev /sys; do mount --rbind "$each" "$root$each"; done
for each in /etc/resolv.conf /etc/hosts; do
  [ -e "$root$each" ] || : >"$root$each"
  mount --bind "$each" "$root$each"
done
apt() { chroot "$root" apt-get -qq -o Acquire::Check-Valid-Until=false "$@"; }
apt update
apt install -y --no-install-recommends "$@"
apt clean
"""


def bootstrap(root: Path, suite: str, packages: Iterable[str] = ()) -> None:
    """Put a minimal release and these packages into the empty directory ``root``.

    Raises TestbedError where debootstrap(8) is not installed, or fails.
    """
    if shutil.which("debootstrap") is None:
        raise TestbedError("debootstrap is not installed: run python3 -m testbed install.")
    root.chmod(0o755)
    # Nothing is started in there: minbase has no init, and daemons ask this file first.
    (root / "usr/sbin").mkdir(parents=True)
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    # All releases have the script of sid; the names of the newest are not known to debootstrap.
    include = [f"--include={','.join(packages)}"] if packages else []
    _run(["debootstrap", "--variant=minbase", *include, suite, str(root), "", "sid"])


def install(root: Path, packages: Iterable[str]) -> None:
    """Install packages in there by apt, which knows more of dependencies than debootstrap.

    Raises TestbedError where that fails.
    """
    _run(["sh", "-c", _INSTALL, "sh", str(root), *packages])


def remove(root: Path) -> None:
    """Remove what was put there, and nothing that is mounted into it."""
    if f" {root}/" in Path("/proc/mounts").read_text():
        raise TestbedError(f"Something is mounted below {root}: unmount it and remove the rest.")
    subprocess.run(["rm", "-rf", "--one-file-system", "--", str(root)], check=True, timeout=300)


def _run(command: list[str]) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            [*_ALONE, *command],
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=_LIMIT,
        )
    except subprocess.TimeoutExpired as error:
        raise TestbedError(f"{command[0]} took more than {_LIMIT} s.") from error
    if done.returncode:
        raise TestbedError(f"{command[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}")
