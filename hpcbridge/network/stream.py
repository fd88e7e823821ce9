"""A connection that tasks read and write: bounded buffers, and no wait without an end."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hpcbridge.network.splice import tune

#: Bytes that are kept for a reader; then the peer is read no more.
LIMIT = 256 * 1024


class Stream(asyncio.Protocol):
    """One reader and one writer may use it at once.

    ``on_lost`` is called when the connection is gone.
    """

    transport: asyncio.Transport

    def __init__(self, on_lost: Callable[[], None] = lambda: None) -> None:
        self._on_lost = on_lost
        self._received = bytearray()
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        #: The peer sends no more.
        self.ended = False
        #: The connection is gone.
        self.lost = False

    def connection_made(self, transport: Any) -> None:
        """A transport of asyncio is there."""
        self.transport = transport
        tune(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        """Keep it for the reader."""
        self._received += data
        if len(self._received) > LIMIT:
            self.transport.pause_reading()
        self._readable.set()

    def eof_received(self) -> bool:
        """The other direction stays open, except over TLS, which knows no half-close."""
        self.ended = True
        self._readable.set()
        return self.transport.get_extra_info("ssl_object") is None

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake whoever waits."""
        self.ended = self.lost = True
        self._readable.set()
        self._writable.set()
        self._on_lost()

    def pause_writing(self) -> None:
        """The peer is slow."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self._writable.set()

    async def receive(self, seconds: float) -> bytes:
        """What has come, at least a byte; b"" after the last one. Raises TimeoutError."""
        if not self._received and not self.ended:
            self._readable.clear()
            async with asyncio.timeout(seconds):
                await self._readable.wait()
        data = bytes(self._received)
        self._received.clear()
        if not self.ended:
            self.transport.resume_reading()
        return data

    async def send(self, data: bytes, seconds: float) -> None:
        """Return when there is room for more. Raises TimeoutError and ConnectionResetError."""
        if self.lost or self.transport.is_closing():
            raise ConnectionResetError("The connection is gone.")
        self.transport.write(data)
        if not self._writable.is_set():
            async with asyncio.timeout(seconds):
                await self._writable.wait()
            if self.lost:
                raise ConnectionResetError("The connection is gone.")

    def detach(self) -> bytes:
        """What has come and was not read; the transport is for another protocol now."""
        self._on_lost = lambda: None
        left = bytes(self._received)
        self._received.clear()
        return left

    async def finish(self, seconds: float) -> None:
        """Send what is left, then close; what the peer still sends is dropped.

        Bytes that nobody reads would turn the close into a reset, and the last ones sent were lost.
        """
        if not self.lost and not self.transport.is_closing() and self.transport.can_write_eof():
            with suppress(OSError, TimeoutError):
                self.transport.write_eof()
                async with asyncio.timeout(seconds):
                    while not self.ended:
                        await self.receive(seconds)
        self.transport.close()

    def abort(self) -> None:
        """Drop the connection now."""
        self.transport.abort()
