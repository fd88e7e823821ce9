"""The database, read beside a service that may be at work: nothing is written or migrated."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from urllib.parse import quote

import alembic.util
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import URL, inspect, make_url, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlmodel import col, select

from hpcbridge.database import migrations
from hpcbridge.database.engine import cause, make_engine
from hpcbridge.database.tables import EndpointRow, InstallationRow, SessionRow
from hpcbridge.doctor.findings import Finding, bad, good
from hpcbridge.errors import StoreError

WHAT = "database"
MIGRATIONS = Path(migrations.__file__).parent


async def look(url: str | URL) -> Finding:
    """Whether the database can be read, is whole, and has a schema that this version knows."""
    if not exists(url):
        return good(WHAT, "There is none yet; the first start makes it.")
    try:
        make_engine(url)
    except StoreError as error:
        return bad(WHAT, str(error))
    try:
        async with _reading(url) as connection:
            if connection.dialect.name == "sqlite":
                said = (await connection.execute(text("PRAGMA quick_check(1)"))).scalar()
                if said != "ok":
                    return _broken(str(said))
            found = await connection.run_sync(_revision)
    except StoreError as error:
        return _broken(str(error))
    return _schema(found)


async def sessions(url: str | URL) -> Sequence[SessionRow]:
    """All sessions, ended ones included. Raises :class:`~hpcbridge.errors.StoreError`."""
    async with _reading(url) as connection:
        return (await AsyncSession(connection).execute(select(SessionRow))).scalars().all()


async def session(url: str | URL, name: str) -> tuple[SessionRow, dict[str, str]] | None:
    """The session with this id or job's name, and its tunnels' local ends by replica.

    Raises :class:`~hpcbridge.errors.StoreError`.
    """
    its = select(SessionRow).where((SessionRow.id == name) | (SessionRow.job_name == name))
    async with _reading(url) as connection:
        reading = AsyncSession(connection)
        row = (await reading.execute(its)).scalars().first()
        if row is None:
            return None
        ends = select(EndpointRow.replica, EndpointRow.address)
        found = await reading.execute(ends.where(col(EndpointRow.session_id) == row.id))
        return row, {end[0]: end[1] for end in found}


async def endpoints(url: str | URL, replica: str) -> dict[str, str]:
    """The local ends of this replica's tunnels, by session id. Raises StoreError."""
    mine = col(EndpointRow.replica).in_((replica, ""))
    query = select(EndpointRow.session_id, EndpointRow.address).where(mine)
    async with _reading(url) as connection:
        rows = await AsyncSession(connection).execute(query.order_by(col(EndpointRow.replica)))
        return {endpoint[0]: endpoint[1] for endpoint in rows}


async def mark(url: str | URL, proposed: str) -> str:
    """The mark of the database's jobs, or what a first service on it will leave there."""
    if not exists(url):
        return proposed
    try:
        async with _reading(url) as connection:
            found = await AsyncSession(connection).get(InstallationRow, 1)
    except StoreError:  # told by look()
        return proposed
    return found.mark if found is not None else proposed


def exists(url: str | URL) -> bool:
    """Whether there is a database to look at; one of a server is always worth a try."""
    path = _file(url)
    return path is None or path.exists()


def _broken(said: str) -> Finding:
    return bad(
        WHAT,
        f"It cannot be read: {said.rstrip('.')}. Check the owner and mode of the file or the "
        "server's state; put a backup in the place of a file that is damaged.",
    )


def _schema(found: str | None) -> Finding:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    head = scripts.get_current_head()
    if found == head:
        return good(WHAT, f"It can be read and is whole; its schema is {found}.")
    try:
        if found is not None:
            scripts.get_revision(found)
    except alembic.util.CommandError:
        return bad(
            WHAT,
            f"Its schema {found} is that of a newer hpcbridge, and this one ends with {head}. Use "
            "the newer version, or another database.",
        )
    return good(WHAT, f"Its schema is {found or 'empty'}; the next start brings it to {head}.")


def _revision(connection: object) -> str | None:
    tables = inspect(connection)
    if tables is None or not tables.has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version"))  # type: ignore[attr-defined]
    revision = found.scalar()
    return str(revision) if revision is not None else None


@contextlib.asynccontextmanager
async def _reading(url: str | URL) -> AsyncIterator[AsyncConnection]:
    path = _file(url)
    if path is not None:
        query = {"mode": "ro", "uri": "true"}
        url = URL.create("sqlite+aiosqlite", database=f"file:{quote(str(path))}", query=query)
    try:
        engine = create_async_engine(url, hide_parameters=True)
        try:
            async with engine.connect() as connection:
                yield connection
        finally:
            await engine.dispose()
    except (SQLAlchemyError, OSError) as error:
        raise StoreError(cause(error)) from error
    except Exception as error:  # drivers have errors of their own
        # Not in their words: those about the URL may hold its password.
        raise StoreError(f"{type(error).__name__}; see store.url") from error


def _file(url: str | URL) -> Path | None:
    """SQLite's file, where it is that."""
    try:
        made = make_url(url)
    except SQLAlchemyError:
        return None
    name = made.database
    if made.get_backend_name() != "sqlite" or not name or name.startswith((":", "file:")):
        return None
    return Path(name)
