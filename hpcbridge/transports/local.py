"""Commands and files of this machine, under the service's own account."""

import asyncio
import contextlib
import os
import shutil
import signal
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpcbridge.errors import ClusterError, ClusterUnreachable, OutcomeUnknown, UnexpectedReply
from hpcbridge.transports.base import Completed, Slice, StagedFile

OUTPUT_LIMIT = 16 * 2**20
"""Bytes of output that a command may print."""

# What a command inherits. Anything else of the service's environment stays here: sbatch would
# hand it to the job, and with it whatever secrets the service was configured with.
PASSED_ENVIRONMENT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "SLURM_CONF")


def clean_environment() -> dict[str, str]:
    """The part of this process's environment that commands and jobs may see."""
    found = {key: os.environ[key] for key in PASSED_ENVIRONMENT if key in os.environ}
    found.setdefault("PATH", "/usr/local/bin:/usr/bin:/bin")
    return found


class LocalTransport:
    """Implements :class:`~hpcbridge.transports.base.Transport` on this machine."""

    follow_interval = 0.005

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float) -> Completed:  # noqa: ASYNC109
        """See :meth:`hpcbridge.transports.base.Transport.run`."""
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=clean_environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise ClusterUnreachable(
                f"{argv[0]} cannot be run on this machine: {error.strerror}. "
                "Install it, or name its directory in the service's PATH."
            ) from error
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
        return str(Path.home())

    async def stage(self, directory: str, files: Mapping[str, StagedFile]) -> None:
        """See :meth:`hpcbridge.transports.base.Transport.stage`."""
        try:
            await asyncio.to_thread(_stage, Path(directory), files)
        except OSError as error:
            raise ClusterError(
                f"The session directory {directory} cannot be written: {error.strerror}. "
                "Check the owner, the mode and the free space of the cluster's session_root."
            ) from error

    async def read(self, wanted: Sequence[Slice]) -> list[bytes | None]:
        """See :meth:`hpcbridge.transports.base.Transport.read`."""
        return await asyncio.to_thread(lambda: [_read(each) for each in wanted])

    async def remove(self, directory: str) -> None:
        """See :meth:`hpcbridge.transports.base.Transport.remove`."""
        try:
            await asyncio.to_thread(_remove, Path(directory))
        except OSError as error:
            raise ClusterError(f"{directory} cannot be removed: {error.strerror}.") from error

    async def close(self) -> None:
        """Nothing to release."""


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


def _stage(directory: Path, files: Mapping[str, StagedFile]) -> None:
    # Path.mkdir(parents=True) would make all but the last with the umask's mode.
    for parent in reversed(directory.parents):
        parent.mkdir(mode=0o700, exist_ok=True)
    directory.mkdir(mode=0o700)
    for name, file in files.items():
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(directory / name, flags, file.mode), "wb") as out:
            out.write(file.content)


def _remove(directory: Path) -> None:
    if directory.is_symlink():
        directory.unlink()
    else:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            shutil.rmtree(directory)


def _read(wanted: Slice) -> bytes | None:
    try:
        # O_NONBLOCK: a FIFO in the log's place must not hang the thread.
        handle = os.open(wanted.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            return None
        offset = wanted.offset if wanted.offset >= 0 else max(0, status.st_size + wanted.offset)
        return os.pread(handle, wanted.limit, offset)
    except OSError:  # such as a stale NFS handle: the next look opens it anew
        return None
    finally:
        os.close(handle)
