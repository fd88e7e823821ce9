"""TLS before everything else: a connection is counted and timed while it is not spoken yet.

asyncio's own TLS server makes a protocol only after the handshake, so that visitors who never end
theirs are nobody's, for a minute each.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, MutableSet
from typing import Any

from uvicorn.server import ServerState

from hpcbridge.frontends import timed
from hpcbridge.network.counts import Counts

_log = logging.getLogger(__name__)

#: Seconds that a client gets to answer the end of TLS.
GOODBYE = 5.0


def behind_tls(
    inner: Callable[..., asyncio.Protocol], context: ssl.SSLContext, counts: Counts
) -> Callable[..., asyncio.Protocol]:
    """For ``uvicorn.Config(http=...)``: what ``inner`` makes gets the connection after TLS."""

    def make(*, server_state: ServerState, **more: Any) -> asyncio.Protocol:
        return _Door(
            lambda: inner(server_state=server_state, **more), context, counts, server_state
        )

    return make


class _Early(asyncio.Protocol):
    """What comes with the handshake's last bytes, before anybody else is there."""

    def __init__(self) -> None:
        self.data = b""
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


class _Door(asyncio.Protocol):
    """One connection until its TLS is there."""

    def __init__(
        self,
        make: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
        counts: Counts,
        state: ServerState,
    ) -> None:
        self._make = make
        self._context = context
        self._counts = counts
        self._tasks = state.tasks
        # uvicorn calls shutdown() on what is in here.
        self._connections: MutableSet[Any] = state.connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client, who has to begin TLS."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer = transport.get_extra_info("peername")
        if not self._counts.arrive(transport, str(peer[0]) if peer else None):
            transport.abort()  # nothing that it could read can be said
            return
        transport.pause_reading()
        self._connections.add(self)
        task = asyncio.get_running_loop().create_task(self._open(), name="TLS")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def shutdown(self) -> None:
        """The server ends."""
        self._transport.abort()

    async def _open(self) -> None:
        early, loop = _Early(), asyncio.get_running_loop()
        try:
            secure = await loop.start_tls(
                self._transport,
                early,
                self._context,
                server_side=True,
                ssl_handshake_timeout=timed.HEAD_TIMEOUT,
                ssl_shutdown_timeout=GOODBYE,
            )
        except (OSError, TimeoutError) as error:
            _log.debug("no TLS with a client: %s", error)
            self._transport.abort()
            return
        finally:
            self._counts.leave(self._transport)
            self._connections.discard(self)
        if secure is None or early.lost:
            self._transport.abort()
            return
        protocol = self._make()
        secure.set_protocol(protocol)
        protocol.connection_made(secure)
        if early.data:
            protocol.data_received(early.data)
