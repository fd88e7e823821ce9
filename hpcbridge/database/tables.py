"""The tables of the database. Their columns are made by ``migrations/``."""

from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Column, Enum, Index, text
from sqlmodel import Field, SQLModel

from hpcbridge.states import EndReason, State


def _enum(kind: type[StrEnum]) -> Enum:
    """A column of the words themselves, so that a new word needs no migration."""
    return Enum(
        kind,
        native_enum=False,
        create_constraint=False,
        length=16,
        values_callable=lambda members: [member.value for member in members],
    )


_NEWEST = ("submitting_at", "job_name")
_LISTED = ("user", "application", "cluster", "visitor")
_LIVING = text("state != 'ended'")
_WHERE_LIVING: dict[str, Any] = {"sqlite_where": _LIVING, "postgresql_where": _LIVING}


class SessionRow(SQLModel, table=True):
    """One session. Times are seconds since the epoch, UTC."""

    __tablename__ = "sessions"
    # The history is long: no question that is asked again and again may read all of it.
    __table_args__ = (
        Index("ix_sessions_living", "state", "stopped", "application", "user"),
        Index("ix_sessions_job_ended", "job_ended"),
        Index("ix_sessions_ended_at", "ended_at"),
        Index("ix_sessions_waits", "application", "cluster", "queued_at"),
        # Those of pages: listing.py.
        Index("ix_sessions_newest", *_NEWEST),
        *(Index(f"ix_sessions_newest_of_{of}", of, *_NEWEST) for of in _LISTED),
        Index("ix_sessions_newest_living", *_NEWEST, **_WHERE_LIVING),
        Index("ix_sessions_newest_living_of_user", "user", *_NEWEST, **_WHERE_LIVING),
    )

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
    #: The class of the error that ended it, by its name in :mod:`hpcbridge.errors`.
    error_class: str | None = Field(default=None, max_length=64)
    job_name: str = Field(max_length=64, unique=True)
    job_id: str | None = Field(default=None, max_length=128)
    #: Proof is there that no job of this session is left on the cluster.
    job_ended: bool = False
    #: Whose it is; None where the service knows no users.
    user: str | None = Field(default=None, max_length=64)
    #: The account of its job and files on the cluster; None for the service's own. It stays what
    #: it was at the launch, whatever the user's name means later.
    account: str | None = Field(default=None, max_length=64)
    #: Digest of the cookie of the browser that launched it, where the service knows no users.
    visitor: str | None = Field(default=None, max_length=64)
    #: Digest of who asked for what: a launch that is repeated has the same.
    request: str | None = Field(default=None, max_length=64, index=True)
    #: Digest of the client's Idempotency-Key.
    idempotency_key: str | None = Field(default=None, max_length=64, unique=True, index=True)
    #: Whether a client has been given the session.
    claimed: bool = False
    #: Whether somebody asked for its end.
    stopped: bool = False
    #: Whether the client that waited for it hung up, or was told to ask again.
    forsaken: bool = False
    #: When a replica last had a client that wants it, by the database's clock.
    wanted_at: float | None = None
    #: Counts the changes.
    version: int = 0
    directory: str = ""
    #: How often a job was submitted before of which nothing came.
    attempt: int = 0
    host: str | None = None
    port: int | None = None
    exit_status: int | None = None
    log_tail: str = ""
    submitting_at: float | None = None
    queued_at: float | None = None
    starting_at: float | None = None
    ready_at: float | None = None
    ended_at: float | None = None
    unknown_since: float | None = None
    #: What its job may expect while it waits, as the leader told the other replicas.
    outlook: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    #: The pool of warm sessions that it is or was of, or that its launch found empty.
    pool: str | None = Field(default=None, max_length=32, index=True)
    #: When a user got it out of the pool, or found that empty.
    taken_at: float | None = None

    @property
    def warm(self) -> bool:
        """Whether it lives and waits for somebody to launch it."""
        return self.pool is not None and self.taken_at is None and self.state != State.ENDED

    @property
    def was_warm(self) -> bool:
        """Whether it was ready before it was asked for."""
        return bool(self.taken_at and self.ready_at and self.taken_at >= self.ready_at)

    @property
    def attempt_names(self) -> list[str]:
        """The names of its jobs, the last one's last. Each is submitted at most once."""
        further = (f"{self.job_name}-{number}" for number in range(1, self.attempt + 1))
        return [self.job_name, *further]

    @property
    def attempt_name(self) -> str:
        """The name of its job and of its directory, as things stand."""
        return self.attempt_names[-1]


class EndpointRow(SQLModel, table=True):
    """The local end of a session's tunnel at one replica, and who is connected there."""

    __tablename__ = "doors"

    session_id: str = Field(primary_key=True, max_length=64)
    #: Empty for those of the version before, which knew one replica only.
    replica: str = Field(primary_key=True, max_length=16)
    #: As ``host:port`` or ``unix:/path``.
    address: str
    connections: int = 0
    #: When the last one was used, by the database's clock.
    active_at: float | None = None


class ReplicaRow(SQLModel, table=True):
    """A service at work on this database; ``seen_at`` is by the database's clock."""

    __tablename__ = "replicas"

    replica: str = Field(primary_key=True, max_length=16)
    seen_at: float


class LeadershipRow(SQLModel, table=True):
    """Who leads, and until when by the database's clock; one row."""

    __tablename__ = "leadership"

    id: int = Field(default=1, primary_key=True)
    holder: str = Field(max_length=64)
    term: int
    expires_at: float


class About(StrEnum):
    """What an announcement is about."""

    SITE = "site"
    APPLICATION = "application"
    CLUSTER = "cluster"


class AnnouncementRow(SQLModel, table=True):
    """What operators announce now; one of each application and cluster, and one of the site."""

    __tablename__ = "announcements"

    about: About = Field(sa_column=Column(_enum(About), primary_key=True))
    #: The application's or cluster's; empty for the site.
    name: str = Field(default="", primary_key=True, max_length=64)
    text: str
    #: Whether new sessions are refused.
    drain: bool = False
    #: The operator, or the account that ran the command.
    by: str = Field(max_length=64)
    #: Seconds since the epoch.
    at: float


class InstallationRow(SQLModel, table=True):
    """What all replicas have in common; one row."""

    __tablename__ = "installation"

    id: int = Field(default=1, primary_key=True)
    mark: str = Field(max_length=16)
