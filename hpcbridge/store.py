"""The table of sessions, and the questions asked of it."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import URL, ColumnElement
from sqlalchemy import func as sql
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlmodel import and_, col, delete, or_, select, update

from hpcbridge.database.announcements import AnnouncementStore
from hpcbridge.database.changes import CHANNEL, NOBODY, Changes, put
from hpcbridge.database.endpoints import Endpoints, RemoteClients
from hpcbridge.database.engine import open_engine
from hpcbridge.database.listing import FIRST, Place, Selection, page
from hpcbridge.database.replicas import STALE, Replicas
from hpcbridge.database.tables import SessionRow
from hpcbridge.errors import NoCapacity
from hpcbridge.states import LIVING, State

__all__ = [
    "CHANNEL",
    "FIRST",
    "NOBODY",
    "STALE",
    "Place",
    "Quota",
    "RemoteClients",
    "Selection",
    "SessionRow",
    "State",
    "Store",
    "put",
]

NAMES_AT_ONCE = 500
"""Job names that one query asks for; databases limit the values of a statement."""
PRUNED_AT_ONCE = 500
"""Ended sessions that are forgotten in one transaction."""
RECENT = 20
"""Sessions from which it is told how long one waits."""


@dataclass(frozen=True)
class Quota:
    """How many sessions there may be with certain columns; ``message`` is what one too many hears.

    ``{}`` in ``message`` becomes their number, but for a limit of 0, whose ``message`` says why
    there may be none, as somebody wrote it. With ``queued`` only those count whose job has not
    started.
    """

    limit: int
    message: str
    columns: Mapping[str, Any]
    queued: bool = False


class Store(Changes):
    """The database. Every method may raise :class:`~hpcbridge.errors.StoreError`.

    ``replica`` tells this service from others on the database, the same after a restart.
    """

    def __init__(self, engine: AsyncEngine, replica: str = "") -> None:
        super().__init__(engine, replica)
        #: The local ends of tunnels.
        self.endpoints = Endpoints(self)
        #: What operators announce.
        self.announcements = AnnouncementStore(self)
        #: The services at work on it.
        self.replicas = Replicas(self)

    @classmethod
    async def open(cls, url: str | URL, replica: str = "") -> "Store":
        """Open the database at a SQLAlchemy URL and bring its schema up to date."""
        return cls(await open_engine(url), replica)

    # -- launching

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
                changed = await self.change(session, found, changes)
                session.expunge(found)
                put(found, changed or {})
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
            left = or_(left, col(SessionRow.wanted_at) < self.clock() - STALE)
        query = select(SessionRow).where(col(SessionRow.request) == request, free, left)
        return (await session.execute(query)).scalars().first()

    async def check_quotas(self, session: AsyncSession, quotas: Sequence[Quota]) -> None:
        """Raises :class:`~hpcbridge.errors.NoCapacity` where one more would be too many."""
        for quota in quotas:
            same = [getattr(SessionRow, name) == value for name, value in quota.columns.items()]
            if quota.queued:
                same.append(col(SessionRow.state).in_((State.SUBMITTING, State.QUEUED)))
            query = select(sql.count()).select_from(SessionRow).where(_going_on(), *same)
            there = (await session.execute(query)).scalar_one()
            if there >= quota.limit:
                number = str(there) if quota.limit else "{}"
                raise NoCapacity(quota.message.replace("{}", number))

    # -- changing

    async def update(self, row: SessionRow, *, unchanged: bool = False, **changes: Any) -> bool:
        """Change columns of a session, in the database first and then in ``row``.

        For who drives the session. With ``unchanged``, False is returned and nothing done where
        another replica has changed it since it was read.

        Raises :class:`~hpcbridge.errors.LeadershipLost` when another replica leads by now.
        """
        async with self.writing() as session:
            await self.fence(session)
            only = [col(SessionRow.version) == row.version] if unchanged else []
            changed = await self.change(session, row, changes, *only)
        put(row, changed or {})
        return changed is not None

    async def note(self, row: SessionRow, **changes: Any) -> bool:
        """Write down what a client did; any replica may. False where the session has ended."""
        async with self.writing() as session:
            living = col(SessionRow.state) != State.ENDED
            changed = await self.change(session, row, changes, living)
        put(row, changed or {})
        return changed is not None

    async def wanted(self, session_ids: Collection[str]) -> None:
        """Clients at this replica want these sessions."""
        async with self.writing() as session:
            wanted = col(SessionRow.id).in_(session_ids)
            count = {"wanted_at": self.clock(), "version": col(SessionRow.version) + 1}
            query = update(SessionRow).where(wanted).values(**count)
            query = query.execution_options(synchronize_session=False)
            names = (await session.execute(query.returning(col(SessionRow.job_name)))).scalars()
            for name in names.all():
                await self.tell(session, name)

    # -- asking

    async def check(self) -> None:
        """Raise :class:`~hpcbridge.errors.LeadershipLost` when another replica leads by now."""
        if self.term is not None:
            async with self.reading() as session:
                await self.fence(session)

    async def get(self, session_id: str, user: str | None = None) -> SessionRow | None:
        """One session, ended ones included; with ``user`` only if it is that user's."""
        query = select(SessionRow).where(col(SessionRow.id) == session_id)
        if user is not None:
            query = query.where(col(SessionRow.user) == user)
        async with self.reading() as session:
            return (await session.execute(query)).scalars().first()

    async def named(self, job_names: Collection[str]) -> Sequence[SessionRow]:
        """The sessions with these names, ended ones included."""
        query = select(SessionRow).where(col(SessionRow.job_name).in_(job_names))
        async with self.reading() as session:
            return (await session.execute(query)).scalars().all()

    async def unfinished(self) -> Sequence[SessionRow]:
        """Sessions that live, and ended ones whose job may not be gone."""
        async with self.reading() as session:
            return (await session.execute(select(SessionRow).where(_unfinished()))).scalars().all()

    async def page(
        self, selection: Selection, limit: int, before: Place = FIRST
    ) -> Sequence[SessionRow]:
        """At most ``limit`` sessions, the newest first, of those behind a place in that order."""
        query = page(selection, limit, before)
        async with self.reading() as session:
            return (await session.execute(query)).scalars().all()

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
        some = select(SessionRow.id).where(old, col(SessionRow.job_ended)).limit(PRUNED_AT_ONCE)
        query = delete(SessionRow).where(col(SessionRow.id).in_(some))
        query = query.execution_options(synchronize_session=False)
        more = True
        while more:  # launches wait for no more than a piece
            async with self.writing() as session:
                done: Any = await session.execute(query)
                more = done.rowcount == PRUNED_AT_ONCE
        async with self.writing() as session:
            await self.endpoints.prune(session)
            await self.replicas.prune(session)


def _unfinished() -> ColumnElement[bool]:
    return or_(col(SessionRow.state).in_(LIVING), col(SessionRow.job_ended).is_(False))


def _going_on() -> ColumnElement[bool]:
    """Sessions that live and are not to end."""
    return and_(col(SessionRow.state).in_(LIVING), col(SessionRow.stopped).is_(False))
