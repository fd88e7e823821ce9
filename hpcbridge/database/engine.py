"""The database underneath: its engine, its schema, its errors in our words."""

import asyncio
import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import alembic.util
from sqlalchemy import URL, Connection, event, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from hpcbridge.errors import StoreError

_MIGRATING = 0x68706362_0001
"""Key of the advisory lock under which one replica changes PostgreSQL's schema."""

SCARCE = 1 << 16
"""Free bytes below which a file system counts as full: SQLite's smallest files need half of it."""

STUCK = 4.0
"""Seconds after which a replica that stands still in the middle of a transaction loses it."""
APPLICATION = "hpcbridge"
"""What replicas are called in ``pg_stat_activity``."""

_POSTGRESQL: dict[str, Any] = {
    "pool_pre_ping": True,
    "pool_size": 8,
    "pool_timeout": 5.0,
    "connect_args": {
        "timeout": 4.0,
        "command_timeout": 8.0,
        "server_settings": {
            "application_name": APPLICATION,
            # It must hold no locks; see also leadership.py.
            "idle_in_transaction_session_timeout": f"{STUCK * 1000:.0f}",
        },
    },
}


def make_engine(url: str | URL) -> AsyncEngine:
    """The engine for a SQLAlchemy URL; nothing is connected yet.

    Raises :class:`~hpcbridge.errors.StoreError` when the URL cannot be used here.
    """
    try:
        made = make_url(url)
        more = _POSTGRESQL if made.get_backend_name() == "postgresql" else {}
        # Parameters stay out of errors and logs: secrets are among them.
        engine = create_async_engine(made, hide_parameters=True, **more)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        # Not the error's own words: they may hold the URL and its password.
        if isinstance(error, ModuleNotFoundError) and error.name == "asyncpg":
            raise StoreError(
                "store.url: PostgreSQL's driver asyncpg is not installed. Install it with: "
                "pip install 'hpcbridge[postgresql]'."
            ) from error
        raise StoreError(
            "store.url: not a database that can be used. Give a SQLAlchemy URL with an "
            "asynchronous driver that is installed, such as sqlite+aiosqlite:////var/lib/FILE."
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


async def open_engine(url: str | URL) -> AsyncEngine:
    """Open the database and bring its schema up to date, several replicas one after the other.

    Raises :class:`~hpcbridge.errors.StoreError`; then nothing was changed.
    """
    engine = make_engine(url)
    try:
        if engine.dialect.name == "sqlite":
            await asyncio.to_thread(_keep_private, engine.url.database)
        async with engine.begin() as connection:
            await connection.run_sync(migrate)
    except alembic.util.CommandError as error:
        await engine.dispose()
        raise StoreError(
            f"The database {_shown(engine.url)} was written by a newer hpcbridge "
            f"({error}). Nothing was changed; use that version, or another database."
        ) from error
    except Exception as error:
        await engine.dispose()
        if not is_from_database(error):
            raise
        raise StoreError(
            f"The database {_shown(engine.url)} cannot be opened: {cause(error)}. Nothing was "
            f"changed.{_hint(engine)}"
        ) from error
    return engine


def sqlite_file(url: str | URL) -> Path | None:
    """The file that a URL names; None for another database, and for one in memory."""
    try:
        made = make_url(url)
    except ArgumentError:  # told when it is opened
        return None
    if made.get_backend_name() != "sqlite" or made.database in (None, "", ":memory:"):
        return None
    return Path(str(made.database))


def _hint(engine: AsyncEngine) -> str:
    """What SQLite does not say: a full file system is an "I/O error" to it."""
    if engine.dialect.name != "sqlite" or engine.url.database is None:
        return ""
    with contextlib.suppress(OSError):
        place = Path(engine.url.database).parent
        if shutil.disk_usage(place).free < SCARCE:
            return f" The file system of {place} is full: make room there."
    return ""


def _shown(url: URL) -> str:
    """Without what may follow the name: drivers take passwords there, too."""
    return url.set(query={}).render_as_string()


def migrate(connection: Connection) -> None:
    """Bring the schema up to date inside the connection's transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATING})
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")


def is_from_database(error: Exception) -> bool:
    """Whether the database could not be reached, or did not do what it was asked for.

    asyncpg's own errors come as they are where a connection is made or lost.
    """
    driver = type(error).__module__.partition(".")[0]
    return isinstance(error, SQLAlchemyError | OSError) or driver == "asyncpg"


def cause(error: BaseException) -> str:
    """The database's own sentence, without the statement and its values (secrets among them)."""
    said = getattr(error, "orig", None) or getattr(error, "strerror", None) or str(error)
    return str(said) or type(error).__name__


def _keep_private(database: str | None) -> None:
    """Make the file, and those that SQLite puts beside it, readable by this account only."""
    if not database or database == ":memory:" or database.startswith("file:"):
        return
    os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    for path in (database, f"{database}-wal", f"{database}-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(path).chmod(0o600)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver would begin transactions by itself, and none for a change of the schema.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")
