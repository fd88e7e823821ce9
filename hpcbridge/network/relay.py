"""The local end of a tunnel: an address whose connections are spliced to somewhere else."""

import asyncio
import logging
import socket
from contextlib import suppress
from typing import Any

from hpcbridge.network.addresses import Address, TCPAddress, UnixAddress, open_listener
from hpcbridge.network.splice import ConnectError, Dial, Pipe, Traffic, connect, pair

_log = logging.getLogger(__name__)


class _Client(Pipe):
    relay: "Relay"

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.relay._arrived(self)


class Relay:
    """Accepts connections at ``address`` and splices each to what ``dial`` connects."""

    def __init__(self, address: Address, dial: Dial, traffic: Traffic, limit: float) -> None:
        self.address = address
        self.traffic = traffic
        self._dial = dial
        self._limit = limit
        self._server: asyncio.Server | None = None
        self._inode: tuple[int, int] | None = None
        self._open: set[Pipe] = set()
        self._tasks: set[asyncio.Task[None]] = set()

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
    ) -> "Relay":
        """Listen and serve until :meth:`close`.

        With TCP port 0 the relay's ``address`` tells the port. ``mode`` and ``group`` (a gid) are
        for a unix socket; a stale one is replaced. ``connect_timeout`` is in seconds, for the far
        side. Raises :class:`~hpcbridge.network.addresses.ListenError`.
        """
        sock = open_listener(address, mode=mode, group=group)
        if isinstance(address, TCPAddress):
            address = TCPAddress(address.host, sock.getsockname()[1])
        relay = cls(address, dial, traffic or Traffic(), connect_timeout)
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
                self._client, sock=sock, start_serving=False
            )
        else:
            self._server = await loop.create_server(self._client, sock=sock, start_serving=False)
        await self._server.start_serving()

    def _client(self) -> Pipe:
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

    async def _link(self, near: Pipe) -> None:
        try:
            await connect(near.other, self._dial, self._limit)
        except ConnectError as error:
            _log.info("%s: %s", self.address, error)
            near.abort()
        except BaseException:
            near.abort()
            raise

    def _linked(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("%s: connecting failed", self.address, exc_info=error)

    async def close(self) -> None:
        """Stop listening, drop every connection, remove the socket file if it is still ours."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        self._unlink()
        for near in tuple(self._open):
            near.abort()
            near.other.abort()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await server.wait_closed()

    def _unlink(self) -> None:
        # The next relay of a session may already listen under the same name.
        if isinstance(self.address, UnixAddress):
            with suppress(OSError):
                status = self.address.path.lstat()
                if (status.st_dev, status.st_ino) == self._inode:
                    self.address.path.unlink()
