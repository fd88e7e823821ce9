"""One machine's jobs: taken from the queue, looked after, told."""

import errno
import fcntl
import os
import signal
import sys
import time

from hpcbridge.schedulers.hosts.far.processes import boot_id, send, start_ticks
from hpcbridge.schedulers.hosts.far.state import (
    REMEMBER,
    Refused,
    State,
    ids_in,
    read_json,
    remove,
    write_json,
)
from hpcbridge.schedulers.hosts.far.supervisor import Supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LOCK_WAIT = 4.0
"""Seconds to wait for another command that looks after this machine's jobs."""


class Machine:
    """The jobs of the machine on which this runs; made for one command, under its lock."""

    def __init__(self, state: State, request: "dict[str, Any]") -> None:
        self.state = state
        self.host = request["host"]
        self.slots = request["slots"]
        self.environment = request["environment"]
        self.troubles = {}  # type: dict[str, str]
        self.lock = -1

    def __enter__(self) -> "Machine":
        os.makedirs(self.state.on(self.host), mode=0o700, exist_ok=True)
        path = os.path.join(self.state.root, "lock." + self.host)
        self.lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        deadline = time.monotonic() + LOCK_WAIT
        while True:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise Refused(f"{path} cannot be locked: {error.strerror}") from error
                if time.monotonic() > deadline:
                    raise Refused(f"another command holds {path}") from error
                time.sleep(0.02)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        os.close(self.lock)

    def ids(self) -> "list[str]":
        """The jobs that this machine has taken."""
        return ids_in(self.state.on(self.host))

    def cancel(self, wanted: "list[str]") -> None:
        """Write down that these are to end."""
        for job_id in set(wanted).intersection(self.ids()):
            if read_json(self._path(job_id, ".end")) is None:
                write_json(self._path(job_id, ".cancel"), {})

    def go_on(self) -> None:
        """Take up what a command, a supervisor or a machine that was cut off has left."""
        boot = boot_id()
        for job_id in self.ids():
            end, begun = self._read(job_id, ".end"), self._read(job_id, ".begun")
            if end is not None:
                if time.time() - end.get("at", 0) > REMEMBER:
                    self._forget(job_id)
            elif begun is None:
                self._supervise(job_id, left=False)
            elif begun["boot"] != boot:
                why = f"{self.host} was restarted"
                told = {"reason": "node_failed", "status": None, "detail": why, "at": time.time()}
                write_json(self._path(job_id, ".end"), told)
            elif not self._supervised(begun):
                self._supervise(job_id, left=True)
            elif os.path.exists(self._path(job_id, ".cancel")):
                send(signal.SIGTERM, [begun["pid"]])

    def take(self, wanted: "list[str]") -> "list[str]":
        """Start these of the queue, as far as there are slots; those that are not there any more
        are returned."""
        gone = []
        running = sum(self._read(each, ".end") is None for each in self.ids())
        for job_id in wanted:
            if running >= self.slots:
                break
            path = self._path(job_id, ".json")
            try:
                os.rename(os.path.join(self.state.queue, job_id + ".json"), path)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise
                if not os.path.exists(path):  # NFS may have done it, and asked again
                    gone.append(job_id)
                    continue
            running += 1
            if self._read(job_id, ".begun") is None:
                self._supervise(job_id, left=False)
        return gone

    def jobs(self) -> "list[dict[str, Any]]":
        """All of them, as they are told."""
        found = []
        for job_id in self.ids():
            job = self._read(job_id, ".json")
            if job is not None:
                begun, end = self._read(job_id, ".begun"), self._read(job_id, ".end")
                job["age"] = None if begun is None else max(0.0, time.time() - begun["at"])
                job["end"] = end
                job["trouble"] = self.troubles.get(job_id, "")
                found.append(job)
        return found

    def _supervise(self, job_id: str, left: bool) -> None:
        job = self._read(job_id, ".json")
        if job is None:
            return
        try:
            Supervisor(self.state, self.host, job, self.environment).start(left, self.lock)
        except (Refused, OSError) as error:
            self.troubles[job_id] = str(error)

    def _supervised(self, begun: "dict[str, Any]") -> bool:
        return begun["ticks"] is not None and start_ticks(begun["pid"]) == begun["ticks"]

    def _forget(self, job_id: str) -> None:
        # The job first: without .begun, a job that is still there would be started.
        for suffix in (".json", ".begun", ".cancel", ".end"):
            remove(self._path(job_id, suffix))

    def _path(self, job_id: str, suffix: str) -> str:
        return self.state.record(self.host, job_id, suffix)

    def _read(self, job_id: str, suffix: str) -> "dict[str, Any] | None":
        return read_json(self._path(job_id, suffix))


def look(state: State, request: "dict[str, Any]") -> "dict[str, Any]":
    """Look after this machine's jobs; ``act`` False only tells."""
    if os.path.isdir(state.root):
        state.check()
    token = state.token()
    if token != request["token"]:
        return {"token": token}
    with Machine(state, request) as machine:
        gone = []
        if request["act"]:
            machine.cancel(request["cancel"])
            machine.go_on()
            gone = machine.take(request["start"])
        return {"token": token, "jobs": machine.jobs(), "gone": gone}


def examine(state: State) -> "dict[str, Any]":
    """What the doctor wants to know."""
    import subprocess  # only here, as it takes long

    found = {"token": state.token(), "python": sys.version.split()[0], "kills": False}
    question = ["busctl", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1"]
    question += ["org.freedesktop.login1.Manager", "KillUserProcesses"]
    try:
        with open("/dev/null", "rb") as nothing:
            said = subprocess.check_output(
                question, stdin=nothing, stderr=subprocess.DEVNULL, timeout=5
            )
        found["kills"] = b"true" in said
    except (OSError, subprocess.SubprocessError):
        pass
    return found
