"""The two ends of a visit through the built-in front end, stricter than plain pipes.

A proxy in front of us may keep its connections and send several people's requests on one. So what
follows the first request must never reach the session unseen: not after a plain request, and not
after a WebSocket handshake that the session refused.
"""

from http import HTTPStatus
from typing import Any

from hpcbridge.frontends.forwarding import clean_reply, error_reply, status_of
from hpcbridge.network.splice import EARLY_LIMIT, Pipe

#: Bytes of a reply's head.
_REPLY_LIMIT = 64 * 1024


class OneRequest(Pipe):
    """The near end of a plain request: all that comes after the head is dropped."""

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """Drop it."""

    def eof_received(self) -> bool:
        """Not passed on: many servers take the end of a request's stream for a cancellation."""
        if self.other.ended:
            return super().eof_received()
        return self.wait_for_other()


class Answer(Pipe):
    """The far end: looks at the head of the session's reply, then is a plain pipe."""

    websocket = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head: bytearray | None = bytearray()
        self._held: bytearray | None = None

    def send(self, data: bytes) -> None:
        """The first is the request's head; the rest waits until the session has answered."""
        if self._head is None:
            super().send(data)
        elif self._held is None:
            self._held = bytearray()
            super().send(data)
        else:
            self._held += data
            if len(self._held) > EARLY_LIMIT:
                self.other.pause_reading()

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """Pass on, after the head has been seen."""
        if self._head is None:
            super().data_received(data)
            return
        self._head += data
        end = self._head.find(b"\r\n\r\n") + 4
        if end >= 4:
            self._answered(bytes(self._head[:end]), bytes(self._head[end:]))
        elif len(self._head) > _REPLY_LIMIT:
            self._reject(HTTPStatus.BAD_GATEWAY, "The session's answer is not HTTP.")

    def eof_received(self) -> bool:
        """The session closed; before its answer that is an error."""
        if self._head is not None:
            self._reject(HTTPStatus.BAD_GATEWAY, "The session closed the connection.")
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The session is gone; before its answer that is an error."""
        if self._head is not None:
            self._reject(HTTPStatus.BAD_GATEWAY, "The session closed the connection.")
        super().connection_lost(exc)

    def _answered(self, head: bytes, rest: bytes) -> None:
        status = status_of(head)
        if status is None or self.websocket != (status == 101):
            if status is None or status < 400 or not self.websocket:
                status = HTTPStatus.BAD_GATEWAY
            reason = (
                "The session did not accept the WebSocket."
                if self.websocket
                else ("The session's answer cannot be passed on.")
            )
            self._reject(_known(status), reason)
            return
        held, self._held, self._head = self._held, None, None
        super().data_received(clean_reply(head, websocket=self.websocket) + rest)
        if held:
            super().send(bytes(held))
        if not self.full:
            self.other.resume_reading()

    def _reject(self, status: HTTPStatus, reason: str) -> None:
        self._head = None
        self.other.send(error_reply(status, reason))
        self.other.finish()
        self.abort()


class PlainAnswer(Answer):
    """The far end of a plain request."""

    websocket = False


def _known(status: int) -> HTTPStatus:
    return HTTPStatus(status) if status in set(HTTPStatus) else HTTPStatus.BAD_GATEWAY
