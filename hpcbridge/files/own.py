"""Files in directories that jobs write to: opened only when they are this account's, and no other
file under a second name."""

import os
import stat
from pathlib import Path


class NotOurs(OSError):
    """What lies there is a link, no regular file, or somebody else's."""


def open_own(path: str, owner: int | None = None) -> int:
    """A descriptor to read a regular file of the account ``owner`` (a uid, by default our own).

    A file that has a second name (a hard link) is not opened at all. It may be the database, and a
    process that closes any descriptor of a file loses all its locks on it (fcntl_locking(2)):
    SQLite's too. So the file is looked at by a descriptor that has not opened it (O_PATH, open(2)).
    Raises OSError, and :class:`NotOurs`.
    """
    seen = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(seen)
        regular = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
        if not regular or status.st_uid != (os.geteuid() if owner is None else owner):
            raise NotOurs(path)
        return os.open(f"/proc/self/fd/{seen}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(seen)


def read_own(path: Path, limit: int, owner: int | None = None) -> bytes:
    """The first ``limit`` bytes of such a file. Raises what :func:`open_own` raises."""
    handle = open_own(os.fspath(path), owner)
    try:
        return os.pread(handle, limit, 0)
    finally:
        os.close(handle)
