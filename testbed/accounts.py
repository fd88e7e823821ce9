"""The cluster's users, their homes and their SSH keys."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from testbed.layout import REST_USER, USERS, Layout, TestbedError

_LOCK = Path("/run/hpcbridge-testbed.lock")


def prepare(layout: Layout) -> None:
    """Create missing users, and give each job user a home in the state directory and a key."""
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several clusters may come up at once, in namespaces
        _create()
    for user in USERS:
        _home(layout, user)


def _create() -> None:
    for user in USERS:
        if not _exists(user):
            # '*' and not '!': sshd without PAM takes the latter for a locked account.
            _call("useradd", "--create-home", "--shell", "/bin/bash", "--password", "*", user)
        _check_not_locked(user)
    if not _exists(REST_USER):
        _call("useradd", "--system", "--shell", "/usr/sbin/nologin", REST_USER)


def make_key(path: Path, comment: str) -> str:
    """Make an SSH key pair unless it is there; returns the public key without its comment."""
    if not path.exists():
        _call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path))
    return " ".join(Path(f"{path}.pub").read_text().split()[:2])


def directory(path: Path, owner: str = "root", mode: int = 0o755) -> Path:
    """Make the directory, or set it right."""
    path.mkdir(parents=True, exist_ok=True)
    give(path, owner, mode)
    return path


def give(path: Path, owner: str, mode: int) -> None:
    """Set owner (and the owner's group) and mode."""
    shutil.chown(path, owner, pwd.getpwnam(owner).pw_gid)
    path.chmod(mode)


def _home(layout: Layout, user: str) -> None:
    """A home below the state directory is mounted over the real one, inside the cluster only.

    So nothing of a real user of that name is touched, and no traces stay. (sshd looks no further
    up than the home for unsafe permissions, so the state directory may lie anywhere.)
    """
    mount_point = Path(pwd.getpwnam(user).pw_dir)
    if not mount_point.is_dir():
        directory(mount_point, user, 0o700)
    directory(layout.home(user).parent)
    directory(layout.home(user), user, 0o700)
    directory(layout.home(user) / ".ssh", user, 0o700)
    authorized = layout.home(user) / ".ssh" / "authorized_keys"
    authorized.write_text(make_key(layout.client_key(user), f"{user}@testbed") + "\n")
    give(authorized, user, 0o600)
    if "SUDO_UID" in os.environ:  # who typed sudo may use the key
        os.chown(layout.client_key(user), int(os.environ["SUDO_UID"]), -1)


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _check_not_locked(user: str) -> None:
    for line in Path("/etc/shadow").read_text().splitlines():
        name, password = line.split(":")[:2]
        if name == user and password.startswith("!"):
            raise TestbedError(
                f"The account {user} exists already and is locked, so sshd would refuse it; if it "
                f"is meant for tests, run: usermod --password '*' {user}"
            )


def _call(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if result.returncode:
        raise TestbedError(f"{' '.join(command)}: {result.stderr.strip() or result.stdout.strip()}")
