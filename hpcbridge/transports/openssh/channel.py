"""A connection through a master, as an asyncio transport: two descriptors and a control socket."""

import asyncio
import contextlib
import os
from typing import Any

from hpcbridge.transports.openssh.mux import Control

CHUNK = 256 * 1024
"""Bytes that are read at once."""
HIGH = 64 * 1024
"""Bytes that wait to be sent above which the protocol is asked to send no more."""
LOW = HIGH // 4
LINGER = 15.0
"""Seconds that a connection that was closed has to take its last bytes."""


_room = memoryview(bytearray(CHUNK))


class Channel(asyncio.Transport):
    """Made by :meth:`hpcbridge.transports.openssh.host.MasterConnection.create_connection`.

    ``out`` is written to, ``back`` is read from. The master closes the control connection when the
    channel is gone, and the channel when the control connection is.
    """

    def __init__(self, protocol: asyncio.Protocol, control: Control, out: int, back: int) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._protocol: Any = protocol
        self._control = control
        self._out: int | None = out
        self._back: int | None = back
        self._buffer = bytearray()
        self._full = False
        self._ending = False  # nothing more is to be written
        self._paused = False
        self._closing = False
        self._gone = False  # the master has closed it
        self._lost = False
        self._timer: asyncio.TimerHandle | None = None
        self._protocol.connection_made(self)
        if not self._lost:
            self._loop.add_reader(control.socket, self._ended)
            self._listen()

    # -- reading

    def _listen(self) -> None:
        if self._back is not None and not self._paused:
            self._loop.add_reader(self._back, self._readable)

    def _readable(self) -> None:
        assert self._back is not None
        try:
            # Into memory that is there already: to ask the system for this much each time costs
            # more than the copy.
            data = bytes(_room[: os.readv(self._back, (_room,))])
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._protocol.data_received(data)
            return
        self._shut_back()
        if self._gone:
            self._finish()
        elif not self._protocol.eof_received():
            self.close()

    def _ended(self) -> None:
        """The channel is closed at the other end, or the master is dead: only what came counts."""
        with contextlib.suppress(OSError):
            try:
                if self._control.socket.recv(4096):
                    return
            except BlockingIOError:
                return
        self._loop.remove_reader(self._control.socket)
        self._gone = True
        self._shut_out()
        if self._back is None:
            self._finish()

    def pause_reading(self) -> None:
        """See :class:`asyncio.ReadTransport`."""
        self._paused = True
        if self._back is not None:
            self._loop.remove_reader(self._back)

    def resume_reading(self) -> None:
        """See :class:`asyncio.ReadTransport`."""
        self._paused = False
        self._listen()

    def is_reading(self) -> bool:
        """See :class:`asyncio.ReadTransport`."""
        return self._back is not None and not self._paused

    # -- writing

    def write(self, data: Any) -> None:
        """See :class:`asyncio.WriteTransport`; what comes after the end is dropped."""
        if self._out is None or self._ending:
            return
        if not self._buffer:
            data = data[self._put(data) :]
            if not data or self._out is None:
                return
            self._loop.add_writer(self._out, self._writable)
        self._buffer += data
        if len(self._buffer) > HIGH and not self._full:
            self._full = True
            self._protocol.pause_writing()

    def _put(self, data: Any) -> int:
        assert self._out is not None
        try:
            return os.write(self._out, data)
        except BlockingIOError:
            return 0
        except OSError:  # the master takes no more; it tells the rest by the control connection
            self._shut_out()
            return 0

    def _writable(self) -> None:
        del self._buffer[: self._put(self._buffer)]
        if self._out is not None and not self._buffer:
            self._loop.remove_writer(self._out)
            if self._ending:
                self._shut_out()
        if self._full and len(self._buffer) <= LOW:
            self._full = False
            self._protocol.resume_writing()

    def write_eof(self) -> None:
        """See :class:`asyncio.WriteTransport`."""
        self._ending = True
        if not self._buffer:
            self._shut_out()

    def can_write_eof(self) -> bool:
        """See :class:`asyncio.WriteTransport`."""
        return True

    def get_write_buffer_size(self) -> int:
        """Bytes that wait to be sent."""
        return len(self._buffer)

    # -- the end

    def is_closing(self) -> bool:
        """See :class:`asyncio.BaseTransport`."""
        return self._closing or self._lost

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """See :class:`asyncio.BaseTransport`."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """See :class:`asyncio.BaseTransport`."""
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def close(self) -> None:
        """Send what is left, then close; given up after ``LINGER`` seconds."""
        if self._closing or self._lost:
            return
        self._closing = True
        self._shut_back()
        self.write_eof()
        if self._gone:
            self._finish()
        else:
            self._timer = self._loop.call_later(LINGER, self.abort)

    def abort(self) -> None:
        """Close now; what was not sent is lost."""
        self._finish()

    def _finish(self) -> None:
        if self._lost:
            return
        self._lost = True
        self._shut_out()
        self._shut_back()
        self._loop.remove_reader(self._control.socket)
        self._control.close()
        if self._timer is not None:
            self._timer.cancel()
        self._loop.call_soon(self._protocol.connection_lost, None)

    def _shut_out(self) -> None:
        self._buffer.clear()
        if self._out is not None:
            self._loop.remove_writer(self._out)
            os.close(self._out)
            self._out = None

    def _shut_back(self) -> None:
        if self._back is not None:
            self._loop.remove_reader(self._back)
            os.close(self._back)
            self._back = None
