"""What tests hold in their hands: a running test cluster, its addresses, and ways to hurt it."""

from __future__ import annotations

import contextlib
import pwd
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed import daemons, network, services
from testbed.layout import (
    HEAD,
    HEAD_ADDRESS,
    MACHINES,
    NODES,
    REST_PORT,
    USERS,
    Layout,
    TestbedError,
)

OUT = frozenset({"drain", "drng", "down"})
"""States of nodes that take no jobs until they are put back to work, as sinfo(1) has them."""


@dataclass(frozen=True)
class Testbed:
    """A cluster that is up. Machines may be named shortly: "head", "n1" .. "n4"."""

    __test__ = False  # not a test class, pytest

    layout: Layout

    head = HEAD
    head_address = HEAD_ADDRESS
    nodes = NODES
    user = USERS[0]
    rest_url = f"http://{HEAD_ADDRESS}:{REST_PORT}"

    @property
    def ssh_config(self) -> Path:
        return self.layout.ssh_config

    @property
    def known_hosts(self) -> Path:
        return self.layout.known_hosts

    @property
    def client_key(self) -> Path:
        return self.layout.client_key(self.user)

    @property
    def rest_socket(self) -> Path:
        return self.layout.rest_socket

    def home(self, user: str = USERS[0]) -> Path:
        """The user's home as seen from outside of the cluster."""
        return self.layout.home(user)

    def exec_args(self, machine: str, user: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` on the machine as the user, in the user's home."""
        command = list(argv)
        if user != "root":
            home = pwd.getpwnam(user).pw_dir
            variables = (f"HOME={home}", f"USER={user}", f"LOGNAME={user}", f"PATH={daemons.PATH}")
            command = ["env", "--ignore-environment", f"--chdir={home}", *variables, *command]
            command = [*services.as_user(user), *command]
        return daemons.enter(self.layout, full_name(machine), command)

    def run(
        self,
        machine: str,
        user: str,
        argv: Sequence[str],
        *,
        text: str | None = None,
        timeout: float = 30,
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` to its end, with `text` as its input. Never raises on a bad exit status."""
        return subprocess.run(
            self.exec_args(machine, user, argv),
            input=text if text is not None else "",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )

    def call(self, *argv: str, timeout: float = 30) -> str:
        """Run a command as root on the head; its output, or TestbedError."""
        result = self.run(HEAD, "root", argv, timeout=timeout)
        if result.returncode:
            raise TestbedError(
                f"{' '.join(argv)}: exit {result.returncode}: {result.stderr.strip()}"
            )
        return result.stdout

    def start(self, name: str) -> bool:
        """Start a daemon ("slurmctld", "slurmd-n1", "sshd-head"); False when it was running."""
        started = daemons.start(self.layout, services.find(self.layout, name))
        if name == "slurmctld":
            self.settle()
        return started

    def stop(self, name: str) -> bool:
        """Stop a daemon; False when it was not running."""
        return daemons.stop(self.layout, services.find(self.layout, name).name)

    @contextlib.contextmanager
    def down(self, name: str) -> Iterator[None]:
        """The daemon is down inside the `with` block."""
        self.stop(name)
        try:
            yield
        finally:
            self.start(name)

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """The daemon is frozen (SIGSTOP) inside the `with` block: it accepts, and never answers."""
        pid = daemons.running_pid(self.layout, services.find(self.layout, name).name)
        if pid is None:
            raise TestbedError(f"{name} does not run, so it cannot be frozen.")
        daemons.send(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            daemons.send(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def unplugged(self, machine: str) -> Iterator[None]:
        """The machine's cable is out inside the `with` block: packets vanish, nobody is told."""
        network.set_plugged(full_name(machine), False)
        try:
            yield
        finally:
            network.set_plugged(full_name(machine), True)

    def slurmctld_stop(self) -> bool:
        return self.stop("slurmctld")

    def slurmctld_start(self) -> bool:
        return self.start("slurmctld")

    def drop_ssh(self, machine: str) -> int:
        """Kill all SSH connections to the machine, not its sshd; how many processes that were."""
        listener = daemons.running_pid(
            self.layout, services.find(self.layout, f"sshd-{machine}").name
        )
        sessions = [
            pid
            for pid in network.processes(full_name(machine))
            if daemons.command(pid) == "sshd" and pid != listener
        ]
        for pid in sessions:
            daemons.send(pid, signal.SIGKILL)
        return len(sessions)

    def drain(self, node: str, reason: str = "test") -> None:
        """Take no new jobs on the node."""
        self.call(
            "scontrol", "update", f"nodename={full_name(node)}", "state=drain", f"reason={reason}"
        )

    def resume(self, node: str) -> None:
        """Take jobs again."""
        try:
            self.call("scontrol", "update", f"nodename={full_name(node)}", "state=resume")
        except TestbedError:  # it has just come back by itself, as a node does that reports in
            if self.node_states()[full_name(node)].rstrip("*") in OUT:
                raise

    def settle(self, timeout: float = 30) -> None:
        """Wait until every node answers; put back to work those that a test or a crash took out."""
        if any(state.startswith("unk") for state in self.node_states().values()):
            # A new controller asks the nodes after 4 s; on SIGHUP they tell it at once.
            for node in self.nodes:
                if pid := daemons.running_pid(self.layout, f"slurmd-{node.removeprefix('hpcb-')}"):
                    daemons.send(pid, signal.SIGHUP)
        daemons.wait_until(
            self._is_settled, timeout, lambda: f"nodes do not come up: {self.node_states()}"
        )

    def _is_settled(self) -> bool:
        states = self.node_states()
        for node, state in states.items():
            if state in OUT:
                self.resume(node)
        usable = {"idle", "mix", "alloc", "comp", "plnd"}
        # A trailing - means that a waiting job is planned for the node.
        return all(state.rstrip("-") in usable for state in states.values())

    def node_states(self) -> dict[str, str]:
        """Node -> sinfo(1)'s compact state; a trailing * means that the node does not answer."""
        lines = self.call("sinfo", "-h", "-N", "-p", "viz", "-o", "%n %t").splitlines()
        return dict(line.split() for line in lines)

    def jobs(self) -> list[str]:
        """Ids of all jobs that have not ended."""
        return self.call("squeue", "-h", "-o", "%i").split()

    def cancel_all(self, timeout: float = 15) -> None:
        """Cancel everybody's jobs and wait until they are gone."""
        for user in USERS:
            self.call("scancel", f"--user={user}")
        daemons.wait_until(
            lambda: not self.jobs(), timeout, lambda: f"jobs that do not end: {self.jobs()}"
        )

    def token(self, user: str = USERS[0], lifespan: int = 3600) -> str:
        """A JSON Web Token for slurmrestd, valid for `lifespan` seconds."""
        answer = self.call("scontrol", "token", f"username={user}", f"lifespan={lifespan}")
        return answer.strip().removeprefix("SLURM_JWT=")


def full_name(machine: str) -> str:
    """ "n1" -> "hpcb-n1"."""
    name = machine if machine.startswith("hpcb-") else f"hpcb-{machine}"
    if name not in MACHINES:
        raise TestbedError(f"There is no machine {machine}; there are: {', '.join(MACHINES)}.")
    return name
