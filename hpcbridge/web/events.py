"""Telling clients of a session's progress as it happens: server-sent events.

The format is that of the HTML standard (section 9.2, "Server-sent events"): ``data:`` lines, and a
comment now and then, so that proxies keep the connection open.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from hpcbridge.errors import NoCapacity, RequestError
from hpcbridge.notifier import Notifier

HEARTBEAT = 15.0
"""Seconds after which a comment is sent when there is no news."""
LOOK = 1.0
"""Seconds after which a look is taken unnotified: not all that is told notifies."""

FIGURES = 5.0
"""Seconds after which is told what passed through the tunnel, if nothing else is new."""

STREAMS = 32
"""Clients that may listen to one session: each costs a connection, of which all users have need."""


class Audience:
    """Who listens to which session; or, of a user's sessions, to all of them."""

    def __init__(self) -> None:
        self._listening: Counter[str] = Counter()

    def told(self, what: str, events: AsyncIterator[str]) -> StreamingResponse:
        """The answer to one listener more, who counts from now on until it is over.

        Raises :class:`~hpcbridge.errors.NoCapacity` where enough listen to the same.
        """
        if self._listening[what] >= STREAMS:
            raise NoCapacity(
                f"{STREAMS} clients listen to these events, which is the most. "
                "Ask by GET meanwhile."
            )
        self._listening[what] += 1
        return _EventStream(events, lambda: self._leave(what))

    def _leave(self, what: str) -> None:
        self._listening[what] -= 1
        if not self._listening[what]:
            del self._listening[what]


class _EventStream(StreamingResponse):
    """Calls ``over`` when it has ended, also where its client left before the first event."""

    def __init__(self, events: AsyncIterator[str], over: Callable[[], None]) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._over()


async def stream(
    describe: Callable[[], Awaitable[dict[str, Any]]],
    notifier: Callable[[], Notifier | None],
    over: Callable[[], bool],
) -> AsyncIterator[str]:
    """Events, one for each description that differs from the last, until the session has ended.
    Where only the ``traffic`` in it differs, that is told every ``FIGURES`` seconds.

    ``notifier`` is None where the session is not in this service's hands any more; ``over`` says
    that the service is stopping. A :class:`~hpcbridge.errors.RequestError` of ``describe`` is the
    end, too: who listens may not any more, and is told so when asking again.
    """
    loop = asyncio.get_running_loop()
    last: dict[str, Any] = {}
    sent = loop.time()
    while not over():
        changed = notifier()
        try:
            described = await describe()
        except RequestError:
            return
        new = {**described, "traffic": None} != {**last, "traffic": None}
        if new or (described != last and loop.time() - sent > FIGURES):
            yield f"data: {json.dumps(described)}\n\n"
            last, sent = described, loop.time()
        elif loop.time() - sent > HEARTBEAT:
            yield ": still there\n\n"
            sent = loop.time()
        if described["state"] == "ended" or changed is None:
            return
        await changed.wait(LOOK)
