"""What operators announce, in the database: so all replicas have it, and a restart loses none."""

import time
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, delete, select

from hpcbridge.database.changes import Changes
from hpcbridge.database.tables import About, AnnouncementRow


class AnnouncementStore:
    """Every method may raise :class:`~hpcbridge.errors.StoreError`."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    async def all(self) -> Sequence[AnnouncementRow]:
        """The newest first."""
        query = select(AnnouncementRow).order_by(col(AnnouncementRow.at).desc())
        async with self._changes.reading() as session:
            return (await session.execute(query)).scalars().all()

    async def put(
        self, about: About, name: str, *, text: str, drain: bool, by: str
    ) -> AnnouncementRow:
        """Announce ``text``, in the place of what was announced of the same before."""
        row = AnnouncementRow(about=about, name=name, text=text, drain=drain, by=by, at=time.time())
        async with self._changes.writing() as session:
            await _forget(session, about, name)
            session.add(row)
        return row

    async def remove(self, about: About, name: str) -> bool:
        """Announce nothing of it any more; False where nothing was."""
        async with self._changes.writing() as session:
            return await _forget(session, about, name)


async def _forget(session: AsyncSession, about: About, name: str) -> bool:
    its = col(AnnouncementRow.about) == about, col(AnnouncementRow.name) == name
    done = await session.execute(delete(AnnouncementRow).where(*its))
    return bool(getattr(done, "rowcount", 0))
