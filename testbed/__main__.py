"""The command line: python3 -m testbed up | down | status | exec | install."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from testbed import cluster, daemons, network, packages, services
from testbed.layout import (
    GPU_NODES,
    HEAD,
    HEAD_ADDRESS,
    NODES,
    REST_PORT,
    USERS,
    TestbedError,
    default_state,
    make_layout,
)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done; 1 not up, or went wrong; 2 not possible here (root, packages, path)."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.action(arguments))
    except TestbedError as error:
        print(error, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m testbed",
        description="A real Slurm cluster on this machine, a head and four nodes, for trying and "
        "testing hpcbridge.",
        epilog="All state lies in one directory, which `down` removes. Needs root.",
    )
    state = argparse.ArgumentParser(add_help=False)
    state.add_argument(
        "--state", type=Path, default=None, help=f"the state directory (now: {default_state()})"
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for name, action, text in (
        ("up", _up, "bring the cluster up, or repair it; safe to repeat"),
        ("down", _down, "cancel jobs, stop everything, remove the state; safe to repeat"),
        ("status", _status, "what runs, and how the nodes are; exit status 1 when not all is up"),
        ("install", _install, "install the Debian packages that the cluster and the tests need"),
    ):
        actions.add_parser(name, parents=[state], help=text, description=text).set_defaults(
            action=action
        )
    up = actions.choices["up"]
    up.add_argument(
        "--accounting", action="store_true", help="with slurmdbd on MariaDB, accounts and limits"
    )
    text = "run a command on a machine of the cluster"
    execute = actions.add_parser("exec", parents=[state], help=text, description=text)
    execute.add_argument("machine", help="head, n1, n2, n3 or n4")
    execute.add_argument("--user", default="root", help=f"as whom (root, {', '.join(USERS)})")
    execute.add_argument("command", nargs="+", metavar="-- COMMAND", help="what to run")
    execute.set_defaults(action=_exec)
    return parser


def _up(arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    testbed, started = cluster.up(arguments.state, with_accounting=arguments.accounting)
    seconds = f"{time.monotonic() - began:.1f} s"
    if started:
        headline = f"The test cluster is up ({seconds}; started {', '.join(started)})."
    else:
        headline = f"The test cluster is up already (checked in {seconds})."
    print(f"{headline}\n\n{_summary(testbed, arguments.state)}")
    return 0


def _down(arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    existed = cluster.down(arguments.state)
    print(
        f"The test cluster is down ({time.monotonic() - began:.1f} s)."
        if existed
        else "There was no test cluster."
    )
    return 0


def _status(arguments: argparse.Namespace) -> int:
    layout = make_layout(arguments.state)
    if not layout.description.exists():
        print("There is no test cluster: bring it up with python3 -m testbed up.")
        return 1
    every = {
        daemon.name: daemons.running_pid(layout, daemon.name) for daemon in services.all_of(layout)
    }
    for name, pid in every.items():
        print(f"{name:12} {f'pid {pid}' if pid else 'DOWN'}")
    if not all(every.values()) or not network.is_up():
        print("Not all is up: repair it with python3 -m testbed up.")
        return 1
    testbed = cluster.Testbed(layout)
    for node, state in testbed.node_states().items():
        print(f"{node:12} {state}")
    print(f"{len(testbed.jobs())} jobs")
    return 0


def _exec(arguments: argparse.Namespace) -> int:
    testbed = cluster.load(arguments.state)
    command = testbed.exec_args(arguments.machine, arguments.user, arguments.command)
    os.execve(command[0], command, {**os.environ, "PATH": daemons.PATH})


def _install(_: argparse.Namespace) -> int:
    cluster.check_root()
    print("Installed." if packages.install() else "All packages are there.")
    return 0


def _summary(testbed: cluster.Testbed, state: Path | None) -> str:
    option = f" --state {state}" if state else ""
    user = testbed.user
    gpu_nodes = " and ".join(GPU_NODES)
    return f"""\
  {HEAD}   {HEAD_ADDRESS}   slurmctld, sshd, slurmrestd (http://{HEAD_ADDRESS}:{REST_PORT})
  {NODES[0]}..{NODES[-1][-2:]}  behind it     slurmd, sshd; two fake GPUs each on {gpu_nodes}
  users       {", ".join(USERS)}; their homes, seen from outside: {testbed.layout.home("*").parent}
  partitions  viz (default), short (5 minutes at most), closed (down)

A job by hand:   python3 -m testbed exec head{option} --user {user} -- sbatch --wrap hostname
By SSH:          ssh -F {testbed.ssh_config} {HEAD} squeue
To a node:       ssh -F {testbed.ssh_config} {NODES[0]} hostname
For programs:    {testbed.layout.description}
Take it down:    python3 -m testbed down{option}"""


if __name__ == "__main__":
    sys.exit(main())
