"""Processes of this machine, found and ended by what cannot be mistaken (proc(5))."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Collection, Iterator
from pathlib import Path

from hpcbridge.network.descriptors import usual

COOKIE = "HPCBRIDGE_JOB"
"""Environment variable that every process of a local job inherits: the job's name."""
GONE_BEAT = 0.1
"""Seconds between two looks at a process where the kernel cannot tell its end."""


def start_ticks(pid: int) -> int | None:
    """When ``pid`` started, in clock ticks since boot; None where it is gone or a zombie.

    With the pid it names a process for good: pids are used again, this pair is not.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = stat.rpartition(b")")[2].split()  # the command in parentheses may hold anything
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


async def gone(pid: int, ticks: int | None) -> None:
    """Return when the process that started at ``ticks`` has ended; it need not be a child."""
    handle = _open_process(pid)
    try:
        # Asked now, so that the handle is not that of a later process.
        while ticks is not None and start_ticks(pid) == ticks:
            if handle is None:
                await asyncio.sleep(GONE_BEAT)
            else:
                await _readable(handle)
    finally:
        if handle is not None:
            os.close(handle)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222  # does not wait


def _open_process(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError:  # gone, or a kernel before Linux 5.3
        return None


async def _readable(handle: int) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(handle, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(handle)


def boot_id() -> str:
    """Names this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def with_cookie(name: str) -> list[int]:
    """The live processes that were started with ``COOKIE=name``, whatever their group or parent."""
    wanted = f"{COOKIE}={name}".encode()
    return [pid for pid, environment in _environments() if wanted in environment.split(b"\0")]


def family(found: Collection[int], session: int | None) -> set[int]:
    """These live processes with all that they started, and that those did, and so on.

    That is who is in a process session of one of them, or in ``session``, and whose parent is one
    of them, whatever environment it has.
    """
    rest, known = _relations(), set[int]()
    sessions = set() if session is None else {session}
    new = {pid for pid in found if pid in rest}
    sessions |= {rest[pid][1] for pid in new}
    while True:
        new |= {
            pid for pid, (parent, its) in rest.items() if its in sessions or parent in known | new
        }
        if new <= known:
            return known
        known |= new
        sessions |= {rest[pid][1] for pid in new}


def _relations() -> dict[int, tuple[int, int]]:
    """Parent and process session of each live process."""
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()
                if fields[0] not in (b"Z", b"X"):
                    found[int(entry.name)] = int(fields[1]), int(fields[3])
    return found


def _environments() -> Iterator[tuple[int, bytes]]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                environment = Path(entry.path, "environ").read_bytes()
                if environment:
                    yield int(entry.name), environment


def spawn(argv: list[str], environment: dict[str, str], output: int) -> int:
    """Start a process in a session of its own, which lives on when this one ends; its pid.

    Not with asyncio or subprocess: their objects kill a child that is still running, or complain
    about it, when they are thrown away. ``output`` is a descriptor for its stdout and stderr.
    """
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, output, 2),
    ]
    pid = os.posix_spawn(
        argv[0],
        argv,
        environment,
        file_actions=actions,
        setsid=True,
        setsigmask=[],
        setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
    )
    usual(pid)
    return pid


def send(signal_number: signal.Signals, pids: list[int]) -> None:
    """Signal these processes; those that are gone already are no error."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal_number)
