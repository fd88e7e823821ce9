"""Transactions that end whole: whoever is cancelled, what was begun is committed or rolled back."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from hpcbridge.database.engine import cause, is_from_database
from hpcbridge.errors import StoreError

T = TypeVar("T")

LIMIT = 10.0
"""Seconds that somebody who was cancelled waits; drivers give a statement up before."""
TASK = "database"
"""The name of tasks that do one thing to its end; nobody cancels them."""


async def whole(work: Coroutine[Any, Any, T]) -> T:
    """Do ``work`` to its end, and be cancelled only then."""
    task = asyncio.create_task(work, name=TASK)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await _over(task)
        raise


async def _over(task: asyncio.Future[Any]) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + LIMIT
    while not task.done() and loop.time() < until:
        with contextlib.suppress(asyncio.CancelledError):  # once is enough
            await asyncio.wait({task}, timeout=until - loop.time())


class _Uncut(AsyncSession):
    """For SQLite, whose driver works in a thread and cannot give a statement up.

    A connection whose statement was abandoned is thrown away while it may still hold the write
    lock, with a traceback in the log.
    """

    async def execute(self, *args: Any, **more: Any) -> Any:
        return await whole(super().execute(*args, **more))

    async def scalar(self, *args: Any, **more: Any) -> Any:
        return await whole(super().scalar(*args, **more))

    async def get(self, *args: Any, **more: Any) -> Any:
        return await whole(super().get(*args, **more))

    async def merge(self, *args: Any, **more: Any) -> Any:
        return await whole(super().merge(*args, **more))

    async def commit(self) -> None:
        await whole(super().commit())


class Transactions:
    """All that are under way on one engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        kind = _Uncut if engine.dialect.name == "sqlite" else AsyncSession
        self._sessions = async_sessionmaker(engine, class_=kind, expire_on_commit=False)
        self._open: set[Transaction] = set()
        self._none = asyncio.Event()
        self._none.set()

    def new(self) -> "Transaction":
        """One more."""
        return Transaction(self._sessions(), self)

    def begun(self, transaction: "Transaction") -> None:
        """It has begun."""
        self._open.add(transaction)
        self._none.clear()

    def ended(self, transaction: "Transaction") -> None:
        """It is over, and has given its connection back."""
        self._open.discard(transaction)
        if not self._open:
            self._none.set()

    async def close(self) -> None:
        """Release the connections, when the last transaction is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIMIT):
                await self._none.wait()
        await self._engine.dispose()


class Transaction:
    """A session that commits at the end and speaks the project's errors."""

    def __init__(self, session: AsyncSession, all_: Transactions) -> None:
        self._session = session
        self._all = all_

    async def __aenter__(self) -> AsyncSession:
        self._all.begun(self)
        return self._session

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            if error is None:
                await self._session.commit()
        except Exception as failure:
            error = failure
            if not is_from_database(failure):
                raise
        finally:
            await whole(self._close())
        if isinstance(error, Exception) and is_from_database(error):
            raise StoreError(f"The database did not accept a change: {cause(error)}.") from error

    async def _close(self) -> None:
        try:
            with contextlib.suppress(SQLAlchemyError, OSError):  # the connection may be lost
                await self._session.close()
        finally:
            self._all.ended(self)
