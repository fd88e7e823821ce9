"""How the database is read and changed, by one service or by several.

SQLite has one write lock, and waiting for it inside the database would hold connections for as
long; so there one writes at a time here. Readers are never in the way (WAL). PostgreSQL is shared
by replicas: every change there is told to the others, and what only the leader may write is fenced
by its term (:mod:`hpcbridge.replication.leadership`).
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from sqlalchemy import ColumnElement, Float, cast, literal, text
from sqlalchemy import func as sql
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlmodel import col, select, update

from hpcbridge.database.tables import LeadershipRow, SessionRow
from hpcbridge.database.transactions import Transaction, Transactions
from hpcbridge.errors import LeadershipLost

CHANNEL = "hpcbridge"
"""Where replicas tell each other of changes (NOTIFY, LISTEN)."""
NOBODY = 0
"""The term of a replica that does not lead."""
LAUNCHING = 0x68706362_0002
"""Key of the advisory lock under which launches are counted, on all replicas."""


class Changes:
    """Transactions on one engine, and what every change of a session has in common.

    ``replica`` tells this service from others on the database, the same after a restart.
    """

    def __init__(self, engine: AsyncEngine, replica: str = "") -> None:
        self.replica = replica
        #: Whether other services may be at work on it.
        self.shared = engine.dialect.name == "postgresql"
        #: The term in which this service leads. None where there are no others.
        self.term: int | None = NOBODY if self.shared else None
        #: Tells this process from all others, in notices and in the lease.
        self.token = secrets.token_hex(8)
        self.engine = engine
        self._transactions = Transactions(engine)
        one = asyncio.Lock()
        self._writing: AbstractAsyncContextManager[None] = (
            contextlib.nullcontext() if self.shared else one
        )

    def reading(self) -> Transaction:
        """A transaction that only reads."""
        return self._transactions.new()

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        """A transaction that writes."""
        async with self._writing, self.reading() as session:
            yield session

    @contextlib.asynccontextmanager
    async def launching(self) -> AsyncIterator[AsyncSession]:
        """A transaction that gives a session to somebody; one after the other, at all replicas."""
        async with self.writing() as session:
            if self.shared:
                lock = text("SELECT pg_advisory_xact_lock(:key)")
                await session.execute(lock, {"key": LAUNCHING})
            yield session

    def clock(self) -> ColumnElement[float]:
        """Seconds since the epoch, by the database's clock, as a part of a statement."""
        if self.shared:
            return cast(sql.extract("epoch", sql.clock_timestamp()), Float)
        return literal(time.time())

    async def now(self, session: AsyncSession) -> float:
        """The same as a number."""
        return float((await session.execute(select(self.clock()))).scalar_one())

    async def fence(self, session: AsyncSession) -> None:
        """Let nobody take the leadership over until this transaction is done.

        Raises :class:`~hpcbridge.errors.LeadershipLost` when another replica has it by now.
        """
        if self.term is None:
            return
        mine = col(LeadershipRow.term) == self.term
        held = select(LeadershipRow.term).where(mine).with_for_update(read=True)
        if (await session.execute(held)).first() is None:
            raise LeadershipLost

    async def change(
        self, session: AsyncSession, row: SessionRow, changes: Mapping[str, Any], *only: Any
    ) -> dict[str, Any] | None:
        """Change a session where ``only`` is true of it, and tell; None where it is not.

        Returns what to :func:`put` into the row once the transaction is over.
        """
        query = update(SessionRow).where(col(SessionRow.id) == row.id, *only)
        query = query.execution_options(synchronize_session=False)
        query = query.values(**changes, version=col(SessionRow.version) + 1)
        if self.shared:
            version = await session.scalar(query.returning(col(SessionRow.version)))
        else:  # not every SQLite has RETURNING; all changes are made here, one after the other
            done: Any = await session.execute(query)
            version = row.version + 1 if done.rowcount else None
        if version is None:
            return None
        await self.tell(session, row.job_name)
        return {**changes, "version": version}

    async def tell(self, session: AsyncSession, name: str) -> None:
        """Tell the other replicas of a change, once it is done.

        Every account of the database may listen. A session's id opens it, its job's name does not.
        """
        if self.shared:
            told = {"channel": CHANNEL, "payload": f"{self.token} {name}"}
            await session.execute(text("SELECT pg_notify(:channel, :payload)"), told)

    async def close(self) -> None:
        """Release the connections, once every transaction is over."""
        await self._transactions.close()


def put(row: SessionRow, changed: Mapping[str, Any]) -> None:
    """Have in ``row`` what is in the database by now."""
    for key, value in changed.items():
        setattr(row, key, value)
