"""Processes of this machine, found and ended by what cannot be mistaken (proc(5))."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

COOKIE = "HPCBRIDGE_JOB"
"""Environment variable that every process of a local job inherits: the job's name."""


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


def boot_id() -> str:
    """Names this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def with_cookie(name: str) -> list[int]:
    """The live processes that were started with ``COOKIE=name``, whatever their group or parent."""
    wanted = f"{COOKIE}={name}".encode()
    return [pid for pid, environment in _environments() if wanted in environment.split(b"\0")]


def _environments() -> Iterator[tuple[int, bytes]]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                environment = Path(entry.path, "environ").read_bytes()
                if environment:
                    yield int(entry.name), environment


def send(signal_number: signal.Signals, pids: list[int]) -> None:
    """Signal these processes; those that are gone already are no error."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal_number)
