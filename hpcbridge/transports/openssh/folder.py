"""The private directory of control sockets and configuration files, one for each cluster."""

import contextlib
import fcntl
import itertools
import os
import shutil
import tempfile
from pathlib import Path

from hpcbridge.errors import ConfigError
from hpcbridge.network.addresses import UNIX_PATH_LIMIT
from hpcbridge.transports.openssh.mux import terminate

PREFIX = "hpcb-ssh-"
LOCK = "lock"

# ssh binds a longer name first, and links it into place.
SUFFIX = 17


class Folder:
    """Made when first needed, mode 0700, below ``$TMPDIR`` or /tmp: socket paths must be short.

    What a service that was killed has left behind is removed then, and its masters are ended.
    """

    def __init__(self) -> None:
        self._path: Path | None = None
        self._lock: int | None = None
        self._numbers = itertools.count(1)

    def name(self) -> Path:
        """A fresh name in it. Looks at files, so it belongs into a thread.

        Raises :class:`~hpcbridge.errors.ConfigError` where its path would be too long, and OSError.
        """
        if self._path is None:
            self._make(base())
        assert self._path is not None
        name = self._path / str(next(self._numbers))
        if len(os.fsencode(name)) + SUFFIX > UNIX_PATH_LIMIT:
            raise ConfigError(
                f"The directory for ssh's control sockets, {self._path}, has too long a path. "
                "Start the service with a shorter TMPDIR."
            )
        return name

    def _make(self, where: Path) -> None:
        for old in where.glob(f"{PREFIX}*"):
            with contextlib.suppress(OSError):
                if old.lstat().st_uid == os.geteuid():
                    _clear(old)
        while self._lock is None:
            path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=where))
            self._lock = _locked(path / LOCK, os.O_CREAT)
        self._path = path

    def remove(self) -> None:
        """Remove it; its masters must have ended."""
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            self._path = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def base() -> Path:
    """Where such directories are made."""
    return Path(tempfile.gettempdir())


def discard(control: Path) -> None:
    """Remove the files of a master that is gone."""
    for suffix in ("", ".conf", ".jump"):
        with contextlib.suppress(OSError):
            control.with_suffix(suffix).unlink()


def _locked(path: Path, flags: int = 0) -> int | None:
    """A descriptor of the file, locked; None where another process has it locked."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def _clear(old: Path) -> None:
    """Remove a directory whose service is gone: nobody holds its lock."""
    lock = _locked(old / LOCK)
    if lock is None:
        return
    for each in old.iterdir():
        if each.is_socket():
            terminate(str(each))
    shutil.rmtree(old, ignore_errors=True)
    os.close(lock)
