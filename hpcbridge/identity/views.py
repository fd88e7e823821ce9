"""One cluster as each of its users has it: connections that are kept while sessions use them."""

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Generic, Protocol, TypeVar

log = logging.getLogger(__name__)

MOST_IDLE = 32
"""Views without sessions that are kept; the one that is unused for longest goes first."""


class Closable(Protocol):
    """What a view has to be."""

    async def close(self) -> None:
        """Let go of its connections."""
        ...


V = TypeVar("V", bound=Closable)


class Views(Generic[V]):
    """Makes a view of an account when it is first held, and closes it ``linger`` seconds after the
    last who held it has released it."""

    def __init__(self, make: Callable[[str], V], linger: float) -> None:
        self._make = make
        self._linger = linger
        self._views: dict[str, V] = {}
        self._holders: dict[str, int] = {}
        self._idle: dict[str, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def accounts(self) -> Collection[str]:
        """The accounts of all views, also of those that nobody holds now."""
        return self._views.keys()

    def hold(self, account: str) -> V:
        """The view of an account. Each call asks for one of :meth:`release`."""
        if account not in self._views:
            self._views[account] = self._make(account)
        if timer := self._idle.pop(account, None):
            timer.cancel()
        self._holders[account] = self._holders.get(account, 0) + 1
        return self._views[account]

    def release(self, account: str) -> None:
        """The view is no longer needed by one who held it."""
        self._holders[account] -= 1
        if self._holders[account]:
            return
        loop = asyncio.get_running_loop()
        self._idle[account] = loop.call_later(self._linger, self._drop, account)
        if len(self._idle) > MOST_IDLE:
            self._drop(next(iter(self._idle)))

    def _drop(self, account: str) -> None:
        self._idle.pop(account).cancel()
        del self._holders[account]
        task = asyncio.create_task(self._views.pop(account).close(), name=f"close {account}")
        self._closing.add(task)
        task.add_done_callback(self._closed)

    def _closed(self, task: "asyncio.Task[None]") -> None:
        self._closing.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a user's connections could not be closed", exc_info=error)

    async def close(self) -> None:
        """Close all views."""
        for timer in self._idle.values():
            timer.cancel()
        views = list(self._views.values())
        self._views.clear()
        await asyncio.gather(*self._closing, *(each.close() for each in views))
