"""uvicorn's HTTP protocol with an end to its patience: it waits for slow clients for ever."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_TIMEOUT = 10.0
"""Seconds that a client gets to send a request's head, and to end a body that nobody reads."""


class TimedProtocol(H11Protocol):
    """Drops a connection on which a request is not sent to its end, or none at all.

    Whoever reads a body sees to its time.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client, who has to say something."""
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request, or of several."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """The reply is sent; perhaps before all of the request came."""
        super().on_response_complete()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._stop_timer()
        super().connection_lost(exc)

    def _look(self) -> None:
        if self.transport.get_protocol() is not self:
            return  # handed over
        theirs = self.conn.their_state
        begun = theirs is h11.IDLE and self.conn.trailing_data[0]
        unread = theirs is h11.SEND_BODY and self.conn.our_state is h11.DONE
        if begun or unread:
            self._start_timer()
        else:
            self._stop_timer()

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_TIMEOUT, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
