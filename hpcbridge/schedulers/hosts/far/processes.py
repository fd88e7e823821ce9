"""Processes of this machine, found and ended by what cannot be mistaken (proc(5))."""

import os
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess

KILL_WAIT = 5.0
"""Seconds between SIGTERM and SIGKILL."""
COOKIE = "HPCBRIDGE_JOB"
"""Environment variable that every process of a job inherits: the job's id."""


def start_ticks(pid: int) -> "int | None":
    """When a process started; None where it is gone or a zombie. See proc(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def boot_id() -> str:
    """Names this boot of the machine."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def living(job_id: str) -> "list[int]":
    """All live processes of a job, whatever group, session or parent they have."""
    wanted = f"{COOKIE}={job_id}".encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if wanted in file.read().split(b"\0"):
                        found.append(int(name))
            except OSError:
                pass
    return found


def send(number: int, pids: "list[int]") -> None:
    """Signal these processes; those that are gone are no error."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            pass


def end_all(job_id: str, script: "subprocess.Popen[bytes] | None") -> None:
    """End all processes of a job: SIGTERM, and SIGKILL for what does not heed it.

    Nothing is left when nothing is found twice: a process that is just being replaced (execve(2))
    has no environment for a moment.
    """
    deadline, none = time.monotonic() + KILL_WAIT, 0
    asked = set()  # type: set[int]  # a second SIGTERM means "at once" to many programs
    while none < 2:
        found = living(job_id)
        late = time.monotonic() > deadline
        if late:
            send(signal.SIGKILL, found)
        send(signal.SIGTERM, [pid for pid in found if pid not in asked])
        asked.update(found)
        over = script is None or script.poll() is not None
        none = 0 if found or not over else none + 1
        time.sleep(0.5 if late and found else 0.05)
