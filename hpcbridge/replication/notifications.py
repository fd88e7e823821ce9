"""Hearing what other replicas have changed: LISTEN on a connection of its own.

https://www.postgresql.org/docs/current/sql-notify.html
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from hpcbridge.database.engine import cause, is_from_database
from hpcbridge.errors import StoreError
from hpcbridge.store import CHANNEL, Store

log = logging.getLogger(__name__)

PAUSE = 0.5
PAUSE_LIMIT = 5.0
GATHER = 0.01
"""Seconds for which notices are gathered: a change is often followed by another."""


class Notifications:
    """Listens for as long as :meth:`run` runs.

    ``heard`` is awaited with the names that were told, and ``missed`` whenever a connection was
    made: notices may have been lost before.
    """

    def __init__(
        self,
        store: Store,
        heard: Callable[[set[str]], Awaitable[None]],
        missed: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._heard = heard
        self._missed = missed
        self._names: set[str] = set()
        self._news = asyncio.Event()
        self._lost = False

    async def run(self) -> None:
        """Listen, and connect again when the connection is lost."""
        pause = PAUSE
        while True:
            try:
                await self._listen()
                pause = PAUSE
            except Exception as error:
                if not isinstance(error, StoreError) and not is_from_database(error):
                    raise
                log.warning("other replicas cannot be heard: %s", cause(error))
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSE_LIMIT)

    async def _listen(self) -> None:
        async with self._store.engine.connect() as connection:
            raw = await connection.get_raw_connection()
            driver: Any = raw.driver_connection
            self._lost = False
            driver.add_termination_listener(self._on_lost)
            await driver.add_listener(CHANNEL, self._on_notice)
            try:
                await self._missed()
                while not self._lost:
                    await self._news.wait()
                    await asyncio.sleep(GATHER)
                    self._news.clear()
                    names, self._names = self._names, set()
                    if names:
                        await self._heard(names)
            finally:
                driver.remove_termination_listener(self._on_lost)
                with contextlib.suppress(Exception):  # whatever state a lost connection is in
                    await driver.remove_listener(CHANNEL, self._on_notice)
                await connection.invalidate()

    def _on_notice(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        sender, _, name = payload.partition(" ")
        if sender != self._store.token:
            self._names.add(name)
            self._news.set()

    def _on_lost(self, _connection: Any) -> None:
        self._lost = True
        self._news.set()
