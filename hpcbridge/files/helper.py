#!/usr/bin/python3 -I
"""hpcbridge-files: makes, reads and removes the session directories of the account that runs it.

    hpcbridge-files LEAST_UID [ROOT]

Installed where commands run (root:root, 0755), and allowed to hpcbridge's account by sudoers(5).
It works only in directories ROOT/NAME, where ROOT is ~/.hpcbridge or the path that sudoers gives,
in which {account} stands for the account's name. It follows no symbolic link below ROOT and runs
no program. An account whose number is below LEAST_UID is refused.

Requests come on standard input and replies go to standard output, until the input ends. Each is a
length (4 bytes, big-endian) and as many bytes of JSON. Python 3.8 and its library are enough.
"""

# os.path and not pathlib: a log is looked at often.
# ruff: noqa: PTH102, PTH108, PTH112, PTH114, PTH115, PTH116, PTH117, PTH118, PTH120

from __future__ import annotations

import base64
import errno
import json
import os
import pwd
import re
import shutil
import stat
import struct
import sys
from typing import Any

REQUEST_LIMIT = 16 * 2**20
READ_LIMIT = 2**20
LINKS_LIMIT = 40
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def main(arguments: list[str]) -> int:
    """Answer requests; the exit status is 0, or 2 where nothing was done."""
    if len(arguments) not in (1, 2) or not arguments[0].isdigit():
        return refuse("usage: hpcbridge-files LEAST_UID [ROOT]")
    uid = os.getuid()
    if uid != os.geteuid() or uid < int(arguments[0]):
        return refuse(f"the account with the number {uid} is the system's own")
    account = pwd.getpwuid(uid)
    root = os.path.join(account.pw_dir, ".hpcbridge")
    if len(arguments) == 2:
        root = arguments[1].replace("{account}", account.pw_name)
    if not os.path.isabs(root):
        return refuse(f"{root} is not an absolute path")
    os.umask(0o077)
    serve(Files(root, account.pw_dir))
    return 0


def refuse(why: str) -> int:
    """Tell why nothing is done."""
    sys.stderr.write(f"hpcbridge-files: {why}\n")
    return 2


def serve(files: Files) -> None:
    """One reply for each request."""
    while True:
        head = sys.stdin.buffer.read(4)
        if len(head) < 4:
            return
        (length,) = struct.unpack(">I", head)
        if length > REQUEST_LIMIT:
            return
        reply = answer(files, sys.stdin.buffer.read(length))
        data = json.dumps(reply).encode()
        sys.stdout.buffer.write(struct.pack(">I", len(data)) + data)
        sys.stdout.buffer.flush()


def answer(files: Files, request: bytes) -> dict[str, Any]:
    """The reply; ``error`` in it says why something was not done."""
    does: dict[str, Any] = {
        "hello": files.hello,
        "stage": files.stage,
        "read": files.read,
        "remove": files.remove,
    }
    try:
        wanted = json.loads(request.decode())
        return dict(does[wanted.pop("do")](**wanted))
    except OSError as error:
        return {"error": error.strerror or str(error)}
    except (ValueError, TypeError, AttributeError, KeyError):
        return {"error": "a request that this hpcbridge-files does not know; is it an old one?"}


class Files:
    """The session directories below ``root``."""

    def __init__(self, root: str, home: str) -> None:
        self.root = root
        self.home = home

    def hello(self) -> dict[str, Any]:
        """Where this is, and for whom."""
        return {"root": self.root, "home": self.home}

    def stage(self, name: str, files: dict[str, tuple[int, str]]) -> dict[str, Any]:
        """Make the directory ``name`` (0700), with files of (mode, content in base64)."""
        path = self._path(name)
        above, missing = self.root, []
        while not os.path.isdir(above):
            missing.append(above)
            above = os.path.dirname(above)
        for parent in reversed(missing):
            os.mkdir(parent, 0o700)
        if above := open_to_others(path):
            return {"error": f"others could replace what is in {above}"}
        os.mkdir(path, 0o700)
        directory = self._open(name)
        try:
            for file, (mode, content) in files.items():
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                handle = os.open(checked(file), flags, mode & 0o700, dir_fd=directory)
                with os.fdopen(handle, "wb") as out:
                    out.write(base64.b64decode(content))
        finally:
            os.close(directory)
        return {}

    def read(self, wanted: list[tuple[str, str, int, int]]) -> dict[str, Any]:
        """The slices (name, file, offset, limit); null for what is no file of this account.

        A file with a second name (a hard link) may be another one's, and counts as none."""
        found: list[str | None] = []
        for name, file, offset, limit in wanted:
            try:
                data = self._slice(name, file, offset, min(limit, READ_LIMIT))
            except OSError:
                data = None
            found.append(None if data is None else base64.b64encode(data).decode())
        return {"found": found}

    def remove(self, name: str) -> dict[str, Any]:
        """Remove the directory ``name`` and all below it; of a link, only the link."""
        path = self._path(name)
        if os.path.islink(path):
            os.unlink(path)
        elif os.path.isdir(path):
            shutil.rmtree(path)
        return {}

    def _slice(self, name: str, file: str, offset: int, limit: int) -> bytes | None:
        directory = self._open(name)
        try:
            # O_NONBLOCK: a FIFO in the log's place must not hang us.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            handle = os.open(checked(file), flags, dir_fd=directory)
        finally:
            os.close(directory)
        try:
            status = os.fstat(handle)
            regular = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
            if not regular or status.st_uid != os.getuid():
                return None
            start = offset if offset >= 0 else max(0, status.st_size + offset)
            return os.pread(handle, limit, start)
        finally:
            os.close(handle)

    def _open(self, name: str) -> int:
        return os.open(self._path(name), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)

    def _path(self, name: str) -> str:
        return os.path.join(self.root, checked(name))


def open_to_others(path: str) -> str:
    """The directory in which others could put theirs in place of ``path``; "" for none.

    Each directory on the way is looked at, also on the way of each symbolic link: it has to belong
    to root or to this account, and nobody else may write to it. Where it is sticky others may, but
    what lies in it on this way has to be root's or this account's own.

    ``path`` is absolute. Raises OSError where a directory is missing or cannot be looked at.
    """
    mine, at, left = (0, os.geteuid()), "/", path.split("/")[::-1]
    links = 0
    while left:
        name = left.pop()
        if name == "..":
            at = os.path.dirname(at)
        if name in ("", ".", ".."):
            continue
        above, at = at, os.path.join(at, name)
        status = os.stat(above)
        found = os.lstat(at) if left or os.path.lexists(at) else None
        shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        kept = status.st_mode & stat.S_ISVTX and (found is None or found.st_uid in mine)
        if status.st_uid not in mine or (shared and not kept):
            return above
        if found is not None and stat.S_ISLNK(found.st_mode):
            links += 1
            if links > LINKS_LIMIT:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = os.readlink(at)
            at = "/" if target.startswith("/") else above
            left += target.split("/")[::-1]
    return ""


def checked(name: str) -> str:
    """The name of a directory or a file, never a path."""
    if not NAME.fullmatch(name):
        raise ValueError(name)
    return name


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
