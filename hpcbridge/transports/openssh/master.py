"""A master that is up: connections through it, its end, and how far away the host is."""

import asyncio
import contextlib
import functools
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpcbridge.transports.openssh.channel import Channel
from hpcbridge.transports.openssh.folder import discard
from hpcbridge.transports.openssh.mux import Control, Refused, pipes, shut
from hpcbridge.transports.openssh.process import Lines, Process
from hpcbridge.transports.openssh.words import refusal

ECHO = "exec /bin/cat"
"""What runs on the host. It tells how far away that is, and makes sshd set TCP_NODELAY, as a
connection's first command does for asyncssh."""

WORDS = 0.3
"""Seconds for which the master's words are waited for when it refuses: they come another way."""


class MasterConnection:
    """One connection to a host; ``control`` is the master's socket.

    ``process`` is None for a master that is not ours to end, and whose words are not ours to read.
    """

    def __init__(self, control: Path, watch: Control, process: Process | None) -> None:
        self.control = control
        self._watch = watch
        self._process = process
        self.lines = process.lines if process else Lines()
        self._over = asyncio.Event()
        self._echo: _Echo | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._measurable = asyncio.Event()

    def begin(self) -> None:
        """Watch it, and begin to measure."""
        self._tasks = [
            asyncio.create_task(self._see_end(), name="ssh master"),
            asyncio.create_task(self._start_echo(), name="ssh echo"),
        ]

    async def create_connection(
        self, factory: Callable[[], Any], host: str, port: int
    ) -> tuple[Channel, Any]:
        """Connect to a port as the host sees it; as the methods of that name do.

        Raises asyncssh's ChannelOpenError where sshd refuses, and OSError.
        """
        seen = self.lines.count
        control = await Control.open(str(self.control))
        try:
            ask = functools.partial(control.forward, host, port)
            return await self._linked(control, factory, ask)
        except BaseException as error:
            control.close()
            if isinstance(error, Refused):
                raise await self._why(seen) from error
            raise

    async def _linked(
        self, control: Control, factory: Callable[[], Any], ask: Callable[[list[int]], Any]
    ) -> tuple[Channel, Any]:
        (out, their_in), (back, their_out) = pipes()
        try:
            try:
                await ask([their_in, their_out])
            finally:
                shut(their_in, their_out)
        except BaseException:
            shut(out, back)
            raise
        protocol = factory()
        return Channel(protocol, control, out, back), protocol

    async def _why(self, seen: int) -> Exception:
        if self._process is not None:
            await self.lines.more(seen, WORDS)
        return refusal(self.lines.since(seen))

    async def _see_end(self) -> None:
        try:
            await self._watch.closed()
        finally:
            self._watch.close()
        self._forget()
        if self._process is not None:
            await self._process.end()

    def _forget(self) -> None:
        self._over.set()
        self._watch.close()
        if self._process is not None:
            discard(self.control)

    async def _start_echo(self) -> None:
        with contextlib.suppress(OSError, Refused):
            await self._begin_echo(await Control.open(str(self.control)))
        self._measurable.set()

    async def _begin_echo(self, control: Control) -> None:
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            await self._linked(
                control, self._echoing, lambda fds: control.session(ECHO, [*fds, null])
            )
        except BaseException:
            control.close()
            raise
        finally:
            os.close(null)

    def _echoing(self) -> "_Echo":
        self._echo = _Echo()
        return self._echo

    async def round_trip(self) -> float | None:
        """Seconds until the host has answered; None where it runs no command for us."""
        await self._measurable.wait()
        return await self._echo.beat() if self._echo else None

    def is_closed(self) -> bool:
        """Whether it is gone."""
        return self._over.is_set()

    async def wait_closed(self) -> None:
        """Return when it is gone."""
        await self._over.wait()

    async def close(self) -> None:
        """End the master, if it is ours; return when its process is gone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._echo is not None:
            self._echo.stop()
        self._forget()
        if self._process is not None:
            await self._process.end()


class _Echo(asyncio.Protocol):
    """Sends lines to a cat(1) on the host."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._received = b""
        self._news = asyncio.Event()
        self._transport: Any = None
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received = (self._received + data)[-64:]  # shells' start-up files may print
        self._news.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        self._news.set()

    async def beat(self) -> float | None:
        """Seconds until a line has come back."""
        line = b"<%d>\n" % next(self._numbers)
        asked = time.monotonic()
        self._transport.write(line)
        while not self._lost:
            self._news.clear()
            await self._news.wait()
            if line in self._received:
                return time.monotonic() - asked
        return None

    def stop(self) -> None:
        self._transport.abort()
