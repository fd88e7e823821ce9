"""The warm sessions in the table of sessions.

A session of a pool has the pool's name in ``pool``, and ``taken_at`` once a user has it. A launch
that found none ready has both from its start: that is how a pool learns that it is asked for.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import case
from sqlalchemy import func as sql
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import and_, col, or_, select

from hpcbridge.states import LIVING
from hpcbridge.store import Quota, SessionRow, State, Store, put
from hpcbridge.warm.plan import Past


@dataclass(frozen=True)
class Asked:
    """A launch that a warm session may serve: its digests, whose it is, and on which cluster, if
    that matters. ``caps`` are those of the user; all others stay as full as they are."""

    request: str
    key: str | None
    user: str | None
    cluster: str | None
    quotas: Sequence[Quota] = ()
    visitor: str | None = None


class WarmStore:
    """Every method may raise :class:`~hpcbridge.errors.StoreError`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def rows(self, application: str, since: float) -> Sequence[SessionRow]:
        """Sessions of an application's pools that live, and warm ones that ended ``since``.

        Raises :class:`~hpcbridge.errors.LeadershipLost`: only who leads plans.
        """
        was_warm = or_(
            col(SessionRow.taken_at).is_(None),
            col(SessionRow.starting_at) < col(SessionRow.taken_at),
        )
        recent = and_(was_warm, col(SessionRow.ended_at) > since)
        wanted = or_(col(SessionRow.state).in_(LIVING), recent)
        query = select(SessionRow).where(col(SessionRow.pool).is_not(None), wanted)
        await self._store.check()
        async with self._store.reading() as session:
            found = await session.execute(query.where(col(SessionRow.application) == application))
            return found.scalars().all()

    async def past(self, pool: str) -> Past:
        """What there was of a pool."""
        got = col(SessionRow.taken_at).is_not(None)
        columns = (
            sql.min(SessionRow.submitting_at),
            sql.max(SessionRow.taken_at),
            sql.max(case((got, col(SessionRow.ready_at)))),  # old SQLite has no FILTER
        )
        async with self._store.reading() as session:
            query = select(*columns).where(col(SessionRow.pool) == pool)
            return Past(*(await session.execute(query)).one())

    async def strays(self, pools: Sequence[str]) -> Sequence[SessionRow]:
        """Warm sessions of no pool that there is."""
        query = select(SessionRow).where(_warm(), col(SessionRow.pool).not_in(pools))
        async with self._store.reading() as session:
            return (await session.execute(query)).scalars().all()

    async def add(self, row: SessionRow, quotas: Sequence[Quota], most: int) -> bool:
        """Write a further session of a pool, unless there are ``most`` already.

        Raises :class:`~hpcbridge.errors.NoCapacity` and, where another replica leads by now,
        :class:`~hpcbridge.errors.LeadershipLost`.
        """
        async with self._store.launching() as session:
            await self._store.fence(session)
            query = select(sql.count()).select_from(SessionRow)
            same = query.where(_warm(), col(SessionRow.pool) == row.pool)
            if (await session.execute(same)).scalar_one() >= most:
                return False
            await self._store.check_quotas(session, quotas)
            session.add(row)
            await self._store.tell(session, row.job_name)
        return True

    async def retire(self, row: SessionRow) -> bool:
        """Begin to end a warm session; False where a user has just got it."""
        async with self._store.writing() as session:
            await self._store.fence(session)
            changed = await self._store.change(session, row, {"stopped": True}, _warm())
            return changed is not None

    async def assign(
        self,
        pool: str,
        asked: Asked,
        started_after: float,
        accounts: Mapping[str, str | None],
        *,
        among: Collection[str],
        wholly: bool,
    ) -> SessionRow | None:
        """Give the oldest ready session away, once and to one; None where there is none.

        Also None where the same launch has begun a session before. It is one ``among`` these ids,
        whose job started after that moment and is the account's that ``accounts`` has for its
        cluster. ``wholly`` False only puts it aside: :meth:`give` or :meth:`throw_away` has to
        follow, and nobody wants it until then.

        Raises :class:`~hpcbridge.errors.NoCapacity` for a user who has enough.
        """
        free = and_(
            _warm(),
            col(SessionRow.pool) == pool,
            col(SessionRow.id).in_(among),
            col(SessionRow.state) == State.READY,
            col(SessionRow.starting_at) > started_after,
            or_(
                *(
                    and_(col(SessionRow.cluster) == cluster, col(SessionRow.account) == account)
                    for cluster, account in accounts.items()
                )
            ),
        )
        oldest = select(SessionRow).where(free).order_by(col(SessionRow.ready_at)).limit(1)
        async with self._store.launching() as session:
            if await self._store.begun(session, asked.request, asked.key):
                return None
            while (found := (await session.execute(oldest)).scalars().first()) is not None:
                await self._store.check_quotas(session, asked.quotas)
                session.expunge(found)
                changes = await self._changes(session, asked, wholly=wholly)
                if changed := await self._store.change(session, found, changes, free):
                    put(found, changed)
                    break
        return found

    async def _changes(
        self, session: AsyncSession, asked: Asked, *, wholly: bool
    ) -> dict[str, Any]:
        now = await self._store.now(session)
        changes: dict[str, Any] = {"taken_at": time.time(), "wanted_at": now, "claimed": wholly}
        changes |= {"user": asked.user, "visitor": asked.visitor}
        whose = {"request": asked.request, "idempotency_key": asked.key}
        return changes | whose if wholly else changes

    async def give(self, row: SessionRow, asked: Asked, secret: str) -> bool:
        """It is the user's from now on, under a new secret.

        False where it has ended, or the same launch has another session by now.
        """
        changes: dict[str, Any] = {"secret": secret, "claimed": True}
        changes |= {"request": asked.request, "idempotency_key": asked.key}
        async with self._store.launching() as session:
            if await self._store.begun(session, asked.request, asked.key):
                return False
            living = and_(col(SessionRow.state) == State.READY, col(SessionRow.stopped).is_(False))
            changed = await self._store.change(session, row, changes, living)
        put(row, changed or {})
        return changed is not None

    async def throw_away(self, row: SessionRow) -> None:
        """It could not be made the user's: begin to end it, and let it be nobody's."""
        await self._store.note(row, stopped=True, user=None, visitor=None)


def _warm() -> Any:
    """Warm sessions that live and are not to end."""
    return and_(
        col(SessionRow.pool).is_not(None),
        col(SessionRow.taken_at).is_(None),
        col(SessionRow.stopped).is_(False),
        col(SessionRow.state).in_(LIVING),
    )
