"""The table of sessions, and the questions asked of it.

SQLite has one write lock, and waiting for it inside the database would hold connections for as
long; so there one writes at a time here. Readers are never in the way (WAL). PostgreSQL is shared
by replicas: every change there is told to the others, and what only the leader may write is fenced
by its term (:mod:`hpcbridge.replication.leadership`).
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import URL, ColumnElement, Float, cast, literal, text
from sqlalchemy import func as sql
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlmodel import and_, col, delete, or_, select, update

from hpcbridge.database.engine import open_engine
from hpcbridge.database.tables import (
    EndpointRow,
    InstallationRow,
    LeadershipRow,
    ReplicaRow,
    SessionRow,
)
from hpcbridge.database.transactions import Transaction, Transactions
from hpcbridge.errors import LeadershipLost, NoCapacity
from hpcbridge.states import State

__all__ = ["Quota", "RemoteClients", "SessionRow", "State", "Store"]

NAMES_AT_ONCE = 500
"""Job names that one query asks for; databases limit the values of a statement."""
CHANNEL = "hpcbridge"
"""Where replicas tell each other of changes (NOTIFY, LISTEN)."""
STALE = 15.0
"""Seconds after which a replica that was not heard of, and a client that it had, are gone."""
RECENT = 20
"""Sessions from which it is told how long one waits."""
NOBODY = 0
"""The term of a replica that does not lead."""
_LAUNCHING = 0x68706362_0002
"""Key of the advisory lock under which launches are counted, on all replicas."""


@dataclass(frozen=True)
class Quota:
    """How many sessions there may be with certain columns; ``told`` is said to one too many.

    ``{}`` in ``told`` becomes their number. With ``waiting`` only those count whose job has not
    started.
    """

    limit: int
    told: str
    columns: Mapping[str, Any]
    waiting: bool = False


@dataclass(frozen=True)
class RemoteClients:
    """Connections to a session at other replicas, and the seconds since the last was used."""

    connections: int
    unused: float


class Store:
    """The database. Every method may raise :class:`~hpcbridge.errors.StoreError`.

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

    @classmethod
    async def open(cls, url: str | URL, replica: str = "") -> "Store":
        """Open the database at a SQLAlchemy URL and bring its schema up to date."""
        return cls(await open_engine(url), replica)

    # -- sessions

    async def add(self, row: SessionRow) -> None:
        """Write a new session."""
        async with self.writing() as session:
            session.add(row)
            await self.tell(session, row.job_name)

    async def launch(self, row: SessionRow, quotas: Sequence[Quota]) -> SessionRow:
        """Write a new session, or find the one that the same request began before.

        That is any with its Idempotency-Key; without a key one whose client waited for it and
        left. The other row is returned then. Launches are decided one after the other, at all
        replicas, so that no cap is ever exceeded.

        Raises :class:`~hpcbridge.errors.NoCapacity`.
        """
        async with self.launching() as session:
            found = await self.begun(session, row.request, row.idempotency_key)
            if found is not None and row.idempotency_key is None:
                changes = {"forsaken": False, "wanted_at": await self.now(session)}
                await self.change(session, found, changes)
                session.expunge(found)
                _put(found, changes)
            if found is not None:
                return found
            await self.check_quotas(session, quotas)
            row.wanted_at = await self.now(session)
            session.add(row)
            await self.tell(session, row.job_name)
        return row

    async def begun(
        self, session: AsyncSession, request: str | None, key: str | None
    ) -> SessionRow | None:
        """The session that the same launch has begun before, if it may have that."""
        if key is not None:
            same = col(SessionRow.idempotency_key) == key
            return (await session.execute(select(SessionRow).where(same))).scalars().first()
        free = and_(_going_on(), col(SessionRow.claimed).is_(False))
        left: ColumnElement[bool] = col(SessionRow.forsaken).is_(True)
        if self.shared:  # its replica may be gone, which then told nobody that the client is too
            left = or_(left, col(SessionRow.wanted_at) < self._now() - STALE)
        query = select(SessionRow).where(col(SessionRow.request) == request, free, left)
        return (await session.execute(query)).scalars().first()

    async def check_quotas(self, session: AsyncSession, quotas: Sequence[Quota]) -> None:
        """Raises :class:`~hpcbridge.errors.NoCapacity` where one more would be too many."""
        for quota in quotas:
            same = [getattr(SessionRow, name) == value for name, value in quota.columns.items()]
            if quota.waiting:
                same.append(col(SessionRow.state).in_((State.SUBMITTING, State.QUEUED)))
            query = select(sql.count()).select_from(SessionRow).where(_going_on(), *same)
            there = (await session.execute(query)).scalar_one()
            if there >= quota.limit:
                raise NoCapacity(quota.told.replace("{}", str(there)))

    async def update(self, row: SessionRow, *, as_seen: bool = False, **changes: Any) -> bool:
        """Change columns of a session, in the database first and then in ``row``.

        For who drives the session. With ``as_seen``, False is returned and nothing done where
        another replica has changed it since it was read.

        Raises :class:`~hpcbridge.errors.LeadershipLost` when another replica leads by now.
        """
        async with self.writing() as session:
            await self.fence(session)
            only = [col(SessionRow.version) == row.version] if as_seen else []
            done = await self.change(session, row, changes, *only)
        if done:
            _put(row, changes)
        return done

    async def note(self, row: SessionRow, **changes: Any) -> bool:
        """Write down what a client did; any replica may. False where the session has ended."""
        async with self.writing() as session:
            living = col(SessionRow.state) != State.ENDED
            done = await self.change(session, row, changes, living)
        if done:
            _put(row, changes)
        return done

    async def wanted(self, session_ids: Collection[str]) -> None:
        """Clients at this replica want these sessions."""
        async with self.writing() as session:
            wanted = col(SessionRow.id).in_(session_ids)
            count = {"wanted_at": self._now(), "version": col(SessionRow.version) + 1}
            query = update(SessionRow).where(wanted).values(**count)
            query = query.execution_options(synchronize_session=False)
            names = (await session.execute(query.returning(col(SessionRow.job_name)))).scalars()
            for name in names.all():
                await self.tell(session, name)

    async def check(self) -> None:
        """Raise :class:`~hpcbridge.errors.LeadershipLost` when another replica leads by now."""
        if self.term is not None:
            async with self.reading() as session:
                await self.fence(session)

    async def get(self, session_id: str) -> SessionRow | None:
        """One session, ended ones included."""
        async with self.reading() as session:
            return await session.get(SessionRow, session_id)

    async def named(self, job_names: Collection[str]) -> Sequence[SessionRow]:
        """The sessions with these names, ended ones included."""
        query = select(SessionRow).where(col(SessionRow.job_name).in_(job_names))
        async with self.reading() as session:
            return (await session.execute(query)).scalars().all()

    async def unfinished(self) -> Sequence[SessionRow]:
        """Sessions that live, and ended ones whose job may not be gone."""
        async with self.reading() as session:
            return (await session.execute(select(SessionRow).where(_unfinished()))).scalars().all()

    async def living(self, user: str | None = None) -> Sequence[SessionRow]:
        """Sessions that have not ended, the newest first; all, or one user's."""
        query = select(SessionRow).where(col(SessionRow.state) != State.ENDED)
        if user is not None:
            query = query.where(col(SessionRow.user) == user)
        async with self.reading() as session:
            newest = query.order_by(col(SessionRow.submitting_at).desc())
            return (await session.execute(newest)).scalars().all()

    async def waits(self, application: str, cluster: str) -> list[float]:
        """How long its last sessions there waited in the queue, in seconds, the newest first."""
        began, waited = col(SessionRow.starting_at), col(SessionRow.queued_at)
        query = select(began - waited).where(
            SessionRow.application == application,
            SessionRow.cluster == cluster,
            began.is_not(None),
            waited.is_not(None),
        )
        async with self.reading() as session:
            newest = query.order_by(waited.desc()).limit(RECENT)
            return [float(wait or 0) for wait in (await session.execute(newest)).scalars()]

    async def versions(self) -> dict[str, tuple[str, int]]:
        """Name and version of each unfinished session, by its id."""
        columns = (col(SessionRow.id), col(SessionRow.job_name), col(SessionRow.version))
        async with self.reading() as session:
            rows = await session.execute(select(*columns).where(_unfinished()))
            return {key: (name, version) for key, name, version in rows}

    async def known(self, job_names: Collection[str]) -> set[str]:
        """Those names of jobs that belong to a session that lives or is still cleaning up."""
        wanted, found = list(job_names), set[str]()
        for start in range(0, len(wanted), NAMES_AT_ONCE):
            names = wanted[start : start + NAMES_AT_ONCE]
            first = {"-".join(name.split("-")[:3]) for name in names}
            query = select(SessionRow).where(col(SessionRow.job_name).in_(first), _unfinished())
            async with self.reading() as session:
                rows = (await session.execute(query)).scalars().all()
            found |= {row.attempt_name for row in rows} & set(names)
        return found

    async def forsake(self) -> None:
        """No client waits any more: it was another service's, which is gone."""
        free = and_(_going_on(), col(SessionRow.claimed).is_(False))
        async with self.writing() as session:
            await session.execute(update(SessionRow).where(free).values(forsaken=True))

    async def prune(self, age: float) -> None:
        """Forget sessions that ended more than ``age`` seconds ago, and replicas long gone."""
        old = col(SessionRow.ended_at) < time.time() - age
        async with self.writing() as session:
            await session.execute(delete(SessionRow).where(old, col(SessionRow.job_ended)))
            there = select(SessionRow.id)
            await session.execute(
                delete(EndpointRow).where(col(EndpointRow.session_id).not_in(there))
            )
            gone = col(ReplicaRow.seen_at) < self._now() - 86400
            await session.execute(delete(ReplicaRow).where(gone))

    # -- endpoints

    async def endpoints(self) -> dict[str, str]:
        """The local ends that this replica has, or had before a restart, by session id."""
        mine = col(EndpointRow.replica).in_((self.replica, ""))
        query = select(EndpointRow.session_id, EndpointRow.address).where(mine)
        query = query.order_by(col(EndpointRow.replica))  # what is its own comes last, and counts
        async with self.reading() as session:
            return {endpoint[0]: endpoint[1] for endpoint in await session.execute(query)}

    async def set_endpoint(self, session_id: str, address: str) -> None:
        """Remember this replica's local end of a session's tunnel."""
        async with self.writing() as session:
            await session.merge(
                EndpointRow(session_id=session_id, replica=self.replica, address=address)
            )

    async def drop_endpoints(self, session_id: str) -> None:
        """Forget all local ends of a session."""
        async with self.writing() as session:
            await session.execute(
                delete(EndpointRow).where(col(EndpointRow.session_id) == session_id)
            )

    async def report(self, session_id: str, connections: int, unused: float) -> None:
        """How many are connected here, and for how many seconds nothing has passed."""
        mine = and_(
            col(EndpointRow.session_id) == session_id, col(EndpointRow.replica) == self.replica
        )
        seen = {"connections": connections, "active_at": self._now() - unused}
        async with self.writing() as session:
            await session.execute(update(EndpointRow).where(mine).values(**seen))

    async def remote_clients(self) -> dict[str, RemoteClients]:
        """Who is connected at other replicas that are at work, by session id."""
        there = select(ReplicaRow.replica).where(
            self._at_work(), ReplicaRow.replica != self.replica
        )
        columns = (
            col(EndpointRow.session_id),
            sql.sum(EndpointRow.connections),
            self._now() - sql.max(EndpointRow.active_at),
        )
        query = select(*columns).where(
            col(EndpointRow.replica).in_(there), col(EndpointRow.active_at).is_not(None)
        )
        async with self.reading() as session:
            rows = await session.execute(query.group_by(col(EndpointRow.session_id)))
            return {key: RemoteClients(int(count), float(unused)) for key, count, unused in rows}

    # -- replicas

    async def mark(self, proposed: str) -> str:
        """The mark of this database's jobs: what the first service on it proposed."""
        async with self.writing() as session:
            if self.shared:
                lock = text("SELECT pg_advisory_xact_lock(:key)")
                await session.execute(lock, {"key": _LAUNCHING})
            found = await session.get(InstallationRow, 1)
            if found is None:
                found = InstallationRow(id=1, mark=proposed)
                session.add(found)
            return found.mark

    async def seen(self) -> int:
        """Tell that this replica is at work; how many others are."""
        async with self.writing() as session:
            now = (await session.execute(select(self._now()))).scalar_one()
            await session.merge(ReplicaRow(replica=self.replica, seen_at=now))
            query = select(sql.count()).select_from(ReplicaRow)
            others = query.where(self._at_work(), ReplicaRow.replica != self.replica)
            return int((await session.execute(others)).scalar_one())

    async def leave(self) -> None:
        """This replica is at work no more."""
        mine = col(ReplicaRow.replica) == self.replica
        async with self.writing() as session:
            await session.execute(delete(ReplicaRow).where(mine))

    # -- underneath

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
                await session.execute(lock, {"key": _LAUNCHING})
            yield session

    async def now(self, session: AsyncSession) -> float:
        """Seconds since the epoch, by the database's clock."""
        return float((await session.execute(select(self._now()))).scalar_one())

    async def fence(self, session: AsyncSession) -> None:
        """Let nobody take the leadership over until this transaction is done."""
        if self.term is None:
            return
        mine = col(LeadershipRow.term) == self.term
        held = select(LeadershipRow.term).where(mine).with_for_update(read=True)
        if (await session.execute(held)).first() is None:
            raise LeadershipLost

    async def change(
        self, session: AsyncSession, row: SessionRow, changes: dict[str, Any], *only: Any
    ) -> bool:
        """Change a session where ``only`` is true of it, and tell; False where it is not."""
        query = update(SessionRow).where(col(SessionRow.id) == row.id, *only)
        query = query.execution_options(synchronize_session=False)
        query = query.values(**changes, version=col(SessionRow.version) + 1)
        if self.shared:
            version = await session.scalar(query.returning(col(SessionRow.version)))
        else:  # not every SQLite has RETURNING; all changes are made here, one after the other
            done: Any = await session.execute(query)
            version = row.version + 1 if done.rowcount else None
        if version is None:
            return False
        await self.tell(session, row.job_name)
        changes["version"] = version
        return True

    async def tell(self, session: AsyncSession, name: str) -> None:
        """Tell the other replicas of a change, once it is done.

        Every account of the database may listen. A session's id opens it, its job's name does not.
        """
        if self.shared:
            told = {"channel": CHANNEL, "payload": f"{self.token} {name}"}
            await session.execute(text("SELECT pg_notify(:channel, :payload)"), told)

    def _now(self) -> ColumnElement[float]:
        """Seconds since the epoch, by the database's clock."""
        if self.shared:
            return cast(sql.extract("epoch", sql.clock_timestamp()), Float)
        return literal(time.time())

    def _at_work(self) -> ColumnElement[bool]:
        return col(ReplicaRow.seen_at) > self._now() - STALE

    async def close(self) -> None:
        """Release the connections, once every transaction is over."""
        await self._transactions.close()


def _unfinished() -> ColumnElement[bool]:
    return or_(col(SessionRow.state) != State.ENDED, col(SessionRow.job_ended).is_(False))


def _going_on() -> ColumnElement[bool]:
    """Sessions that live and are not to end."""
    return and_(col(SessionRow.state) != State.ENDED, col(SessionRow.stopped).is_(False))


def _put(row: SessionRow, changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        setattr(row, key, value)
