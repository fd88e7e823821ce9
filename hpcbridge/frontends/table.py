"""The routes of this replica, and one writer that tells every front end."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence

from hpcbridge.errors import RouteError
from hpcbridge.frontends.base import Publisher, Route, Routes
from hpcbridge.network.addresses import Address
from hpcbridge.notifier import Notifier

_log = logging.getLogger(__name__)

#: After a write, the writer rests this many times as long as the write took (at most half a second)
#: if more is waiting: thousands of routes must not keep a core and a disk busy.
REST = 4.0


class RouteTable:
    """Adds and removes routes; any number of callers share one write.

    A call that is cancelled may take effect all the same. ``published`` hears of each write how
    many seconds it took, and whether every front end was told.
    """

    def __init__(
        self,
        publishers: Sequence[Publisher] = (),
        published: Callable[[float, bool], None] = lambda _seconds, _told: None,
    ) -> None:
        self._publishers = tuple(publishers)
        self._written_in = published
        self._published: dict[str, Route] = {}
        self._changes: dict[str, Route | None] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self._in_flight: frozenset[str] = frozenset()
        self._untrue = False  # a front end may know something that is not in the table
        self._writer: asyncio.Task[None] | None = None
        self._closed = False
        self._news = Notifier()

    def __len__(self) -> int:
        return len(self._published)

    def lookup(self, session_id: str) -> Address | None:
        """Where a session's route leads; None unless it is published."""
        route = self._published.get(session_id)
        return route.address if route else None

    async def awaited(self, session_id: str, seconds: float) -> Address | None:
        """Where a route leads that is about to be published; None if it is not in that time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while (address := self.lookup(session_id)) is None and loop.time() < deadline:
            await self._news.wait(deadline - loop.time())
        return address

    async def start(self, routes: Iterable[Route] = ()) -> None:
        """Replace what a crash left. Raises :class:`~hpcbridge.errors.RouteError`."""
        known = {route.session_id: route for route in routes}
        for publisher in self._publishers:
            await publisher.start(known)
        self._published = known

    async def add(self, route: Route) -> None:
        """Return when every front end has the route; it replaces an earlier one of the session.

        Raises :class:`~hpcbridge.errors.RouteError` when one could not be told; the route is then
        not in the table.
        """
        self._changes[route.session_id] = route
        await self._written()

    async def remove(self, session_id: str) -> None:
        """Return when no front end has the route; an unknown id is no error.

        :meth:`lookup` forgets it at once and for good. On
        :class:`~hpcbridge.errors.RouteError` a front end may still have it until the next write
        that succeeds; removing it again is such a write.
        """
        known = self._published.pop(session_id, None) is not None
        if known or self._untrue or session_id in self._changes or session_id in self._in_flight:
            self._changes[session_id] = None
            await self._written()

    async def close(self) -> None:
        """Finish the write under way, then let every front end forget all routes."""
        self._closed = True
        if self._writer is not None:
            await self._writer
        self._published.clear()
        for publisher in self._publishers:
            try:
                await publisher.close()
            except RouteError as error:
                _log.warning("%s", error)

    async def _written(self) -> None:
        if self._closed:
            raise RouteError("The service is ending; no route can be changed any more.")
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all())
        await done

    async def _write_all(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                began = loop.time()
                await self._write_once()
                if self._waiting:
                    await asyncio.sleep(min(REST * (loop.time() - began), 0.5))
        finally:
            self._writer = None
            for done in self._waiting:  # only when cancelled
                done.cancel()

    async def _write_once(self) -> None:
        changes, self._changes = self._changes, {}
        waiting, self._waiting = self._waiting, []
        wanted = dict(self._published)
        for session_id, route in changes.items():
            if route is None:
                wanted.pop(session_id, None)
            else:
                wanted[session_id] = route
        self._in_flight = frozenset(changes)
        began = time.monotonic()
        try:
            error = await self._tell(wanted)
        except BaseException:
            for done in waiting:
                done.cancel()
            raise
        finally:
            self._in_flight = frozenset()
        self._written_in(time.monotonic() - began, error is None)
        if error is None:
            self._published = wanted
        # What was asked to go meanwhile must not come back.
        for session_id, route in self._changes.items():
            if route is None:
                self._published.pop(session_id, None)
        self._news.notify()
        for done in waiting:
            if not done.done():
                done.set_exception(RouteError(str(error))) if error else done.set_result(None)

    async def _tell(self, routes: Routes) -> RouteError | None:
        results = await asyncio.gather(
            *(publisher.publish(routes) for publisher in self._publishers), return_exceptions=True
        )
        failures = [result for result in results if isinstance(result, BaseException)]
        self._untrue = bool(failures)
        if not failures:
            return None
        await self._take_back(
            publisher
            for publisher, result in zip(self._publishers, results, strict=True)
            if result is None
        )
        first = failures[0]
        if isinstance(first, RouteError):
            return first
        _log.error("a front end failed", exc_info=first)
        return RouteError(f"A front end could not be told ({type(first).__name__}).")

    async def _take_back(self, publishers: Iterable[Publisher]) -> None:
        """Those that were told get the routes that are still true."""
        await asyncio.gather(
            *(publisher.publish(dict(self._published)) for publisher in publishers),
            return_exceptions=True,
        )
