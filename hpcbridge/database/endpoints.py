"""The local ends of tunnels at each replica, and who is connected there."""

from dataclasses import dataclass

from sqlalchemy import func as sql
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import and_, col, delete, select, update

from hpcbridge.database.changes import Changes
from hpcbridge.database.replicas import at_work
from hpcbridge.database.tables import EndpointRow, ReplicaRow, SessionRow


@dataclass(frozen=True)
class RemoteClients:
    """Connections to a session at other replicas, and the seconds since the last was used."""

    connections: int
    unused: float


class Endpoints:
    """Every method may raise :class:`~hpcbridge.errors.StoreError`."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    async def here(self) -> dict[str, str]:
        """The local ends that this replica has, or had before a restart, by session id."""
        mine = col(EndpointRow.replica).in_((self._changes.replica, ""))
        query = select(EndpointRow.session_id, EndpointRow.address).where(mine)
        query = query.order_by(col(EndpointRow.replica))  # what is its own comes last, and counts
        async with self._changes.reading() as session:
            return {endpoint[0]: endpoint[1] for endpoint in await session.execute(query)}

    async def put(self, session_id: str, address: str) -> None:
        """Remember this replica's local end of a session's tunnel."""
        replica = self._changes.replica
        row = EndpointRow(session_id=session_id, replica=replica, address=address)
        async with self._changes.writing() as session:
            await session.merge(row)

    async def drop(self, session_id: str) -> None:
        """Forget all local ends of a session."""
        its = col(EndpointRow.session_id) == session_id
        async with self._changes.writing() as session:
            await session.execute(delete(EndpointRow).where(its))

    async def report(self, session_id: str, connections: int, unused: float) -> None:
        """How many are connected here, and for how many seconds nothing has passed."""
        mine = and_(
            col(EndpointRow.session_id) == session_id,
            col(EndpointRow.replica) == self._changes.replica,
        )
        active = {"connections": connections, "active_at": self._changes.clock() - unused}
        async with self._changes.writing() as session:
            await session.execute(update(EndpointRow).where(mine).values(**active))

    async def remote_clients(self) -> dict[str, RemoteClients]:
        """Who is connected at other replicas that are at work, by session id."""
        others = ReplicaRow.replica != self._changes.replica
        there = select(ReplicaRow.replica).where(at_work(self._changes), others)
        columns = (
            col(EndpointRow.session_id),
            sql.sum(EndpointRow.connections),
            self._changes.clock() - sql.max(EndpointRow.active_at),
        )
        query = select(*columns).where(
            col(EndpointRow.replica).in_(there), col(EndpointRow.active_at).is_not(None)
        )
        async with self._changes.reading() as session:
            rows = await session.execute(query.group_by(col(EndpointRow.session_id)))
            return {key: RemoteClients(int(count), float(unused)) for key, count, unused in rows}

    async def prune(self, session: AsyncSession) -> None:
        """Forget those of sessions that are forgotten."""
        there = select(SessionRow.id)
        await session.execute(delete(EndpointRow).where(col(EndpointRow.session_id).not_in(there)))
