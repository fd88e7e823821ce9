"""The local end of a tunnel: an address whose connections are spliced to somewhere else."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeAlias

from hpcbridge.network.addresses import BACKLOG, Address, TCPAddress, UnixAddress, open_listener
from hpcbridge.network.splice import ConnectError, Dial, Pipe, Traffic, connect, pair
from hpcbridge.network.stream import Stream

_log = logging.getLogger(__name__)


class _Client(Pipe):
    relay: "Relay"

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.relay._arrived(self)


Reach: TypeAlias = Callable[[], Awaitable[Stream]]
"""Connects to what is behind the relay. Raises :class:`~hpcbridge.network.splice.ConnectError`."""
Serve: TypeAlias = Callable[[Stream, Reach, Traffic], Awaitable[None]]
"""Serves one client of a relay, and closes its connection."""


class _Guest(Stream):
    """A client that is served, not spliced."""

    def __init__(self, relay: "Relay") -> None:
        super().__init__()
        self._relay = relay

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._relay._entered(self)

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        if self._heir is None:  # which counts as well
            self._relay.traffic.came_in(len(data))
        super().data_received(data)


class _Far(Stream):
    """A connection to what is behind the relay, for such a client."""

    def __init__(self, traffic: Traffic) -> None:
        super().__init__()
        self._traffic = traffic

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        if self._heir is None:
            self._traffic.went_out(len(data))
        super().data_received(data)


class Relay:
    """Accepts connections at ``address`` and splices each to what ``dial`` connects, or lets
    ``serve`` see to it."""

    def __init__(
        self,
        address: Address,
        dial: Dial,
        traffic: Traffic,
        limit: float,
        serve: Serve | None = None,
    ) -> None:
        self.address = address
        self.traffic = traffic
        self._dial = dial
        self._serve_client = serve
        self._limit = limit
        self._server: asyncio.Server | None = None
        self._inode: tuple[int, int] | None = None
        self._open: set[Pipe] = set()
        self._tasks: set[asyncio.Future[None]] = set()

    @classmethod
    async def listen(
        cls,
        address: Address,
        dial: Dial,
        traffic: Traffic | None = None,
        *,
        mode: int = 0o660,
        group: int | None = None,
        connect_timeout: float = 10.0,
        serve: Serve | None = None,
    ) -> "Relay":
        """Listen and serve until :meth:`close`.

        With TCP port 0 the relay's ``address`` tells the port. ``mode`` and ``group`` (a gid) are
        for a unix socket; a stale one is replaced. ``connect_timeout`` is in seconds, for the far
        side. Raises :class:`~hpcbridge.network.addresses.ListenError`.
        """
        sock = open_listener(address, mode=mode, group=group)
        if isinstance(address, TCPAddress):
            address = TCPAddress(address.host, sock.getsockname()[1])
        relay = cls(address, dial, traffic or Traffic(), connect_timeout, serve)
        try:
            await relay._serve(sock)
        except BaseException:  # cancelled in the middle: nothing is to listen on
            await relay.close()
            sock.close()
            raise
        return relay

    async def _serve(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        if isinstance(self.address, UnixAddress):
            with suppress(OSError):
                status = self.address.path.stat()
                self._inode = (status.st_dev, status.st_ino)
            self._server = await loop.create_unix_server(
                self._client, sock=sock, backlog=BACKLOG, start_serving=False
            )
        else:
            self._server = await loop.create_server(
                self._client, sock=sock, backlog=BACKLOG, start_serving=False
            )
        await self._server.start_serving()

    def _client(self) -> Pipe | Stream:
        if self._serve_client is not None:
            return _Guest(self)
        near, _ = pair(self.traffic, lambda: self._open.discard(near), near=_Client)
        assert isinstance(near, _Client)
        near.relay = self
        return near

    def _arrived(self, near: Pipe) -> None:
        if self._server is None:
            near.abort()
            return
        self._open.add(near)
        task = asyncio.create_task(self._link(near))
        self._tasks.add(task)
        task.add_done_callback(self._linked)

    def _entered(self, guest: Stream) -> None:
        if self._server is None or self._serve_client is None:
            guest.abort()
            return
        task = asyncio.ensure_future(self._serve_client(guest, self._reach, self.traffic))
        self._tasks.add(task)
        task.add_done_callback(self._linked)
        task.add_done_callback(lambda _: guest.abort())

    async def _reach(self) -> Stream:
        stream = _Far(self.traffic)
        await connect(stream, self._dial, self._limit)
        return stream

    async def _link(self, near: Pipe) -> None:
        try:
            await connect(near.other, self._dial, self._limit)
        except ConnectError as error:
            _log.info("%s: %s", self.address, error)
            near.abort()
        except BaseException:
            near.abort()
            raise

    def _linked(self, task: "asyncio.Future[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("%s: connecting failed", self.address, exc_info=error)

    def cut(self) -> None:
        """Drop every connection, and go on listening."""
        for near in tuple(self._open):
            near.abort()
            near.other.abort()
        for task in tuple(self._tasks):
            task.cancel()

    async def close(self) -> None:
        """Stop listening, drop every connection, remove the socket file if it is still ours."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        self._unlink()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await server.wait_closed()

    def _unlink(self) -> None:
        # The next relay of a session may already listen under the same name.
        if isinstance(self.address, UnixAddress):
            with suppress(OSError):
                status = self.address.path.lstat()
                if (status.st_dev, status.st_ino) == self._inode:
                    self.address.path.unlink()
