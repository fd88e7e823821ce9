"""The supervisor of one job: a process of its own, which needs no service."""

import os
import signal
import time

from hpcbridge.schedulers.hosts.far.processes import COOKIE, boot_id, end_all, start_ticks
from hpcbridge.schedulers.hosts.far.state import Refused, State, remove, write_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from typing import Any

CANCEL_LOOK = 60.0
"""Seconds between two looks for a cancellation whose signal got lost."""
SAVE_LIMIT = 600.0
"""Seconds for which a full or absent file system is waited for when a job has ended."""


class Supervisor:
    """Runs one job, for as long as it takes, with or without a service."""

    def __init__(
        self, state: State, host: str, job: "dict[str, Any]", environment: "dict[str, str]"
    ) -> None:
        self.job = job
        self.host = host
        self.environment = environment
        self.begun = state.record(host, job["id"], ".begun")
        self.cancel = state.record(host, job["id"], ".cancel")
        self.end = state.record(host, job["id"], ".end")

    def start(self, left: bool, lock: int) -> None:
        """Start it, detached; ``left`` is True where one before it was lost. Returns when the job
        is known to have one. Raises :class:`Refused` where it could not be."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.setsid()
                if os.fork() == 0:
                    os.close(lock)
                    os.close(reader)
                    self._detached(left, writer)
            finally:
                os._exit(0)
        os.close(writer)
        os.waitpid(child, 0)
        said = b""
        with os.fdopen(reader, "rb") as pipe:
            said = pipe.read(300)
        if said != b"begun":
            raise Refused(said.decode("utf-8", "replace") or "its supervisor ended at once")

    def _detached(self, left: bool, writer: int) -> None:
        signals = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        nothing = os.open("/dev/null", os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        os.chdir("/")
        try:
            pid = os.getpid()
            told = {"pid": pid, "ticks": start_ticks(pid), "boot": boot_id(), "at": time.time()}
            write_json(self.begun, told)
        except OSError as error:
            os.write(writer, f"it cannot be written down: {error.strerror}".encode())
            return
        os.write(writer, b"begun")
        os.close(writer)
        if left:
            end_all(self.job["id"], None)
            self._ended(self._asked() or "failed", None, "its supervisor was killed")
        elif self._asked():
            self._ended("cancelled", None, "")
        else:
            self._run(signals)

    def _run(self, signals: "set[signal.Signals]") -> None:
        try:
            script = self._script()
        except OSError as error:
            self._ended("failed", None, f"it did not start: {error.strerror}")
            return
        reason, detail = self._watch(script, signals)
        end_all(self.job["id"], script)
        status = script.returncode
        if reason is None:
            reason = "failed" if status else "finished"
        self._ended(reason, status, detail)

    def _script(self) -> "subprocess.Popen[bytes]":
        import subprocess  # only here, as it takes long

        directory = self.job["directory"]
        told = os.path.join(directory, "scheduler.out")
        remove(told)  # another job's link to a file of ours, maybe
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW
        output = os.open(told, flags, 0o600)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SSH_")}
        environment = dict(inherited, **self.environment)
        environment[COOKIE] = self.job["id"]
        try:
            return subprocess.Popen(
                [self.job["script"]],
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=unblocked,  # this process has one thread
            )
        finally:
            os.close(output)

    def _watch(
        self, script: "subprocess.Popen[bytes]", signals: "set[signal.Signals]"
    ) -> "tuple[str | None, str]":
        """Until the script has ended, or has to; why it has to, and more of that."""
        walltime = self.job.get("walltime")
        deadline = None if walltime is None else time.monotonic() + walltime
        while script.poll() is None:
            left = CANCEL_LOOK if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return "timed_out", ""
            told = signal.sigtimedwait(signals, min(left, CANCEL_LOOK))
            if self._asked():
                return "cancelled", ""
            if told is not None and told.si_signo != signal.SIGCHLD:
                return "cancelled", "its supervisor was told to end, as when a machine shuts down"
        return None, ""

    def _asked(self) -> "str | None":
        return "cancelled" if os.path.exists(self.cancel) else None

    def _ended(self, reason: str, status: "int | None", detail: str) -> None:
        told = {"reason": reason, "status": status, "detail": detail, "at": time.time()}
        deadline = time.monotonic() + SAVE_LIMIT
        while os.path.isdir(os.path.dirname(self.end)) and time.monotonic() < deadline:
            try:
                write_json(self.end, told)
            except OSError:
                time.sleep(2)
            else:
                return


def unblocked() -> None:
    """A job starts with no signal blocked or ignored."""
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    for number in (signal.SIGHUP, signal.SIGPIPE, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
