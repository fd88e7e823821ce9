"""The directory that all machines share: a file a fact."""

import errno
import json
import os
import stat

TYPE_CHECKING = False  # typing takes as long to import as all the rest
if TYPE_CHECKING:
    from typing import Any

REMEMBER = 3600.0
"""Seconds for which an ended job is still told."""
NONE = ".none"
"""In place of a machine, for jobs that never had one."""


class Refused(Exception):
    """It cannot be done; the text says why."""


def read_json(path: str) -> "dict[str, Any] | None":
    """The object in a file; None where it is not there. What cannot be read is no such file."""
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read().decode("utf-8"))
    except ValueError:
        found = None
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    if not isinstance(found, dict):
        raise Refused(f"{path} is not a file of this scheduler's, or is not whole")
    return found


def read_job(path: str) -> "dict[str, Any] | None":
    """The job in a file; None also where there is something else in it."""
    try:
        return read_json(path)
    except Refused:
        return None


def write_json(path: str, data: "dict[str, Any]") -> None:
    """Never seen half written."""
    new = f"{path}.{os.urandom(8).hex()}.new"
    with open(new, "wb") as file:
        file.write(json.dumps(data).encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, path)


def ids_in(directory: str) -> "list[str]":
    """The ids of the jobs in a directory, in the order of the queue."""
    try:
        names = os.listdir(directory)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return []
        raise
    return sorted(name[:-5] for name in names if name.endswith(".json"))


def remove(path: str) -> None:
    """A file that is gone already is no error."""
    try:
        os.unlink(path)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


class State:
    """The shared directory."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.queue = os.path.join(root, "queue")
        self.taken = os.path.join(root, "taken")

    def make(self) -> None:
        """Make it where it is missing; nobody else may write to it."""
        for directory in (self.queue, os.path.join(self.taken, NONE)):
            os.makedirs(directory, mode=0o700, exist_ok=True)
        self.check()
        token = os.path.join(self.root, "token")
        if not os.path.exists(token):
            new = f"{token}.{os.urandom(8).hex()}.new"
            with open(new, "w") as file:
                file.write(os.urandom(16).hex())
            try:
                os.link(new, token)  # the first one stays
            except OSError as error:
                if error.errno != errno.EEXIST:
                    raise
            remove(new)

    def check(self) -> None:
        """Raise :class:`Refused` where others could change what is here."""
        found = os.lstat(self.root)
        if not stat.S_ISDIR(found.st_mode):
            raise Refused(f"{self.root} is no directory")
        if found.st_uid != os.geteuid():
            raise Refused(
                f"{self.root} belongs to uid {found.st_uid} here, and commands run as uid "
                f"{os.geteuid()}: the account must have the same number on all machines"
            )
        if found.st_mode & 0o022:
            raise Refused(f"{self.root} can be written by others: chmod go-w it")

    def token(self) -> str:
        """What is in ``token``; "" where this machine does not see it."""
        try:
            with open(os.path.join(self.root, "token")) as file:
                return file.read(64)
        except OSError:
            return ""

    def on(self, host: str) -> str:
        """The directory of a machine's jobs."""
        return os.path.join(self.taken, host)

    def waiting(self) -> "list[dict[str, Any]]":
        """The jobs that wait."""
        found = []
        for job_id in ids_in(self.queue):
            job = read_job(os.path.join(self.queue, job_id + ".json"))
            if job is not None:
                found.append(job)
        return found

    def holder(self, job_id: str) -> "str | None":
        """The machine that has taken a job; None where none has."""
        for host in os.listdir(self.taken):
            if os.path.exists(os.path.join(self.taken, host, job_id + ".json")):
                return host
        return None

    def record(self, host: str, job_id: str, suffix: str) -> str:
        """One of a job's files."""
        return os.path.join(self.on(host), job_id + suffix)
