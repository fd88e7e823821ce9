"""Bytes from one connection to another, both ways, unchanged: under tunnels and the front end.

A :class:`Pipe` is one end of a spliced connection. It is an asyncio protocol and an asyncssh
session at once, so either end may be a TCP or unix socket or a channel of an SSH connection. No
callback raises: asyncssh would close the whole SSH connection, and with it everybody's sessions.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import asyncssh

#: Bytes kept for a far end that is still being connected.
EARLY_LIMIT = 64 * 1024
#: Seconds that a closing end gets to take its last bytes.
LINGER = 15.0
#: Seconds without a byte after which a connection that is closed in one direction is given up.
HALF_CLOSED_LIMIT = 300.0

Stream: TypeAlias = "asyncio.Transport | asyncssh.SSHTCPChannel[bytes]"


@dataclass
class Traffic:
    """What went through all connections of one tunnel.

    ``bytes_in`` went to the application, ``bytes_out`` came from it; ``connections`` are open now.
    ``last_activity`` is in seconds of :func:`time.monotonic`. What is counted here counts in
    ``total`` as well.
    """

    bytes_in: int = 0
    bytes_out: int = 0
    connections: int = 0
    last_activity: float = field(default_factory=time.monotonic)
    total: "Traffic | None" = None

    def came_in(self, count: int) -> None:
        """So many bytes went to the application."""
        self.bytes_in += count
        self.last_activity = time.monotonic()
        if self.total is not None:
            self.total.bytes_in += count

    def went_out(self, count: int) -> None:
        """So many bytes came from it."""
        self.bytes_out += count
        self.last_activity = time.monotonic()
        if self.total is not None:
            self.total.bytes_out += count

    def changed(self, connections: int) -> None:
        """So many connections more are open, or less."""
        self.connections += connections
        self.last_activity = time.monotonic()
        if self.total is not None:
            self.total.connections += connections


class Pipe(asyncio.Protocol, asyncssh.SSHTCPSession[bytes]):
    """One end of a spliced connection: what it receives, its ``other`` end sends.

    The near end is the client's, the far end the application's. Make both with :func:`pair`.
    """

    other: "Pipe"

    def __init__(self, traffic: Traffic, *, near: bool, on_closed: Callable[[], None]) -> None:
        self._traffic = traffic
        self._near = near
        self._on_closed = on_closed
        self._stream: Stream | None = None
        self._early = bytearray()
        self.ended = False  # has received its last byte
        self._eof_sent = False  # was told to send no more (once the early bytes are out)
        self.full = False  # takes no more for now
        self._closing = False  # nothing more is sent
        self._lost = False  # the stream is gone, or is not wanted any more when it comes
        self._moved = False
        self._timer: asyncio.TimerHandle | None = None

    # -- called by the transport or channel --

    def connection_made(self, transport: Any) -> None:
        """A transport (asyncio) or a channel (asyncssh) is there."""
        self._stream = transport
        if self._near:
            self._traffic.changed(1)
        if self._closing:
            transport.abort()
            return
        # A channel's "socket" is that of the whole SSH connection: leave that alone.
        if isinstance(transport, asyncio.BaseTransport):
            tune(transport.get_extra_info("socket"))
        if self._early:
            transport.write(bytes(self._early))
            self._early.clear()
        if self._eof_sent:
            self._write_eof()
        if not self.full:
            self.other.resume_reading()

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """Count, and hand to the other end."""
        if self._near:
            self._traffic.came_in(len(data))
        else:
            self._traffic.went_out(len(data))
        self._moved = True
        self.other.send(data)

    def eof_received(self) -> bool:
        """Nothing more comes from here; the other direction stays open (except over TLS)."""
        self.ended = True
        self.other.send_eof()
        if self.other.ended:
            self.finish()
            self.other.finish()
        return self.wait_for_other()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the other end take its last bytes, then close it."""
        self._closing = self._lost = True
        if self._timer is not None:
            self._timer.cancel()
        if self._near:
            self._traffic.changed(-1)
        self.other.finish()
        if self.other._lost:
            self._on_closed()

    def pause_writing(self) -> None:
        """This end is slow: read no more from the other."""
        self.full = True
        self.other.pause_reading()

    def resume_writing(self) -> None:
        """This end has caught up."""
        self.full = False
        self.other.resume_reading()

    # -- called by the other end and by the owner --

    def wait_for_other(self) -> bool:
        """After this end's last byte: keep the stream open while the other direction is in use."""
        if not self._closing:
            self._later(HALF_CLOSED_LIMIT, self._give_up_if_still)
        return self._stream is not None and self._stream.can_write_eof()

    def send(self, data: bytes) -> None:
        """Write, or keep the bytes until the stream is there."""
        if self._stream is None:
            self._early += data
            if len(self._early) > EARLY_LIMIT:
                self.other.pause_reading()
        elif not self._closing:
            # A channel that its peer has just closed refuses; connection_lost() follows.
            with suppress(OSError, RuntimeError):
                self._stream.write(data)

    def send_eof(self) -> None:
        """Close this direction once all is sent."""
        if not self._eof_sent:
            self._eof_sent = True
            if self._stream is not None and not self._closing:
                self._write_eof()

    def pause_reading(self) -> None:
        """Take no more from this end's peer."""
        if self._stream is not None and not self._closing:
            self._stream.pause_reading()

    def resume_reading(self) -> None:
        """Take bytes from this end's peer again."""
        if self._stream is not None and not self._closing:
            self._stream.resume_reading()

    def finish(self) -> None:
        """Close when the last bytes are out, or abort after :data:`LINGER` seconds."""
        if self._closing:
            return
        self._closing = True
        if self._stream is None:
            self._lost = True
            return
        self._later(LINGER, self._stream.abort)
        if isinstance(self._stream, asyncio.BaseTransport):
            self._stream.close()
        elif self._stream.get_write_buffer_size():
            # close() on such a channel could not be followed by abort(): asyncssh ignores it then.
            self._stream.write_eof()
            self._stream.resume_reading()
        else:
            self._stream.close()

    def abort(self) -> None:
        """Drop this end now, or as soon as it is made. The other end follows by itself."""
        self._closing = True
        if self._stream is None:
            self._lost = True
        else:
            self._stream.abort()

    def _write_eof(self) -> None:
        if self._stream is not None and self._stream.can_write_eof():
            with suppress(OSError):
                self._stream.write_eof()
        else:  # TLS knows no half-close
            self.finish()

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, action)

    def _give_up_if_still(self) -> None:
        if self._moved or self.other._moved:
            self._moved = self.other._moved = False
            self._later(HALF_CLOSED_LIMIT, self._give_up_if_still)
        else:
            self.abort()
            self.other.abort()


#: Connects the far side with the protocol that the factory makes, as ``loop.create_connection`` and
#: asyncssh's ``SSHClientConnection.create_connection`` do.
class ConnectError(Exception):
    """The far side of a connection cannot be reached; the message is for a person."""


Dial: TypeAlias = Callable[[Callable[[], Pipe]], Awaitable[object]]


def pair(
    traffic: Traffic,
    on_closed: Callable[[], None],
    *,
    near: type[Pipe] = Pipe,
    far: type[Pipe] = Pipe,
) -> tuple[Pipe, Pipe]:
    """Both ends of one spliced connection; ``on_closed`` is called when both are gone."""
    one = near(traffic, near=True, on_closed=on_closed)
    two = far(traffic, near=False, on_closed=on_closed)
    one.other, two.other = two, one
    return one, two


class Abortable(Protocol):
    """What can be dialled: a :class:`Pipe`, or something else that is a protocol."""

    def abort(self) -> None:
        """Drop the connection now, or as soon as it is made."""
        ...


async def connect(far: Abortable, dial: Dial, limit: float) -> None:
    """Dial with ``far`` as the protocol, for at most ``limit`` seconds.

    Raises :class:`ConnectError`; the far end is then given up, the near end is the
    caller's to answer and to close.
    """
    attempt = asyncio.ensure_future(dial(lambda: far))  # type: ignore[arg-type, return-value]
    try:
        done, _ = await asyncio.wait((attempt,), timeout=limit)
        if done:
            attempt.result()
    except (OSError, asyncssh.Error, ConnectError) as error:
        raise ConnectError(f"The application cannot be reached: {error}") from error
    finally:
        if not attempt.done():
            # Not cancelled: asyncssh leaves a channel open for ever when its opening is cancelled.
            # The late connection is closed by the far end as soon as it is made.
            _late.add(attempt)
            attempt.add_done_callback(_forget)
        if not attempt.done() or attempt.cancelled() or attempt.exception():
            far.abort()
    if not done:
        raise ConnectError(f"The application did not accept a connection within {limit:g} s.")


_late: set[asyncio.Future[object]] = set()


def _forget(attempt: asyncio.Future[object]) -> None:
    _late.discard(attempt)
    if not attempt.cancelled():
        attempt.exception()


def tune(sock: socket.socket | None) -> None:
    """Send small messages at once, and notice a peer that went silent; for TCP only.

    asyncio does the first by itself, but not for a listener that it did not make.
    """
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with suppress(OSError):  # already disconnected
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Browsers that fell asleep say no goodbye.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
