"""What a master of ssh(1) is asked over its control socket: OpenSSH's PROTOCOL.mux, version 4.

It is what ``ssh -W`` and ``ssh -O`` say to a master. Spoken here, it costs no process for each
connection, and says whether the other side took it.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Sequence
from typing import Self

VERSION = 4
HELLO = 0x00000001
NEW_SESSION = 0x10000002
ALIVE_CHECK = 0x10000004
TERMINATE = 0x10000005
NEW_STDIO_FORWARD = 0x10000008
PERMISSION_DENIED = 0x80000002
FAILURE = 0x80000003
ALIVE = 0x80000005
SESSION_OPENED = 0x80000006

LIMIT = 256 * 1024
"""Bytes that a message may have (SSHMUX)."""
NO_ESCAPE = 0xFFFFFFFF

BUSY = 0.005
"""Seconds between two attempts at a socket whose queue is full."""

ROOM = 1 << 20
"""Bytes that are asked for on each way; the system gives what net.core.wmem_max allows. With less,
ssh keeps what waits in memory that it moves about: twice the processor time, measured."""

_REQUEST = 1  # one request at a time on each control connection


class Refused(Exception):
    """The master did not do it; the message is the master's own."""


class Control:
    """One connection to a control socket. What is opened over it lives as long as it does."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, path: str) -> Self:
        """Connect to a master. Raises OSError where none answers at ``path``."""
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        control = cls(sock)
        try:
            await _connect(sock, path)
            await control._greet()
        except BaseException:
            control.close()
            raise
        return control

    async def alive(self) -> int:
        """The master's process id. Raises OSError where there is no answer."""
        await self._send(_numbers(ALIVE_CHECK, _REQUEST))
        return await self._answer(ALIVE)

    async def forward(self, host: str, port: int, fds: Sequence[int]) -> None:
        """Connect two descriptors, for what goes there and what comes back, to a port that the
        other side connects to. Raises :class:`Refused`, and OSError where the master is gone."""
        request = _numbers(NEW_STDIO_FORWARD, _REQUEST) + _texts("", host) + _numbers(port)
        await self._send(request, fds)
        await self._answer(SESSION_OPENED)

    async def session(self, command: str, fds: Sequence[int]) -> None:
        """Run a command with these descriptors as its standard streams. Raises as the above."""
        flags = (0, 0, 0, 0)  # no terminal, X11, agent, subsystem
        request = _numbers(NEW_SESSION, _REQUEST) + _texts("") + _numbers(*flags, NO_ESCAPE)
        await self._send(request + _texts("", command), fds)
        await self._answer(SESSION_OPENED)

    async def closed(self) -> None:
        """Return when the master, or what was opened over this connection, is gone."""
        with contextlib.suppress(OSError):
            while await asyncio.get_running_loop().sock_recv(self.socket, 4096):
                pass

    def close(self) -> None:
        """Let go of it; what was opened over it ends."""
        # What was cancelled in the middle is still looked out for, under a number that the next
        # socket may have.
        if (number := self.socket.fileno()) >= 0 and not self._loop.is_closed():
            self._loop.remove_reader(number)
            self._loop.remove_writer(number)
        self.socket.close()

    async def _send(self, message: bytes, fds: Sequence[int] = ()) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self.socket, _numbers(len(message)) + message)
        for fd in fds:
            socket.send_fds(self.socket, [b"\0"], [fd])

    async def _answer(self, wanted: int) -> int:
        """The number that an answer to the request brings."""
        kind, body = await self._message()
        while kind not in (wanted, PERMISSION_DENIED, FAILURE):
            kind, body = await self._message()  # such as MUX_S_TTY_ALLOC_FAIL
        if kind != wanted:
            raise Refused(body[8:].decode("utf-8", "replace") or "refused")
        return _number(body, 4)

    async def _greet(self) -> None:
        await self._send(_numbers(HELLO, VERSION))
        kind, body = await self._message()
        if kind != HELLO or _number(body, 0) != VERSION:
            raise ConnectionError("What listens there is no master of OpenSSH.")

    async def _message(self) -> tuple[int, bytes]:
        size = _number(await self._exactly(4), 0)
        if not 4 <= size <= LIMIT:
            raise ConnectionError("The master sent what is no message.")
        body = await self._exactly(size)
        return _number(body, 0), body[4:]

    async def _exactly(self, count: int) -> bytes:
        loop, received = asyncio.get_running_loop(), b""
        while len(received) < count:
            more = await loop.sock_recv(self.socket, count - len(received))
            if not more:
                raise ConnectionResetError("The master has gone.")
            received += more
        return received


async def _connect(sock: socket.socket, path: str) -> None:
    # A full queue of a unix socket is EAGAIN, of which the loop's own sock_connect() makes success.
    while True:
        try:
            sock.connect(path)
        except BlockingIOError:
            await asyncio.sleep(BUSY)
        else:
            return


def terminate(path: str) -> None:
    """End a master, if one listens there; for one that a service before this one left behind."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(2)
        sock.connect(path)
        for message in (_numbers(HELLO, VERSION), _numbers(TERMINATE, _REQUEST)):
            sock.sendall(_numbers(len(message)) + message)
        while sock.recv(4096):
            pass


def pipes() -> tuple[tuple[int, int], tuple[int, int]]:
    """Two ways, each as (ours, the master's): what we send, and what we receive.

    Sockets, since a user may only have so much room in pipes (pipe(7)); and two of them, since the
    master can close one direction of a forward by closing a descriptor only.
    """
    ways = []
    for _ in range(2):
        ours, theirs = socket.socketpair()
        for each in (ours, theirs):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
        ours.setblocking(False)
        ways.append((ours.detach(), theirs.detach()))
    return ways[0], ways[1]


def shut(*fds: int) -> None:
    """Close descriptors."""
    for fd in fds:
        os.close(fd)


def _numbers(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def _texts(*values: str) -> bytes:
    encoded = [each.encode() for each in values]
    return b"".join(_numbers(len(each)) + each for each in encoded)


def _number(data: bytes, at: int) -> int:
    found: int = struct.unpack_from(">I", data, at)[0] if len(data) >= at + 4 else -1
    return found
