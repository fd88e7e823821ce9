"""Names, addresses and paths of the test cluster: everything that is decided once."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
#: Where test clusters lie: Slurm and the job users get in there, wherever the checkout is.
PLACES = Path("/var/lib")
#: In the checkout, a link to its own cluster; the examples use it.
LINK = HERE.parent / ".testbed"

HEAD = "hpcb-head"
NODES = ("hpcb-n1", "hpcb-n2", "hpcb-n3", "hpcb-n4")
GPU_NODES = NODES[2:]
MACHINES = (HEAD, *NODES)

#: The account of a service that works for the job users, by sudo.
SERVICE_USER = "bridge"
#: Job users. The first is the one whose key and ``ssh_config`` are written.
USERS = ("alice", "bob", SERVICE_USER)
#: slurmrestd refuses to run as root or as Slurm's own user.
REST_USER = "slurmrest"

#: This machine <-> head, and head <-> nodes. The head does not forward between them.
OUTER_ADDRESS = "10.177.3.1"
HEAD_ADDRESS = "10.177.3.2"
NODE_SUBNET = "10.177.4.0/24"
HEAD_INNER_ADDRESS = "10.177.4.1"
NODE_ADDRESSES = {name: f"10.177.4.{11 + index}" for index, name in enumerate(NODES)}
#: This machine's end of the cable to the head; its alias names the cluster's state directory.
OUTER_LINK = "hpcb-root"
REST_PORT = 6820

#: See :attr:`Layout.root`; set by testbed.trixie.
ROOT_VARIABLE = "HPCBRIDGE_TESTBED_ROOT"

#: A Unix socket's path ends at 107 bytes; the longest below the state directory needs this many.
_LONGEST_SOCKET = len("/munge/munge.socket.2.lock")


class TestbedError(Exception):
    """Something that the person at the keyboard can act on; the text says what to do."""

    __test__ = False  # pytest would take the name for a test class


@dataclass(frozen=True)
class Layout:
    """Where the state of one test cluster lies.

    ``root`` is the root directory of another Debian release, whose programs the machines run.
    """

    state: Path
    root: Path | None = None

    @property
    def description(self) -> Path:
        return self.state / "testbed.json"

    @property
    def run(self) -> Path:
        """Pid files, one a daemon."""
        return self.state / "run"

    @property
    def log(self) -> Path:
        return self.state / "log"

    @property
    def database(self) -> Path:
        """MariaDB's directory; where it is, the cluster has accounting."""
        return self.state / "db"

    @property
    def accounting(self) -> bool:
        return self.database.is_dir()

    @property
    def ssh_config(self) -> Path:
        return self.state / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        return self.state / "known_hosts"

    @property
    def user_ca(self) -> Path:
        """The private key of the CA whose user certificates all sshd take."""
        return self.state / "user_ca"

    @property
    def sudoers(self) -> Path:
        """The directory that is /etc/sudoers.d inside the cluster."""
        return self.state / "sudoers.d"

    @property
    def rest_socket(self) -> Path:
        return self.state / "rest" / "slurmrestd.sock"

    def client_key(self, user: str) -> Path:
        """The private key that lets in as `user` on the head and on every node."""
        return self.state / f"id_{user}"

    def home(self, user: str) -> Path:
        """The user's home directory inside the cluster, as seen from outside of it."""
        return self.state / "home" / user


def own_state() -> Path:
    """The state directory of this checkout's own cluster: each checkout has another one."""
    name = hashlib.sha256(os.fsencode(HERE.parent)).hexdigest()[:8]
    return PLACES / f"hpcb-testbed-{name}"


def default_state() -> Path:
    """`HPCBRIDGE_TESTBED`, or the checkout's own."""
    return Path(os.environ.get("HPCBRIDGE_TESTBED") or own_state())


def make_layout(state: Path | None = None) -> Layout:
    """The layout below `state`, which must be a path that sockets and other users can bear."""
    path = (state or default_state()).absolute()
    if len(os.fsencode(path)) + _LONGEST_SOCKET > 107:
        raise TestbedError(f"{path} is too long a path for sockets: choose a shorter --state.")
    if any(not (c.isalnum() or c in "/._-+") for c in str(path)):
        raise TestbedError(
            f"{path} has characters that slurm.conf cannot take: choose another --state."
        )
    for parent in path.parents:
        if parent.exists() and not parent.stat().st_mode & 0o001:
            raise TestbedError(
                f"{parent} is closed to other users, but Slurm and the job users must get into "
                f"{path}: choose another place with --state or HPCBRIDGE_TESTBED (such as "
                f"/var/tmp/hpcb)."
            )
    root = os.environ.get(ROOT_VARIABLE)
    return Layout(path, Path(root) if root else None)
