"""The services at work on this database, and what they have in common."""

from sqlalchemy import ColumnElement
from sqlalchemy import func as sql
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, delete, select

from hpcbridge.database.changes import Changes
from hpcbridge.database.tables import InstallationRow, LeadershipRow, ReplicaRow

STALE = 15.0
"""Seconds after which a replica that was not heard of, and a client that it had, are gone."""
FORGOTTEN = 86400.0
"""Seconds after which there is no trace of it."""


def at_work(changes: Changes) -> ColumnElement[bool]:
    """Whether a replica has been heard of lately."""
    return col(ReplicaRow.seen_at) > changes.clock() - STALE


class Replicas:
    """Every method may raise :class:`~hpcbridge.errors.StoreError`."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    async def mark(self, proposed: str) -> str:
        """The mark of this database's jobs: what the first service on it proposed."""
        async with self._changes.launching() as session:
            found = await session.get(InstallationRow, 1)
            if found is None:
                found = InstallationRow(id=1, mark=proposed)
                session.add(found)
            return found.mark

    async def leader(self) -> str | None:
        """The token of the service that leads; None while there is none."""
        async with self._changes.reading() as session:
            if not self._changes.shared:
                await session.execute(select(InstallationRow.id).limit(1))  # is it there?
                return self._changes.token
            held = col(LeadershipRow.expires_at) > self._changes.clock()
            query = select(LeadershipRow.holder).where(held)
            return (await session.execute(query)).scalars().first()

    async def announce(self) -> int:
        """Tell that this replica is at work; how many others are."""
        mine = self._changes.replica
        async with self._changes.writing() as session:
            now = await self._changes.now(session)
            await session.merge(ReplicaRow(replica=mine, seen_at=now))
            query = select(sql.count()).select_from(ReplicaRow)
            others = query.where(at_work(self._changes), ReplicaRow.replica != mine)
            return int((await session.execute(others)).scalar_one())

    async def leave(self) -> None:
        """This replica is at work no more."""
        mine = col(ReplicaRow.replica) == self._changes.replica
        async with self._changes.writing() as session:
            await session.execute(delete(ReplicaRow).where(mine))

    async def prune(self, session: AsyncSession) -> None:
        """Forget replicas long gone."""
        gone = col(ReplicaRow.seen_at) < self._changes.clock() - FORGOTTEN
        await session.execute(delete(ReplicaRow).where(gone))
