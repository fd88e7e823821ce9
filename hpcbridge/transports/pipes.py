"""Commands that are talked with while they run, on this machine or over SSH."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncssh

from hpcbridge.errors import ClusterUnreachable
from hpcbridge.network.descriptors import usual
from hpcbridge.transports.connection import SSHHost
from hpcbridge.transports.environment import clean_environment
from hpcbridge.transports.frame import Frame
from hpcbridge.transports.local import kill
from hpcbridge.transports.sessions import Sessions, end, full

OPEN_LIMIT = 8.0
"""Seconds to wait until the host has room for another command."""
END_LIMIT = 2.0
"""Seconds in which a command ends once its input has ended."""
TOLD_LIMIT = 4096
"""Bytes of its standard error that are kept, the last ones."""

LOST = (OSError, EOFError, asyncssh.Error)
"""What reading and writing raise when the command or its connection is over."""

OpenPipe = Callable[[Sequence[str]], Awaitable["Pipe"]]


class Pipe:
    """One such command, by the streams of asyncio or of asyncssh, which are used alike.

    Where there is a ``frame``, its mark comes first: what stands before is a login shell's.
    """

    def __init__(
        self,
        process: Any,
        end: Callable[[], Awaitable[None]],
        over: Callable[[], bool],
        frame: Frame | None = None,
    ) -> None:
        self._process = process
        self._frame = frame
        self._begun = frame is None
        self._end = end
        #: Tells whether it is seen to have ended, or to have lost its connection.
        self.over = over
        self._told = bytearray()
        self._listening = asyncio.create_task(self._listen(), name="standard error")

    async def _listen(self) -> None:
        with contextlib.suppress(*LOST):
            while chunk := await self._process.stderr.read(1024):
                self._told = bytearray((bytes(self._told) + chunk)[-TOLD_LIMIT:])

    async def write(self, data: bytes) -> None:
        """Give it bytes to read. Raises one of ``LOST``."""
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    async def read(self, count: int) -> bytes:
        """So many bytes of its output. Raises one of ``LOST``."""
        if self._frame is not None and not self._begun:
            await self._process.stdout.readuntil(self._frame.begin)
            self._begun = True
        return bytes(await self._process.stdout.readexactly(count))

    async def close(self) -> str:
        """End its input, give it a moment to end, and return what it said on standard error."""
        with contextlib.suppress(*LOST):
            self._process.stdin.write_eof()
        try:
            with contextlib.suppress(TimeoutError, *LOST):
                async with asyncio.timeout(END_LIMIT):
                    while await self._process.stdout.read(65536):
                        pass  # it may be in the middle of an answer
                    await self._listening
                    await self._process.wait()
        finally:
            self._listening.cancel()
            await self._end()
        told = bytes(self._told)
        if self._frame is not None and self._frame.began(b"", told):
            told = self._frame.said(told)
        return told.decode("utf-8", "replace").strip()


async def open_here(argv: Sequence[str]) -> Pipe:
    """Start a command on this machine."""
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=clean_environment(),
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise ClusterUnreachable(
            f"{argv[0]} cannot be run on this machine: {error.strerror}. Install it."
        ) from error
    usual(process.pid)

    async def end() -> None:
        if process.returncode is None:
            await kill(process)

    return Pipe(process, end, lambda: process.returncode is not None)


def opener_on(host: SSHHost) -> OpenPipe:
    """Starts commands on ``host``."""

    sessions = Sessions(host)

    async def open_there(argv: Sequence[str]) -> Pipe:
        frame = Frame()
        try:
            process = await sessions.start(argv, OPEN_LIMIT)
        except asyncssh.ChannelOpenError as error:
            raise full(host, argv[0], error) from error
        except LOST as error:
            raise ClusterUnreachable(f"The connection to {host.name} was lost.") from error

        async def end_there() -> None:
            end(process)

        process.stdin.write(frame.cue)
        return Pipe(process, end_there, process.is_closing, frame)

    return open_there
