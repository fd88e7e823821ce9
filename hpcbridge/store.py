"""The table of sessions, and the questions asked of it.

One writer at a time: SQLite has one write lock, and waiting for it inside the database would hold
connections for as long. Readers are never in the way (WAL).
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Collection, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import alembic.util
from sqlalchemy import JSON, URL, Column, Connection, Enum, event, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlmodel import Field, SQLModel, col, delete, or_, select, update

from hpcbridge.errors import StoreError
from hpcbridge.schedulers.base import EndReason

log = logging.getLogger(__name__)

NAMES_AT_ONCE = 500
"""Job names that one query asks for; databases limit the values of a statement."""


class State(StrEnum):
    """Where a session stands; see ``docs/architecture.md``."""

    SUBMITTING = "submitting"
    QUEUED = "queued"
    STARTING = "starting"
    READY = "ready"
    ENDED = "ended"


def _enum(kind: type[StrEnum]) -> Enum:
    """A column of the words themselves, so that a new word needs no migration."""
    return Enum(
        kind,
        native_enum=False,
        create_constraint=False,
        length=16,
        values_callable=lambda members: [member.value for member in members],
    )


class SessionRow(SQLModel, table=True):
    """One session. Times are seconds since the epoch, UTC."""

    __tablename__ = "sessions"

    id: str = Field(primary_key=True, max_length=64)
    secret: str | None = Field(default=None, max_length=64)
    application: str = Field(max_length=64)
    cluster: str = Field(max_length=64)
    parameters: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    state: State = Field(
        default=State.SUBMITTING, sa_column=Column(_enum(State), nullable=False, index=True)
    )
    reason: EndReason | None = Field(default=None, sa_column=Column(_enum(EndReason)))
    message: str = ""
    job_name: str = Field(max_length=64, unique=True)
    job_id: str | None = Field(default=None, max_length=128)
    #: Proof is there that no job of this session is left on the cluster.
    job_ended: bool = False
    #: Digest of who asked for what: a launch that is repeated has the same.
    request: str | None = Field(default=None, max_length=64)
    #: Digest of the client's Idempotency-Key.
    idempotency_key: str | None = Field(default=None, max_length=64, unique=True, index=True)
    #: Whether a client has been given the session.
    claimed: bool = False
    #: Whether somebody asked for its end.
    stopped: bool = False
    directory: str = ""
    host: str | None = None
    port: int | None = None
    #: The tunnel's local end, as ``host:port`` or ``unix:/path``.
    address: str | None = None
    exit_status: int | None = None
    log_tail: str = ""
    submitting_at: float | None = None
    queued_at: float | None = None
    starting_at: float | None = None
    ready_at: float | None = None
    ended_at: float | None = None
    unknown_since: float | None = None


class Store:
    """The database. Every method may raise :class:`~hpcbridge.errors.StoreError`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)
        self._writing = asyncio.Lock()

    @classmethod
    async def open(cls, url: str | URL) -> "Store":
        """Open the database at a SQLAlchemy URL and bring its schema up to date."""
        engine = _engine(url)
        try:
            if engine.dialect.name == "sqlite":
                await asyncio.to_thread(_keep_private, engine.url.database)
            async with engine.begin() as connection:
                await connection.run_sync(_migrate)
        except alembic.util.CommandError as error:
            await engine.dispose()
            raise StoreError(
                f"The database {engine.url.render_as_string()} was written by a newer hpcbridge "
                f"({error}). Nothing was changed; use that version, or another database."
            ) from error
        except (SQLAlchemyError, OSError) as error:
            await engine.dispose()
            raise StoreError(
                f"The database {engine.url.render_as_string()} cannot be opened: {cause(error)}."
            ) from error
        return cls(engine)

    async def add(self, row: SessionRow) -> None:
        """Write a new session."""
        async with self._writing, self._transaction() as session:
            session.add(row)

    async def update(self, row: SessionRow, **changes: Any) -> None:
        """Change columns of a session, in the database first and then in ``row``."""
        async with self._writing, self._transaction() as session:
            await session.execute(
                update(SessionRow).where(col(SessionRow.id) == row.id).values(**changes)
            )
        for key, value in changes.items():
            setattr(row, key, value)

    async def get(self, session_id: str) -> SessionRow | None:
        """One session, ended ones included."""
        async with self._transaction() as session:
            return await session.get(SessionRow, session_id)

    async def by_key(self, idempotency_key: str) -> SessionRow | None:
        """The session that was launched with this key's digest."""
        query = select(SessionRow).where(col(SessionRow.idempotency_key) == idempotency_key)
        async with self._transaction() as session:
            return (await session.execute(query)).scalars().first()

    async def unfinished(self) -> Sequence[SessionRow]:
        """Sessions that live, and ended ones whose job may not be gone."""
        living = col(SessionRow.state) != State.ENDED
        query = select(SessionRow).where(or_(living, col(SessionRow.job_ended).is_(False)))
        async with self._transaction() as session:
            return (await session.execute(query)).scalars().all()

    async def known(self, job_names: Collection[str]) -> set[str]:
        """Those of the names that belong to a session that lives or is still cleaning up."""
        mine = or_(col(SessionRow.state) != State.ENDED, col(SessionRow.job_ended).is_(False))
        wanted, found = list(job_names), set[str]()
        for start in range(0, len(wanted), NAMES_AT_ONCE):
            names = wanted[start : start + NAMES_AT_ONCE]
            query = select(SessionRow.job_name).where(col(SessionRow.job_name).in_(names), mine)
            async with self._transaction() as session:
                found.update((await session.execute(query)).scalars())
        return found

    async def prune(self, age: float) -> None:
        """Forget sessions that ended more than ``age`` seconds ago."""
        old = col(SessionRow.ended_at) < time.time() - age
        async with self._writing, self._transaction() as session:
            await session.execute(delete(SessionRow).where(old, col(SessionRow.job_ended)))

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._sessions())

    async def close(self) -> None:
        """Release the connections."""
        await self._engine.dispose()


class _Transaction:
    """A session that commits at the end and speaks the project's errors."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def __aenter__(self) -> AsyncSession:
        return self._session

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            if error is None:
                await self._session.commit()
        except SQLAlchemyError as failure:
            error = failure
        finally:
            await self._session.close()
        if isinstance(error, SQLAlchemyError):
            raise StoreError(f"The database did not accept a change: {cause(error)}.") from error


def cause(error: BaseException) -> str:
    """The database's own sentence, without the statement and its values (secrets among them)."""
    return str(getattr(error, "orig", None) or getattr(error, "strerror", None) or error)


def _engine(url: str | URL) -> AsyncEngine:
    try:
        # Parameters stay out of errors and logs: secrets are among them.
        engine = create_async_engine(make_url(url), hide_parameters=True)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        # Not the error's own words: they may hold the URL and its password.
        raise StoreError(
            "store.url: not a database that can be used. Give a SQLAlchemy URL with an "
            "asynchronous driver that is installed, such as sqlite+aiosqlite:////var/lib/FILE."
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


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


def _migrate(connection: Connection) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")
