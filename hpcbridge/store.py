"""The table of sessions, and the questions asked of it.

One writer at a time: SQLite has one write lock, and waiting for it inside the database would hold
connections for as long. Readers are never in the way (WAL).
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import alembic.util
from sqlalchemy import JSON, Column, Connection, Enum, event
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
    state: State = Field(default=State.SUBMITTING, sa_column=Column(_enum(State), index=True))
    reason: EndReason | None = Field(default=None, sa_column=Column(_enum(EndReason)))
    message: str = ""
    job_name: str = Field(max_length=64, unique=True)
    job_id: str | None = Field(default=None, max_length=128)
    #: Proof is there that no job of this session is left on the cluster.
    job_ended: bool = False
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
    async def open(cls, url: str) -> "Store":
        """Open the database at a SQLAlchemy URL and bring its schema up to date."""
        engine = create_async_engine(url)
        if engine.dialect.name == "sqlite":
            event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        try:
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
                f"The database {engine.url.render_as_string()} cannot be opened: {_cause(error)}."
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

    async def unfinished(self) -> Sequence[SessionRow]:
        """Sessions that live, and ended ones whose job may not be gone."""
        living = col(SessionRow.state) != State.ENDED
        query = select(SessionRow).where(or_(living, col(SessionRow.job_ended).is_(False)))
        async with self._transaction() as session:
            return (await session.execute(query)).scalars().all()

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
            raise StoreError(f"The database did not accept a change: {_cause(error)}.") from error


def _cause(error: BaseException) -> str:
    """The database's own sentence, without the statement and its values (secrets among them)."""
    return str(getattr(error, "orig", None) or getattr(error, "strerror", None) or error)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _migrate(connection: Connection) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")
