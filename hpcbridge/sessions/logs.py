"""The output of sessions: read while their jobs run, kept for a while when they have ended.

While a job runs, its output is the file ``output.log`` of its session directory. When it has ended,
that file is copied here before the directory is removed. The session's secret, should the
application have printed it, is blotted out with as many asterisks, so that offsets stay the same.
Where a service copies what an earlier one has ended, nobody knows the secret any more: then all
that could be one is blotted out.
"""

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hpcbridge.clusters.cluster import Cluster
from hpcbridge.config.logs import MIB, LogSettings
from hpcbridge.errors import ClusterError, ConfigError
from hpcbridge.files.directories import closed_to_others
from hpcbridge.store import SessionRow
from hpcbridge.transports.base import Slice, Transport

log = logging.getLogger(__name__)

CHUNK = 2**19
"""Bytes that are read at once."""
CUT = b"\n[... %d bytes are left out here ...]\n"
_OURS = re.compile(r"hpcb-[0-9a-f]{8}-[0-9a-f]{24}\.(log|new)")
"""Names of kept output: those of our jobs."""
SECRET_DIGITS = 48
"""Hexadecimal digits of a session's secret."""
_SECRET = re.compile(rb"[0-9a-f]{%d,}" % SECRET_DIGITS)
COPY_LIMIT = 60.0
"""Seconds that copying one session's output may take: the directory waits for it."""


@dataclass(frozen=True)
class LogPart:
    """``data`` begins ``offset`` bytes into the output. ``more`` says whether more of it is there
    now, and ``ended`` that nothing will be added."""

    data: bytes
    offset: int
    more: bool
    ended: bool

    @property
    def next(self) -> int:
        """Where the next part begins."""
        return self.offset + len(self.data)


class Logs:
    """All sessions' output. ``directory`` holds what is kept, one file a session."""

    def __init__(self, directory: Path, settings: LogSettings) -> None:
        self._directory = directory
        self._settings = settings

    def prepare(self) -> None:
        """Make the directory. Raises :class:`~hpcbridge.errors.ConfigError`."""
        if not self._settings.keep:
            return
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            closed_to_others("logs.directory", self._directory / "x")
            self._directory.chmod(0o700)
        except OSError as error:
            raise ConfigError(
                f"logs.directory: {self._directory} cannot be prepared: {error.strerror}."
            ) from error

    async def live(self, cluster: Cluster, row: SessionRow, offset: int, limit: int) -> LogPart:
        """Part of what a session that has not ended has printed so far.

        Raises :class:`~hpcbridge.errors.ClusterError` where it cannot be read now.
        """
        path = f"{row.directory}/output.log"
        data = b""
        if row.directory:
            data = await _blotted(cluster.transport, path, offset, limit, row.secret)
        return LogPart(data, offset, len(data) == limit, ended=False)

    async def kept(self, row: SessionRow, offset: int, limit: int) -> LogPart | None:
        """Part of what an ended session has printed; None where nothing is kept of it."""
        return await asyncio.to_thread(self._kept, row, offset, limit)

    def _kept(self, row: SessionRow, offset: int, limit: int) -> LogPart | None:
        try:
            handle = os.open(self._path(row), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            size = os.fstat(handle).st_size
            data = os.pread(handle, limit, min(offset, size))
        finally:
            os.close(handle)
        return LogPart(data, offset, offset + len(data) < size, ended=True)

    def _path(self, row: SessionRow) -> Path:
        return self._directory / f"{row.job_name}.log"

    async def keep(self, cluster: Cluster, row: SessionRow, secret: str | None) -> None:
        """Copy a session's output before its directory is removed.

        ``secret`` None is one that nobody knows any more. A failure is logged, and the session is
        cleaned up all the same.
        """
        if not self._settings.keep or not row.directory:
            return
        try:
            async with asyncio.timeout(COPY_LIMIT):
                await self._copy(cluster.transport, row, secret)
        except (ClusterError, OSError, TimeoutError) as error:
            log.warning("session %s: its output is not kept: %s", row.job_name, error)

    async def _copy(self, transport: Transport, row: SessionRow, secret: str | None) -> None:
        source, whole = f"{row.directory}/output.log", self._settings.session_limit * MIB
        target = self._path(row)
        new = target.with_suffix(".new")
        end = await _size(transport, source)
        if not end:
            return
        with _private(new) as handle:
            for start, stop in _parts(end, whole):
                if start:
                    await asyncio.to_thread(os.write, handle, CUT % (end - whole))
                while start < stop:
                    many = min(CHUNK, stop - start)
                    data = await _blotted(transport, source, start, many, secret)
                    if not data:
                        break
                    await asyncio.to_thread(os.write, handle, data)
                    start += len(data)
        await asyncio.to_thread(new.replace, target)

    async def prune(self) -> None:
        """Remove what is older or more than the settings allow."""
        if self._settings.keep:
            await asyncio.to_thread(self._prune)

    def _prune(self) -> None:
        found = []
        with contextlib.suppress(OSError):
            for path in self._directory.iterdir():
                with contextlib.suppress(OSError):
                    status = path.lstat()
                    if _OURS.fullmatch(path.name):  # nothing of somebody else's
                        found.append((status.st_mtime, status.st_size, path))
        total, oldest = 0, time.time() - self._settings.keep
        for written, size, path in sorted(found, reverse=True):
            total += size
            if written < oldest or total > self._settings.total_limit * MIB:
                with contextlib.suppress(OSError):
                    path.unlink()


def _parts(end: int, whole: int) -> list[tuple[int, int]]:
    """Which bytes of ``end`` are kept: all, or the first and the last halves of ``whole``."""
    if end <= whole:
        return [(0, end)]
    return [(0, whole // 2), (end - whole // 2, end)]


@contextlib.contextmanager
def _private(path: Path) -> Iterator[int]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    handle = os.open(path, flags, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)


async def _size(transport: Transport, path: str) -> int:
    """Bytes in a file, found by looking where it ends; 0 where it is not there.

    Transports read and tell no sizes; the end is between the last byte that is there and the first
    that is not.
    """
    low, high = 0, CHUNK
    while (await transport.read([Slice(path, high - 1, 1)]))[0]:
        low, high = high, high * 4
    while low < high:
        middle = (low + high) // 2
        if (await transport.read([Slice(path, middle, 1)]))[0]:
            low = middle + 1
        else:
            high = middle
    return low


async def _blotted(
    transport: Transport, path: str, offset: int, limit: int, secret: str | None
) -> bytes:
    """Bytes of a file without the secret, also where it crosses the borders of this part.

    Without anything that could be one where ``secret`` is None.
    """
    around = len(secret) - 1 if secret else SECRET_DIGITS - 1
    before = min(around, offset)
    (data,) = await transport.read([Slice(path, offset - before, before + limit + around)])
    if not data:
        return b""
    if secret:
        data = data.replace(secret.encode(), b"*" * len(secret.encode()))
    else:
        data = _SECRET.sub(lambda found: b"*" * len(found[0]), data)
    return data[before : before + limit]
