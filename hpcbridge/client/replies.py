"""What the service answers, as values. Times are seconds since the epoch.

The names are those of ``docs/api.md``, which says what each means; what a newer service tells
beside them is kept as an attribute, too.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from hpcbridge.states import State


class Reply(BaseModel):
    """Something of an answer; it does not change."""

    # What a command does not need is not built when it starts.
    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True, defer_build=True)


class End(Reply):
    """An end that can be foreseen."""

    at: float
    reason: str
    message: str


class Traffic(Reply):
    """What passed through a session's tunnel at the replica that was asked."""

    bytes_in: int
    bytes_out: int
    connections: int
    reconnects: int
    round_trip: float | None = None


class Session(Reply):
    """Where a session stands."""

    id: str
    application: str
    cluster: str
    state: State
    message: str
    owner: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    job_id: str | None = None
    host: str | None = None
    session_url: str | None = Field(None, alias="sessionURL", repr=False)
    secret: str | None = Field(None, repr=False)
    viewer: str = "portal"
    page: str | None = Field(None, repr=False)
    reason: str | None = None
    exit_status: int | None = None
    error: str | None = None
    unknown_since: float | None = None
    queue: str | None = None
    position: int | None = None
    waits_for: str | None = None
    estimated_start: float | None = None
    gives_up_at: float | None = None
    tunnel: str | None = None
    traffic: Traffic | None = None
    ends: End | None = None
    times: dict[State, float] = Field(default_factory=dict)
    warm: bool | None = None
    handed_over_at: float | None = None


class SessionPage(Reply):
    """Who asks, and sessions that they may see, the newest first; ``next`` is the cursor."""

    user: str | None = None
    operator: bool
    sessions: list[Session]
    next: str | None = None


class Cluster(Reply):
    """One of an application's clusters."""

    name: str
    title: str = ""
    notice: str = ""
    unknown_since: float | None = None
    wait: float | None = None


class Application(Reply):
    """What can be launched by name."""

    name: str
    title: str = ""
    description: str = ""
    viewer: str = "portal"
    page: str | None = None
    choosable: bool = False
    notice: str = ""
    warm: bool = False
    clusters: list[Cluster] = Field(default_factory=list)


class Announcement(Reply):
    """What operators announce of the site, an application or a cluster."""

    about: str
    name: str
    text: str
    drain: bool
    at: float
    by: str | None = None


class Catalogue(Reply):
    """All applications, in the order of the service's configuration, and what is announced."""

    applications: list[Application]
    announcements: list[Announcement] = Field(default_factory=list)


@dataclass(frozen=True)
class Log:
    """A part of what a session's application printed, as it was printed.

    ``next`` is the offset of what follows, in bytes; ``ended`` says that nothing will.
    """

    data: bytes
    next: int
    ended: bool
