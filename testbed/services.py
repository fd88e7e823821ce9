"""The daemons of the test cluster, in the order in which they start."""

from __future__ import annotations

import pwd
from pathlib import Path

from testbed import config
from testbed.daemons import Daemon, program
from testbed.layout import (
    HEAD,
    HEAD_ADDRESS,
    MACHINES,
    NODES,
    REST_PORT,
    REST_USER,
    Layout,
    TestbedError,
)


def all_of(layout: Layout) -> list[Daemon]:
    """Every daemon; each depends only on those before it."""
    return [
        _munged(layout),
        *((_mariadbd(layout), _slurmdbd(layout)) if layout.accounting else ()),
        _slurmctld(),
        *(_slurmd(node) for node in NODES),
        *(_sshd(layout, machine) for machine in MACHINES),
        _slurmrestd(layout),
    ]


def find(layout: Layout, name: str) -> Daemon:
    """The daemon of that name, such as "slurmctld" or "sshd-n1"."""
    every = {daemon.name: daemon for daemon in all_of(layout)}
    if name not in every:
        raise TestbedError(f"There is no daemon {name}; there are: {', '.join(every)}.")
    return every[name]


def _munged(layout: Layout) -> Daemon:
    folder = layout.state / "munge"
    # --force: munged dislikes a checkout that belongs to somebody else than root.
    options = ("--foreground", "--force", "--num-threads=4")
    files = {
        "socket": "munge.socket.2",
        "key-file": "munge.key",
        "seed-file": "seed",
        "pid-file": "pid",
    }
    paths = (f"--{option}={folder / name}" for option, name in files.items())
    command = (*as_user("munge"), program("munged"), *options, *paths)
    return Daemon("munged", HEAD, command, socket=folder / "munge.socket.2")


def mariadbd(layout: Layout) -> tuple[str, ...]:
    """The start of MariaDB's command line: no port, and only Slurm's user gets at its files."""
    return (
        *as_user("slurm"),
        program("mariadbd"),
        "--no-defaults",
        f"--datadir={layout.database}/tables",
        "--skip-networking",
        "--innodb-buffer-pool-size=64M",
        "--innodb-log-file-size=8M",
        "--innodb-flush-log-at-trx-commit=0",  # what a power failure loses, nobody misses
    )


def _mariadbd(layout: Layout) -> Daemon:
    place = layout.database / "socket"
    grants = f"--init-file={layout.database}/grants.sql"
    command = (*mariadbd(layout), f"--socket={place}", grants)
    return Daemon("mariadbd", HEAD, command, socket=place, installed=True)


def _slurmdbd(layout: Layout) -> Daemon:
    # Slurm has no setting for the socket; MariaDB's client library reads this.
    environment = {"MYSQL_UNIX_PORT": f"{layout.database}/socket"}
    command = (*as_user("slurm"), program("slurmdbd"), "-D")
    return Daemon("slurmdbd", HEAD, command, port=6819, environment=environment)


def _slurmctld() -> Daemon:
    return Daemon("slurmctld", HEAD, (program("slurmctld"), "-D"), port=6817)


def _slurmd(node: str) -> Daemon:
    return Daemon(f"slurmd-{_short(node)}", node, (program("slurmd"), "-D", "-N", node), port=6818)


def _sshd(layout: Layout, machine: str) -> Daemon:
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd's own, where it locks itself up
    name = f"sshd-{_short(machine)}"
    command = (
        program("sshd"),
        "-D",
        "-f",
        f"{layout.state}/ssh/sshd_{machine}",
        "-E",
        f"{layout.log}/{name}.log",
    )
    return Daemon(name, machine, command, port=22)


def _slurmrestd(layout: Layout) -> Daemon:
    plugins = config.rest_plugins(config.slurm_version(layout))
    places = (f"unix:{layout.rest_socket}", f"127.0.0.1:{REST_PORT}", f"{HEAD_ADDRESS}:{REST_PORT}")
    command = (
        *as_user(REST_USER),
        program("slurmrestd"),
        "-s",
        plugins,
        "-a",
        "rest_auth/jwt",
        *places,
    )
    return Daemon(
        "slurmrestd",
        HEAD,
        command,
        port=REST_PORT,
        socket=layout.rest_socket,
        environment={"SLURM_JWT": "daemon"},
    )


def as_user(user: str) -> tuple[str, ...]:
    """The start of a command line that runs the rest as `user`, with the user's groups."""
    return ("setpriv", f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--init-groups")


def _short(machine: str) -> str:
    return machine.removeprefix("hpcb-")
