"""Secrets that come from files: nobody but the service's account and root may reach them."""

import os
import stat
from pathlib import Path

from hpcbridge.errors import ConfigError
from hpcbridge.files.directories import closed_to_others

LIMIT = 65536
"""Bytes that such a file may have."""


def read(path: Path, setting: str, *, links: bool = False) -> bytes:
    """The file's content, for the ``setting`` that names it.

    With ``links``, the path may be a symbolic link that nobody else can change.

    Raises :class:`~hpcbridge.errors.ConfigError` where it is missing, a link, no regular file, too
    large, or where another account could read or change it, or put its own in its place.
    """
    closed_to_others(setting, path)
    try:
        # A FIFO would block; a link could lead to what somebody else may change.
        follow = 0 if links else os.O_NOFOLLOW
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | follow)
    except OSError as error:
        raise ConfigError(f"{setting}: {path} cannot be read: {error.strerror}.") from error
    try:
        if wrong := _wrong(os.fstat(handle)):
            raise ConfigError(f"{setting}: {path} {wrong}")
        content = os.read(handle, LIMIT + 1)
    finally:
        os.close(handle)
    if len(content) > LIMIT:
        raise ConfigError(f"{setting}: {path} has more than {LIMIT} bytes.")
    return content


def _wrong(status: os.stat_result) -> str | None:
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file."
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to uid {status.st_uid}; it must be root's or the service's (chown)."
    mode = stat.S_IMODE(status.st_mode)
    # systemd's credentials are so, with an entry for the service in their ACL (systemd.exec(5)).
    if (status.st_uid, status.st_gid, mode) == (0, 0, 0o440):
        return None
    if mode & 0o077:
        return f"has the mode {mode:04o}, so others can reach it. chmod 600 it."
    return None
