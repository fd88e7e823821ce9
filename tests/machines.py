"""Machines without a batch system: a real sshd each, on addresses of the loopback (root).

They are one machine in truth, with the same processes and files, which is what a shared file
system makes of several as far as jobs can see. ``python`` is theirs, and can be made to fail.

with Machines(tmp_path, "127.0.1.1", "127.0.1.2") as machines:
    clusters.build("lab", machines.settings(slots=2), tmp_path)
"""

import contextlib
import os
import shutil
import signal
import socket
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hpcbridge.config.hosts import HostsCluster
from tests.opensshd import OpenSSHD
from tests.waiting import wait_until

PYTHON = """#!/bin/sh
if [ -e {directory}/garbled ]; then cat >/dev/null; echo '<html>502 Bad Gateway</html>'; exit; fi
if [ -e {directory}/lost ]; then exec >/dev/null; fi
exec {python} "$@"
"""


class Machine(OpenSSHD):
    """One of them, which can be taken off the network, or freeze."""

    def sessions(self) -> list[int]:
        """The server's processes, and nothing that it has started for anybody."""
        assert self._process is not None
        found, parents = [self._process.pid], _parents()
        for pid in found:
            found += [each for each, parent in parents.items() if parent == pid and _is_sshd(each)]
        return found

    def stop(self) -> None:
        """Refuse connections from now on, and break off those that there are."""
        sessions = self.sessions()
        self.__exit__(None, None, None)
        _signal(signal.SIGKILL, sessions[1:])

    def start(self) -> None:
        """Be there again."""
        self.__enter__()

    def freeze(self) -> None:
        """Answer nothing any more, and close nothing."""
        _signal(signal.SIGSTOP, self.sessions())

    def thaw(self) -> None:
        """Go on."""
        _signal(signal.SIGCONT, self.sessions())

    def trust(self, name: str = "") -> None:
        """Its host key is added to what all clients know."""
        known = self.known_hosts.read_text() if self.known_hosts.exists() else ""
        key = self.host_key.export_public_key().decode().strip()
        line = f"[{self.address}]:{self.port} {key}\n"
        if line not in known:
            self.known_hosts.write_text(known + line)
            self.known_hosts.chmod(0o600)


class Machines:
    """Some of them, all at one port, with one account and one key."""

    def __init__(self, directory: Path, *addresses: str) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.addresses = addresses
        self.root = directory / "shared"
        self.python = directory / "python"
        self.python.write_text(PYTHON.format(directory=directory, python=sys.executable))
        self.python.chmod(0o755)
        self._all: dict[str, Machine] = {}

    def __enter__(self) -> Self:
        port = 0
        for address in self.addresses:
            place = self.directory / address
            place.mkdir(exist_ok=True)
            machine = Machine(place, "MaxStartups 100", address=address, port=port)
            machine.known_hosts = self.directory / "known_hosts"
            if first := next(iter(self._all.values()), None):
                shutil.copy(first.directory / "authorized_keys", place / "authorized_keys")
                machine.key_file = first.key_file
            if not port:
                machine.port = port = _free(self.addresses)
            machine.start()
            self._all[address] = machine
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for machine in self._all.values():
            with contextlib.suppress(ProcessLookupError):
                machine.thaw()
                machine.stop()

    def __getitem__(self, address: str) -> Machine:
        return self._all[address]

    def settings(self, *, slots: int = 2, login: str = "", **more: Any) -> HostsCluster:
        """The cluster that they are; commands run on ``login``, or here."""
        machine = self._all[login or self.addresses[0]]
        access = {
            "user": "root",
            "known_hosts": str(machine.known_hosts),
            "identity_files": [str(machine.key_file)],
            "connect_timeout": 30,
        }
        hosts = [{"name": each, "slots": slots} for each in self.addresses if each != login]
        given = {
            "scheduler": "hosts",
            "hosts": hosts,
            "access": access,
            "tunnel": {"node_port": machine.port},
            "session_root": str(self.root),
            "python": str(self.python),
            "command_timeout": 30,
        }
        if login:
            given["ssh"] = machine.settings(known_hosts=machine.known_hosts).model_dump()
        return HostsCluster.model_validate(given | more)


def _free(addresses: tuple[str, ...]) -> int:
    """A port that nobody has on any of these."""

    def found() -> int:
        with contextlib.ExitStack() as stack:
            port = 0
            for each in addresses:
                with contextlib.suppress(OSError):
                    server = stack.enter_context(socket.create_server((each, port)))
                    port = server.getsockname()[1]
                    continue
                return 0
            return port

    port: int = wait_until(found, "a port")
    return port


def _parents() -> dict[int, int]:
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    return found


def _is_sshd(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().startswith("sshd")
    return False


def _signal(number: signal.Signals, pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
