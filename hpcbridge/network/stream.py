"""A connection that tasks read and write: bounded buffers, and no wait without an end."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import asyncssh

from hpcbridge.network.addresses import Address, TCPAddress
from hpcbridge.network.splice import Pipe, tune

#: Bytes that are kept for a reader; then the peer is read no more.
LIMIT = 256 * 1024


class Stream(asyncio.Protocol, asyncssh.SSHTCPSession[bytes]):
    """One reader and one writer may use it at once. Of asyncio, or a channel of asyncssh's.

    ``on_lost`` is called when the connection is gone.
    """

    transport: Any = None

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
        self._unwanted = False
        self._heir: Pipe | None = None

    def connection_made(self, transport: Any) -> None:
        """A transport or a channel is there."""
        self.transport = transport
        # A channel's "socket" is that of the whole SSH connection: leave that alone.
        if isinstance(transport, asyncio.BaseTransport):
            tune(transport.get_extra_info("socket"))
        if self._unwanted:
            transport.abort()

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """Keep it for the reader."""
        if self._heir is not None:
            self._heir.data_received(data)
            return
        self._received += data
        if len(self._received) > LIMIT:
            self.transport.pause_reading()
        self._readable.set()

    def eof_received(self) -> bool:
        """The other direction stays open, except over TLS, which knows no half-close."""
        if self._heir is not None:
            return self._heir.eof_received()
        self.ended = True
        self._readable.set()
        return self.transport.get_extra_info("ssl_object") is None

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake whoever waits."""
        if self._heir is not None:
            self._heir.connection_lost(exc)
            return
        self.ended = self.lost = True
        self._readable.set()
        self._writable.set()
        self._on_lost()

    def pause_writing(self) -> None:
        """The peer is slow."""
        if self._heir is not None:
            self._heir.pause_writing()
            return
        self._writable.clear()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        if self._heir is not None:
            self._heir.resume_writing()
            return
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
        # A channel that its peer has just closed refuses; connection_lost() follows.
        with suppress(OSError, RuntimeError):
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

    def become(self, pipe: Pipe) -> None:
        """Hand the connection over to one end of a splice."""
        self._heir = pipe
        if isinstance(self.transport, asyncio.BaseTransport):  # a channel cannot change hands
            self.transport.set_protocol(pipe)
        pipe.connection_made(self.transport)

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
        """Drop the connection now, or as soon as it is made."""
        self._unwanted = True
        if self.transport is not None:
            self.transport.abort()


async def open_stream(address: Address, seconds: float) -> Stream:
    """A connection to ``address``. Raises OSError, and TimeoutError after ``seconds``."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(seconds):
        if isinstance(address, TCPAddress):
            _, stream = await loop.create_connection(Stream, address.host, address.port)
        else:
            _, stream = await loop.create_unix_connection(Stream, str(address.path))
    return stream
