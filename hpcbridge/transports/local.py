"""Commands and files of this machine, under the service's own account."""

import asyncio
import contextlib
import errno
import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from hpcbridge.errors import ClusterError, ClusterUnreachable, OutcomeUnknown, UnexpectedReply
from hpcbridge.files.helper import open_to_others
from hpcbridge.files.own import open_own
from hpcbridge.network.descriptors import usual
from hpcbridge.transports.account import Account
from hpcbridge.transports.base import Completed, Slice, StagedFile
from hpcbridge.transports.environment import clean_environment

OUTPUT_LIMIT = 16 * 2**20
"""Bytes of output that a command may print."""

KILL_WAIT = 2.0
"""Seconds that a command may take to end when it is killed."""

FILES_LIMIT = 20.0
"""Seconds that the file system may take for what is asked of it."""
FILES_AT_ONCE = 4

T = TypeVar("T")


class LocalTransport:
    """Implements :class:`~hpcbridge.transports.base.Transport` on this machine."""

    follow_interval = 0.005

    def __init__(self, account: Account | None = None) -> None:
        """As the service's own account, or as another one, which takes root."""
        self._account = account
        # Threads of its own: those that wait for a dead file server are nobody else's.
        self._threads = ThreadPoolExecutor(FILES_AT_ONCE, "files")

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float) -> Completed:  # noqa: ASYNC109
        """See :meth:`hpcbridge.transports.base.Transport.run`."""
        environment, account = clean_environment(), self._account
        if account is not None:  # not as root where that account may have put links
            environment = account.environment(environment)
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
                start_new_session=True,
                **(account.as_whom if account else {}),
            )
        except OSError as error:
            raise ClusterUnreachable(
                f"{argv[0]} cannot be run on this machine: {error.strerror}. "
                "Install it, or name its directory in the service's PATH."
            ) from error
        usual(process.pid)
        try:
            async with asyncio.timeout(timeout):
                out, err = await _exchange(process, stdin)
                status = await process.wait()
        except TimeoutError as error:
            raise OutcomeUnknown(f"{argv[0]} did not answer within {timeout:g} s.") from error
        finally:
            if process.returncode is None:
                await kill(process)
        if len(out) > OUTPUT_LIMIT or len(err) > OUTPUT_LIMIT:
            raise UnexpectedReply(f"{argv[0]} printed more than {OUTPUT_LIMIT} bytes.")
        return Completed(tuple(argv), status, out, err)

    async def home(self) -> str:
        """See :meth:`hpcbridge.transports.base.Transport.home`."""
        return self._account.home if self._account else str(Path.home())

    async def stage(self, directory: str, files: Mapping[str, StagedFile]) -> None:
        """See :meth:`hpcbridge.transports.base.Transport.stage`."""
        try:
            await self._in_time(lambda: _stage(Path(directory), files, self._account))
        except OSError as error:
            raise ClusterError(
                f"The session directory {directory} cannot be written: {error.strerror}. "
                "Check the owner, the mode and the free space of the cluster's session_root."
            ) from error

    async def read(self, wanted: Sequence[Slice]) -> list[bytes | None]:
        """See :meth:`hpcbridge.transports.base.Transport.read`."""
        owner = self._account.uid if self._account else None
        return await self._in_time(lambda: [_read(each, owner) for each in wanted])

    async def remove(self, directory: str) -> None:
        """See :meth:`hpcbridge.transports.base.Transport.remove`."""
        try:
            await self._in_time(lambda: _remove(Path(directory)))
        except OSError as error:
            raise ClusterError(f"{directory} cannot be removed: {error.strerror}.") from error

    async def _in_time(self, work: Callable[[], T]) -> T:
        working = asyncio.get_running_loop().run_in_executor(self._threads, work)
        # Where nobody waits any more, asyncio would log the error with a traceback.
        working.add_done_callback(lambda done: done.cancelled() or done.exception())
        done, _ = await asyncio.wait({working}, timeout=FILES_LIMIT)
        if done:
            return working.result()
        working.cancel()  # unless it has begun
        raise ClusterUnreachable(f"The file system did not answer within {FILES_LIMIT:g} s.")

    async def close(self) -> None:
        """See :meth:`hpcbridge.transports.base.Transport.close`."""
        self._threads.shutdown(wait=False, cancel_futures=True)


async def kill(process: asyncio.subprocess.Process) -> None:
    """End it and its children. What sudo started is another account's, and ends by itself."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:
        with contextlib.suppress(PermissionError):
            process._transport.close()  # type: ignore[attr-defined]
        return
    # Else wait() would wait for whoever else holds the streams, such as a daemon.
    process._transport.close()  # type: ignore[attr-defined]
    with contextlib.suppress(TimeoutError):  # one that waits for a dead disk cannot be killed
        async with asyncio.timeout(KILL_WAIT):
            await process.wait()


async def _exchange(process: asyncio.subprocess.Process, stdin: bytes) -> tuple[bytes, bytes]:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None

    async def feed(pipe: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            pipe.write(stdin)
            await pipe.drain()
        pipe.close()

    out, err, _ = await asyncio.gather(
        _capped(process.stdout), _capped(process.stderr), feed(process.stdin)
    )
    return out, err


async def _capped(stream: asyncio.StreamReader) -> bytes:
    """Read to the end; past the limit (by one byte) the rest is thrown away."""
    kept = bytearray()
    while chunk := await stream.read(65536):
        kept += chunk[: OUTPUT_LIMIT + 1 - len(kept)]
    return bytes(kept)


def _stage(directory: Path, files: Mapping[str, StagedFile], account: Account | None) -> None:
    # Path.mkdir(parents=True) would make all but the last with the umask's mode.
    for parent in reversed(directory.parents):
        parent.mkdir(mode=0o700 if account is None else 0o711, exist_ok=True)
    if account is not None and (barred := account.barred_from(directory.parent)):
        raise PermissionError(errno.EACCES, f"{account.name} cannot enter {barred}")
    if above := open_to_others(os.fspath(directory)):
        raise PermissionError(errno.EPERM, f"others could replace what is in {above}")
    directory.mkdir(mode=0o700)
    for name, file in files.items():
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(directory / name, flags, file.mode), "wb") as out:
            out.write(file.content)
    if account is not None:
        account.give(directory)


def _remove(directory: Path) -> None:
    if directory.is_symlink():
        directory.unlink()
    else:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            shutil.rmtree(directory)


def _read(wanted: Slice, owner: int | None) -> bytes | None:
    try:
        handle = open_own(wanted.path, owner)
    except OSError:
        return None
    try:
        offset = wanted.offset
        if offset < 0:
            offset = max(0, os.fstat(handle).st_size + offset)
        return os.pread(handle, wanted.limit, offset)
    except OSError:  # such as a stale NFS handle: the next look opens it anew
        return None
    finally:
        os.close(handle)
