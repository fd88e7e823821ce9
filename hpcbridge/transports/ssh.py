"""Commands and files of another host, over one kept SSH connection."""

import asyncio
import contextlib
import io
import re
import tarfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import asyncssh

from hpcbridge.errors import ClusterError, ClusterUnreachable, OutcomeUnknown, UnexpectedReply
from hpcbridge.transports.base import Completed, Slice, StagedFile
from hpcbridge.transports.connection import SSHHost, uncut
from hpcbridge.transports.frame import NOISE_LIMIT, Answer, Frame
from hpcbridge.transports.sessions import Sessions, full
from hpcbridge.transports.staging import STAGE_SCRIPT

OUTPUT_LIMIT = 16 * 2**20
"""Bytes of output that a command may print."""

# An NFS client checks whether a file grew when the file is opened, not when an open one is read:
# a handle older than this (seconds) is opened anew.
HANDLE_AGE = 0.5

# sshd's MaxSessions refuses the eleventh session of a connection. SFTP is one, and a few may be
# over here and not yet there.
COMMANDS_AT_ONCE = 6

READ_LIMIT = 10.0
"""Seconds that a file may take to answer."""

NAMES_LIMIT = 4096
"""Names in a session directory beyond which its files are not found."""

# Bytes that any server gives in one reply. What is new in a log is seldom more, and asyncssh splits
# a longer read into many requests, most of them beyond the end.
BLOCK = 16384


@dataclass
class _Open:
    file: asyncssh.SFTPClientFile
    opened: float


class SSHTransport:
    """Implements :class:`~hpcbridge.transports.base.Transport` over SSH."""

    follow_interval = 0.03

    def __init__(self, host: SSHHost) -> None:
        self._host = host
        self._sessions = Sessions(host)
        self._sftp: asyncssh.SFTPClient | None = None
        self._sftp_connection: asyncssh.SSHClientConnection | None = None
        self._starting = asyncio.Lock()
        self._slots = asyncio.Semaphore(COMMANDS_AT_ONCE)
        self._files: dict[str, _Open] = {}

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float) -> Completed:  # noqa: ASYNC109
        """See :meth:`hpcbridge.transports.base.Transport.run`. Commands wait for their turn."""
        async with self._slots:
            return await self._run(argv, stdin, timeout)

    async def _run(self, argv: Sequence[str], stdin: bytes, timeout: float) -> Completed:  # noqa: ASYNC109
        await self._host.connection()
        name, frame = argv[0], Frame()
        try:
            async with asyncio.timeout(timeout), self._sessions.command(argv, timeout) as process:
                with contextlib.suppress(BrokenPipeError):  # a quick one is over already
                    process.stdin.write(frame.cue + stdin)
                    process.stdin.write_eof()
                out, err = await asyncio.gather(_capped(process.stdout), _capped(process.stderr))
                result = await process.wait()
        except asyncssh.ChannelOpenError as error:
            raise full(self._host, name, error) from error
        except TimeoutError as error:
            raise OutcomeUnknown(
                f"{name} on {self._host.name} did not answer within {timeout:g} s."
            ) from error
        except (asyncssh.Error, OSError) as error:
            raise OutcomeUnknown(
                f"The connection to {self._host.name} was lost while {name} ran."
            ) from error
        answer = frame.cut(out, err)
        said = answer or Answer(0, out, err)
        if max(len(said.stdout), len(said.stderr)) > OUTPUT_LIMIT:
            raise UnexpectedReply(f"{name} printed more than {OUTPUT_LIMIT} bytes.")
        if answer is None:
            raise self._unanswered(name, result.returncode, out, err, frame)
        return Completed(tuple(argv), answer.exit_status, answer.stdout, answer.stderr)

    def _unanswered(
        self, name: str, status: int | None, out: bytes, err: bytes, frame: Frame
    ) -> ClusterUnreachable:
        """Why there is no whole answer, and whether the command may have run."""
        if frame.began(out, err) or not status:
            return OutcomeUnknown(
                f"The connection to {self._host.name} was lost while {name} ran."
                if status is None
                else f"{name} on {self._host.name} ended without a whole answer ({status})."
            )
        words = (err.strip() or out.strip()).decode("utf-8", "replace")[-300:]
        return ClusterUnreachable(
            f"The login shell of {self._host.name} did not run {name} ({status}): "
            f"{words or 'it did not say why'}."
        )

    async def home(self) -> str:
        """See :meth:`hpcbridge.transports.base.Transport.home`."""
        await self._host.connection()
        if not self._host.home.startswith("/"):
            raise ClusterError(
                f"The account on {self._host.name} has no home directory. "
                "Set the cluster's session_root to an absolute path."
            )
        return self._host.home

    async def stage(self, directory: str, files: Mapping[str, StagedFile]) -> None:
        """See :meth:`hpcbridge.transports.base.Transport.stage`."""
        argv = ["/bin/sh", "-c", STAGE_SCRIPT, "hpcbridge-stage", directory]
        done = await self.run(argv, stdin=_archive(files), timeout=20)
        if done.exit_status != 0:
            raise ClusterError(
                f"The session directory {directory} on {self._host.name} cannot be written: "
                f"{done.err.strip()[-300:] or 'no reason was given'}. Check the owner, the mode "
                "and the free space of the cluster's session_root."
            )

    async def read(self, wanted: Sequence[Slice]) -> list[bytes | None]:
        """See :meth:`hpcbridge.transports.base.Transport.read`."""
        return await uncut(self._read_all(wanted))  # cut off, it would leave handles open

    async def _read_all(self, wanted: Sequence[Slice]) -> list[bytes | None]:
        sftp = await self._client()
        results = await asyncio.gather(
            *(self._read(sftp, each) for each in wanted), return_exceptions=True
        )
        slices: list[bytes | None] = []
        for result in results:
            if isinstance(result, BaseException):
                if self._sftp is sftp:
                    sftp.exit()
                    self._sftp = None
                    self._files.clear()
                what = "no answer in time" if isinstance(result, TimeoutError) else result
                raise ClusterUnreachable(
                    f"Files on {self._host.name} cannot be read: {what}."
                ) from result
            slices.append(result)
        return slices

    async def _client(self) -> asyncssh.SFTPClient:
        await self._host.connection()
        async with self._starting:
            line = self._sftp_connection
            if self._sftp is None or line is None or line.is_closed():
                self._files.clear()
                self._sftp = None
                try:
                    async with asyncio.timeout(READ_LIMIT):
                        found = await self._sessions.sftp(READ_LIMIT)
                        self._sftp_connection, self._sftp = found
                except (asyncssh.Error, OSError, TimeoutError) as error:
                    what = str(error) or "no answer in time"
                    raise ClusterUnreachable(
                        f"{self._host.name} gives no SFTP, by which job output is read: {what}."
                    ) from error
            return self._sftp

    async def _read(self, sftp: asyncssh.SFTPClient, wanted: Slice) -> bytes | None:
        # Taken out while it is in use: whoever reads the same file meanwhile opens it again.
        held = self._files.pop(wanted.path, None)
        async with asyncio.timeout(READ_LIMIT):
            try:
                if held is not None and time.monotonic() - held.opened > HANDLE_AGE:
                    old, held = held, None
                    await _close(old)
                held = held or await _open(sftp, wanted.path)
                if held is None:
                    return None
                data = await _read_slice(held.file, wanted)
            except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPPermissionDenied, asyncssh.SFTPFailure):
                if held is not None:
                    await _close(held)
                return None
        await self._keep(wanted.path, held)
        return data

    async def _keep(self, path: str, held: _Open) -> None:
        if self._files.setdefault(path, held) is not held:
            await _close(held)

    async def remove(self, directory: str) -> None:
        """See :meth:`hpcbridge.transports.base.Transport.remove`."""
        for path in [path for path in self._files if path.startswith(f"{directory}/")]:
            await _close(self._files.pop(path))
        done = await self.run(["rm", "-rf", "--", directory], timeout=20)
        if done.exit_status != 0:
            raise ClusterError(f"{directory} cannot be removed: {done.err.strip()[-300:]}")

    async def close(self) -> None:
        """See :meth:`hpcbridge.transports.base.Transport.close`."""
        self._files.clear()
        if self._sftp is not None:
            self._sftp.exit()
            self._sftp = None


async def _open(sftp: asyncssh.SFTPClient, path: str) -> _Open | None:
    above = path.rpartition("/")[0]
    directory, status, names = await asyncio.gather(
        sftp.lstat(above), sftp.lstat(path), _names(sftp, path)
    )
    regular = status.type == asyncssh.FILEXFER_TYPE_REGULAR and names == 1
    if not regular or status.uid != directory.uid:
        return None
    opened = time.monotonic()
    return _Open(await sftp.open(path, "rb"), opened)


async def _names(sftp: asyncssh.SFTPClient, path: str) -> int:
    """How many names a file has, of which SFTP only tells in listings, as ``ls -l`` does; 0 for a
    file that is not there, or among too many."""
    directory, _, name = path.rpartition("/")
    seen = 0
    listing = cast("AsyncGenerator[asyncssh.SFTPName, None]", sftp.scandir(directory))
    async with contextlib.aclosing(listing):
        async for each in listing:
            if each.filename == name:
                told = re.match(r"\S+\s+([0-9]+)\s", str(each.longname))
                return int(told[1]) if told else 1
            seen += 1
            if seen >= NAMES_LIMIT:
                break
    return 0


async def _close(held: _Open) -> None:
    """Give a handle back; that of a lost connection is gone already."""
    with contextlib.suppress(asyncssh.Error, OSError):
        async with asyncio.timeout(5):
            await held.file.close()


async def _read_slice(file: asyncssh.SFTPClientFile, wanted: Slice) -> bytes:
    offset = wanted.offset
    if offset < 0:
        offset = max(0, ((await file.stat()).size or 0) + offset)
    first = await _read_bytes(file, min(wanted.limit, BLOCK), offset)
    if len(first) < BLOCK or len(first) == wanted.limit:
        return first
    return first + await _read_bytes(file, wanted.limit - BLOCK, offset + BLOCK)


async def _read_bytes(file: asyncssh.SFTPClientFile, size: int, offset: int) -> bytes:
    try:
        data = await file.read(size, offset)
    except asyncssh.SFTPEOFError:
        return b""
    return data if isinstance(data, bytes) else data.encode()


def _archive(files: Mapping[str, StagedFile]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, file in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(file.content), file.mode
            member.mtime = int(time.time())
            archive.addfile(member, io.BytesIO(file.content))
    return buffer.getvalue()


async def _capped(stream: asyncssh.SSHReader[bytes]) -> bytes:
    """Read to the end; past the limits (by one byte) the rest is thrown away."""
    kept, limit = bytearray(), OUTPUT_LIMIT + NOISE_LIMIT
    while chunk := await stream.read(65536):
        kept += chunk[: limit + 1 - len(kept)]
    return bytes(kept)
