"""Telling all who wait that something has changed."""

import asyncio
import contextlib
from collections.abc import Callable


class Notifier:
    """Wakes all who wait for it, as often as it is notified; ``then`` is called each time, too."""

    def __init__(self, then: Callable[[], None] | None = None) -> None:
        self._event = asyncio.Event()
        self.then = then

    def notify(self) -> None:
        """Wake whoever waits now."""
        event, self._event = self._event, asyncio.Event()
        event.set()
        if self.then is not None:
            self.then()

    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109  # not an error: it is the pace
        """Return at the next notification, or after ``timeout`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._event.wait()
