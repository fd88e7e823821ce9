"""Start and stop long-running programs inside the cluster's machines, by pid file.

Every daemon runs in the foreground mode of its program, so that the pid is known here and its
output lands in one log. A pid file holds the pid and the process's start time, which together are
never reused.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from testbed import network
from testbed.layout import HERE, MACHINES, Layout, TestbedError

#: What commands inside the cluster find; Debian keeps daemons and `ip` in sbin.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Daemon:
    """One program on one machine; it is ready when it listens on `port` or accepts on `socket`.

    `installed` is this machine's own program, also where the others are of another Debian release.
    """

    name: str
    machine: str
    arguments: tuple[str, ...]
    port: int | None = None
    socket: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)
    installed: bool = False


def enter(layout: Layout, machine: str, arguments: Iterable[str]) -> list[str]:
    """The command line that runs `arguments` on `machine`, as root."""
    if layout.root is not None:
        arguments = ["sh", str(HERE / "inroot.sh"), str(layout.root), str(layout.state), *arguments]
    return [
        program("nsenter"),
        f"--net={network.namespace_file(machine)}",
        "unshare",
        "--uts",
        "--mount",
        "--propagation=unchanged",  # inside.sh sets it: unshare's own way fails in a chroot
        "sh",
        str(HERE / "inside.sh"),
        machine,
        str(layout.state),
        *arguments,
    ]


def start(layout: Layout, daemon: Daemon, timeout: float = 20) -> bool:
    """Start the daemon and wait until it is ready; False when it was running already."""
    if is_running(layout, daemon.name):
        return False
    there = replace(layout, root=None) if daemon.installed else layout
    argv = enter(there, daemon.machine, daemon.arguments)
    log = layout.log / f"{daemon.name}.out"
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    # Not subprocess.Popen: it would warn, in a test, that the daemon outlives the object.
    pid = os.posix_spawn(
        argv[0],
        argv,
        {"PATH": PATH, **daemon.environment},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    _pid_file(layout, daemon.name).write_text(f"{pid} {_start_time(pid)}\n")
    wait_until(
        lambda: _is_ready(daemon, pid),
        timeout,
        lambda: (
            f"{daemon.name} does not answer after {timeout:g} s; see {layout.log}:\n{_tail(log)}"
        ),
        lambda: (
            None
            if is_running(layout, daemon.name)
            else f"{daemon.name} ended at once:\n{_tail(log)}"
        ),
    )
    return True


def stop(layout: Layout, *names: str, timeout: float = 10) -> bool:
    """Stop daemons, by force after `timeout` seconds; False when none of them was running."""
    pids = [pid for name in names if (pid := running_pid(layout, name)) is not None]
    for pid in pids:
        send(pid, signal.SIGCONT)  # a frozen process would not see SIGTERM
    _end(pids, timeout)
    for name in names:
        _pid_file(layout, name).unlink(missing_ok=True)
    return bool(pids)


def stop_rest(timeout: float = 5) -> int:
    """End what is left in the cluster's own namespaces (jobs, SSH sessions); how many there were.

    A process can be in them only if the cluster put it there, so this reaches nobody else's.
    """
    left = [pid for machine in MACHINES for pid in network.processes(machine) if pid != os.getpid()]
    _end(left, timeout)
    return len(left)


def running_pid(layout: Layout, name: str) -> int | None:
    """The daemon's pid if that process still runs and is the one that was started."""
    try:
        pid, started = _pid_file(layout, name).read_text().split()
    except (OSError, ValueError):
        return None
    return int(pid) if _is_alive(int(pid)) and _start_time(int(pid)) == started else None


def is_running(layout: Layout, name: str) -> bool:
    """Does the daemon run?"""
    return running_pid(layout, name) is not None


def command(pid: int) -> str:
    """The name of the program that the process runs, or nothing when it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def wait_until(
    condition: Callable[[], bool],
    timeout: float,
    message: Callable[[], str],
    failed: Callable[[], str | None] = lambda: None,
) -> None:
    """Ask until `condition` holds; raise `message` after `timeout` seconds, `failed` at once."""
    deadline = time.monotonic() + timeout
    pause = 0.005
    while not condition():
        if (reason := failed()) is not None:
            raise TestbedError(reason)
        if time.monotonic() > deadline:
            raise TestbedError(message())
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def _is_ready(daemon: Daemon, pid: int) -> bool:
    if daemon.port is not None and daemon.port not in _listening_ports(pid):
        return False
    return daemon.socket is None or _accepts(daemon.socket)


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(os.fsencode(path)) == 0


def _listening_ports(pid: int) -> set[int]:
    """TCP ports somebody listens on in the network namespace of `pid`: proc(5), /proc/net/tcp."""
    ports = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A":  # TCP_LISTEN
                    ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


def _end(pids: list[int], timeout: float) -> None:
    for pid in pids:
        send(pid, signal.SIGTERM)
    try:
        wait_until(lambda: not any(map(_is_alive, pids)), timeout, lambda: "still there")
    except TestbedError:
        for pid in filter(_is_alive, pids):
            send(pid, signal.SIGKILL)
        wait_until(
            lambda: not any(map(_is_alive, pids)), 10, lambda: f"cannot end processes {pids}"
        )


def _is_alive(pid: int) -> bool:
    """A zombie counts as ended: the first process of a container may reap late, or not at all."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    fields = _stat(pid)
    return bool(fields) and fields[0] not in "ZX"


def _start_time(pid: int) -> str:
    fields = _stat(pid)
    return fields[19] if fields else "gone"


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat, see proc(5), after its second field, which may hold spaces and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _pid_file(layout: Layout, name: str) -> Path:
    return layout.run / f"{name}.pid"


def program(name: str) -> str:
    """The absolute path of an installed program (sshd insists on one)."""
    found = shutil.which(name, path=PATH)
    if found is None:
        raise TestbedError(f"{name} is not installed: run python3 -m testbed install.")
    return found


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""
