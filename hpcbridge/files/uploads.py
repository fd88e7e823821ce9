"""A folder of uploaded files: each is written under a temporary name, and linked into place whole.

All is done by descriptors of the folder, so nothing leads out of it. Everything here blocks.
"""

import contextlib
import os
import re
import secrets
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._ -]{0,126}[A-Za-z0-9._-])?")
NAME_RULE = (
    "A file's name has 1 to 128 of the letters a to z and A to Z, digits, '.', '_', '-' and, "
    "inside, spaces; it begins with a letter, a digit or '_', and is no path."
)
PART = ".upload-"
"""How the names of unfinished files begin: no uploaded file's name does."""
STALE = 3600.0
"""Seconds after which a file that nobody writes to any more is left from a service that died."""


class NotPrivate(OSError):
    """A user's folder is another account's, or others may write to it."""


@dataclass(frozen=True)
class UploadedFile:
    """``size`` is in bytes, ``modified`` in seconds since the epoch."""

    name: str
    size: int
    modified: float


class UploadFolder:
    """``base`` has to be there; of the folders ``below`` it, those that are missing are made.

    Methods raise OSError. Use it in a ``with`` block, or :meth:`open` and :meth:`close` it.
    """

    def __init__(self, base: Path, below: Sequence[str]) -> None:
        self._base = base
        self._below = below
        self._handle = -1

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._base.joinpath(*self._below)

    def open(self) -> None:
        """Raises :class:`NotPrivate` where a folder is not our account's alone."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        self._handle = os.open(self._base, flags)
        for name in self._below:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=self._handle)
            inner = os.open(name, flags | os.O_NOFOLLOW, dir_fd=self._handle)
            os.close(self._handle)
            self._handle = inner
            status = os.fstat(inner)
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                raise NotPrivate(0, "is not this account's alone", os.fspath(self.path))

    def close(self) -> None:
        """May be called twice."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> "UploadFolder":
        try:
            self.open()
        except OSError:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def files(self) -> list[UploadedFile]:
        """What is there, by name. Links and files of other names are not."""
        found = [each for each in self._regular() if NAME.fullmatch(each.name)]
        return sorted(found, key=lambda each: each.name.lower())

    def find(self, name: str) -> UploadedFile | None:
        """The file of this name. Raises FileExistsError where something else has it."""
        try:
            status = os.lstat(name, dir_fd=self._handle)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            raise FileExistsError(0, "is no regular file", name)
        return UploadedFile(name, status.st_size, status.st_mtime)

    def used(self, *, but: Sequence[str] = ()) -> int:
        """Bytes of all files, also of unfinished ones, but for some names."""
        return sum(each.size for each in self._regular() if each.name not in but)

    def free(self) -> int:
        """Bytes that the file system has for us."""
        found = os.statvfs(self._handle)
        return found.f_bavail * found.f_frsize

    def sweep(self) -> None:
        """Remove what uploads left whose service was killed."""
        before = time.time() - STALE
        for each in self._regular():
            if each.name.startswith(PART) and each.modified < before:
                self.remove(each.name)

    def remove(self, name: str) -> None:
        """Remove a file, or do nothing where it has gone."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._handle)

    def begin(self, part: "UnfinishedFile") -> None:
        """Make a file (0600), under its temporary name."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        part.opened(os.open(part.name, flags, 0o600, dir_fd=self._handle))

    def place(self, part: "UnfinishedFile", name: str, *, replace: bool) -> None:
        """Give a whole file its name. Raises FileExistsError unless it may ``replace`` another."""
        here = self._handle
        if replace:
            os.replace(part.name, name, src_dir_fd=here, dst_dir_fd=here)
        else:
            # Unlike rename(2), it fails where the name is taken, also by one that has just come.
            os.link(part.name, name, src_dir_fd=here, dst_dir_fd=here, follow_symlinks=False)
            os.unlink(part.name, dir_fd=here)
        os.fsync(here)

    def _regular(self) -> list[UploadedFile]:
        found = []
        with os.scandir(self._handle) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        found.append(UploadedFile(entry.name, status.st_size, status.st_mtime))
        return found


class UnfinishedFile:
    """A file that is being written."""

    def __init__(self) -> None:
        self.name = f"{PART}{secrets.token_hex(12)}"
        #: Bytes that are written.
        self.size = 0
        self._handle = -1

    def opened(self, handle: int) -> None:
        """Take a descriptor over."""
        self._handle = handle

    def write(self, data: bytes) -> None:
        """Add all of ``data``. Raises OSError."""
        left = memoryview(data)
        while left:
            left = left[os.write(self._handle, left) :]
        self.size += len(data)

    def finish(self) -> None:
        """Return when the disk has it. Raises OSError: some file systems tell only now."""
        os.fsync(self._handle)
        self.close()

    def close(self) -> None:
        """May be called twice."""
        if self._handle >= 0:
            handle, self._handle = self._handle, -1
            os.close(handle)
