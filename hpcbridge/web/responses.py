"""What the launcher API answers: its models, and how a session becomes one of them."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from string import Template
from typing import Annotated, Any

from fastapi import Path, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from hpcbridge.config.fields import Primitive
from hpcbridge.config.server import ServerSettings
from hpcbridge.config.settings import Settings
from hpcbridge.errors import StillStarting
from hpcbridge.sessions.manager import Sessions
from hpcbridge.sessions.session import Session
from hpcbridge.states import EndReason, State
from hpcbridge.store import SessionRow

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,255})(:[0-9]{1,5})?")


class ErrorReply(BaseModel):
    """Every reply to a request that failed."""

    model_config = ConfigDict(extra="allow")
    error: str = Field(description="What was wrong and what to do, for a person.")


class LaunchReply(BaseModel):
    """A session that is ready: the posted keys, and these."""

    model_config = ConfigDict(extra="allow")
    id: str = Field(description="Session id. Whoever knows it can stop the session.")
    sessionURL: str = Field(description="WebSocket address of the application.")
    secret: str = Field(description="What the application wants to hear from its client.")
    viewer: str = Field(description="How it is looked at: portal, page or content.")
    page: str | None = Field(
        None,
        description="Address of the page to open, where the viewer is not the portal; may admit "
        "once, and soon: open it now, or GET it anew.",
    )


class EndReply(BaseModel):
    """An end that can be foreseen; being used puts an ``idle`` one off."""

    at: float = Field(description="Seconds since the epoch.")
    reason: EndReason
    message: str


class TrafficReply(BaseModel):
    """What passed through the tunnel here since it was opened, and how far away its node is."""

    bytes_in: int = Field(description="Bytes to the application.")
    bytes_out: int = Field(description="Bytes from the application.")
    connections: int = Field(description="Connections that are open now.")
    reconnects: int = Field(description="How often the node's SSH connection was made again.")
    round_trip: float | None = Field(
        None, description="Seconds that sshd of the node needs to answer, measured every 5 s."
    )


class SessionReply(BaseModel):
    """Where a session stands."""

    model_config = ConfigDict(extra="allow")
    id: str
    application: str
    cluster: str
    owner: str | None = Field(None, description="Whose it is, where the service knows users.")
    parameters: dict[str, Primitive] = Field(
        default_factory=dict,
        description="What it was launched with, to launch the same again: the application's "
        "parameters, but for those that are secret; of an uploaded file the name.",
    )
    state: State
    message: str = Field(description="The state in plain words.")
    job_id: str | None = Field(None, description="The batch system's id of the job.")
    host: str | None = Field(None, description="The node that runs it.")
    sessionURL: str | None = Field(None, description="WebSocket address, once it is ready.")
    secret: str | None = Field(
        None,
        description="What the application wants to hear from its client; told to the user whose "
        "ready session it is, by a login or token that may launch.",
    )
    viewer: str = Field("portal", description="How it is looked at: portal, page or content.")
    page: str | None = Field(
        None,
        description="Address of its page, once it is ready, where the viewer is not the portal; "
        "may admit once, and soon. GET of ID/open redirects to a fresh one.",
    )
    reason: EndReason | None = Field(None, description="Why it ended.")
    exit_status: int | None = Field(None, description="Exit status of the job, or minus a signal.")
    unknown_since: float | None = Field(
        None, description="Since when the cluster does not answer, in seconds since the epoch."
    )
    queue: str | None = Field(None, description="The partition or queue in which it waits.")
    position: int | None = Field(
        None, ge=1, description="Its place in that queue, among the jobs of all users; 1 is next."
    )
    waits_for: str | None = Field(
        None, description='What the job waits for, in plain words; completes "waiting for".'
    )
    estimated_start: float | None = Field(
        None, description="When the scheduler expects to start it, in seconds since the epoch."
    )
    tunnel: str | None = Field(
        None, description="'open', or 'reconnecting' while the node's SSH connection is down."
    )
    traffic: TrafficReply | None = Field(
        None, description="What passes through the tunnel, while there is one."
    )
    gives_up_at: float | None = Field(
        None,
        description="When a launch on its way is given up unless it is ready, in seconds since the "
        "epoch.",
    )
    ends: EndReply | None = Field(
        None, description="What will end a ready session first, while that is known."
    )
    times: dict[State, float] = Field(description="When each state began, seconds since the epoch.")
    warm: bool | None = Field(None, description="True where it was ready before it was launched.")
    handed_over_at: float | None = Field(
        None, description="When a warm session was launched, in seconds since the epoch."
    )
    error: str | None = Field(None, description="Present when it ended and was not stopped.")


@dataclass(frozen=True)
class View:
    """How a session is looked at: by the portal, or at ``page``."""

    viewer: str = "portal"
    page: str | None = None


class ListReply(BaseModel):
    """Who asks, and sessions that they may see, the newest first."""

    user: str | None = Field(description="null where the service knows no users.")
    operator: bool = Field(description="Whether everybody's sessions are listed.")
    sessions: list[SessionReply]
    next: str | None = Field(description="What `before` is for the next page; null on the last.")


SessionId = Annotated[str, Path(description="The session's id.")]
OURS = frozenset(
    {"host", "port", "cluster", "job_id", "state"}  # of server.fields
    | {*LaunchReply.model_fields, *SessionReply.model_fields, *ErrorReply.model_fields}
)
"""Keys that a reply itself can have; a posted ``error`` would turn success into failure."""
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorReply, "description": "The request is wrong."},
    401: {"model": ErrorReply, "description": "Who asks is not known, or not proved."},
    403: {"model": ErrorReply, "description": "This user, token or page may not do that."},
    413: {"model": ErrorReply, "description": "The request is too large."},
    429: {"model": ErrorReply, "description": "Too many wrong logins from this address."},
    500: {"model": ErrorReply, "description": "The service's own fault; its log has details."},
    502: {"model": ErrorReply, "description": "The job was refused or failed."},
    503: {"model": ErrorReply, "description": "No capacity, or the cluster does not answer."},
    504: {"model": ErrorReply, "description": "Not ready within the application's wait."},
    "default": {"model": ErrorReply, "description": "Any other failure."},
}
BEGUN: dict[int | str, dict[str, Any]] = {
    202: {"model": SessionReply, "description": "Begun; ask GET for progress."},
    409: {"model": ErrorReply, "description": "Another request with this key is not answered yet."},
    422: {"model": ErrorReply, "description": "This key was used for another request."},
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorReply, "description": "There is nothing of this name for who asks."}
}
OPENED: dict[int | str, dict[str, Any]] = {
    **NOT_FOUND,
    303: {
        "description": "Its page is at `Location`.",
        "headers": {"Location": {"schema": {"type": "string"}}},
    },
    409: {"model": ErrorReply, "description": "It has no page now."},
}
ALL_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Descriptions as of GET."},
}
EVENTS: dict[int | str, dict[str, Any]] = {
    **NOT_FOUND,
    200: {"content": {"text/event-stream": {}}, "description": "Descriptions as of GET."},
}


def echoed(posted: Mapping[str, Any]) -> dict[str, Any]:
    """What comes back as it was posted: all but what a client would take for the service's word."""
    return {key: value for key, value in posted.items() if key not in OURS}


def launched(
    posted: Mapping[str, Any],
    session: Session,
    secret: str,
    request: Request,
    settings: Settings,
    view: View,
) -> dict[str, Any]:
    """What wslink's clients want to hear of a session that is ready; see :class:`LaunchReply`."""
    row = session.row
    known = {
        "cluster": row.cluster,
        "host": row.host,
        "port": row.port,
        "job_id": row.job_id,
        "state": row.state,
    }
    return {
        **echoed(posted),
        "application": row.application,
        **_texts(posted, session, settings.server),
        **{key: known[key] for key in settings.server.fields},
        "id": row.id,
        "sessionURL": _session_url(row, session, request, settings),
        "secret": secret,
        "viewer": view.viewer,
        **({"page": view.page} if view.page else {}),
    }


class _Filled(Template):
    """Names with dots, too: ``${param.NAME}``."""

    braceidpattern = r"(?a:[A-Za-z][A-Za-z0-9_.-]*)"


def _texts(
    posted: Mapping[str, Any], session: Session, server: ServerSettings
) -> dict[str, Primitive]:
    """The further texts of a launch reply. See ``server.reply``."""
    if not server.reply:
        return {}
    row = session.row
    host, _, port = (session.endpoint.address or "").rpartition(":")
    names = {"id": row.id, "host": host, "port": port, "application": row.application}
    chosen = {**posted, **row.parameters}.items()
    names |= {f"param.{key}": str(each) for key, each in chosen if isinstance(each, Primitive)}
    texts = {key: _Filled(str(each)) for key, each in server.reply.items()}
    return {
        key: text.safe_substitute(names)
        if isinstance(server.reply[key], str)
        else server.reply[key]
        for key, text in texts.items()
        if names.keys() >= set(text.get_identifiers())
    }


def described(
    row: SessionRow, request: Request, settings: Settings, sessions: Sessions, view: View
) -> dict[str, Any]:
    """Where a session stands, as a :class:`SessionReply` without what is not known."""
    session = sessions.session(row.id)
    reply = SessionReply(
        id=row.id,
        application=row.application,
        cluster=row.cluster,
        owner=row.user,
        parameters=_parameters(row, settings),
        state=row.state,
        message=row.message,
        viewer=view.viewer,
        page=view.page,
        job_id=row.job_id,
        host=row.host,
        reason=row.reason,
        exit_status=row.exit_status,
        unknown_since=session.unknown_since if session else None,
        times={state: at for state in State if (at := getattr(row, f"{state}_at")) is not None},
        warm=row.was_warm or None,
        handed_over_at=row.taken_at if row.was_warm else None,
    )
    if session:
        reply = reply.model_copy(update=_expected(session))
    if row.state == State.READY:
        reply.tunnel = session.tunnel_state if session else None
        reply.traffic = _traffic(session)
        for first in session.expiries[:1] if session else []:
            reply.ends = EndReply(at=first.at, reason=first.reason, message=first.message)
        reply.sessionURL = _session_url(row, session, request, settings)
    if row.state == State.ENDED and row.reason not in (EndReason.STOPPED, EndReason.FINISHED):
        reply.error = row.message
    return reply.model_dump(mode="json", exclude_none=True)


def _parameters(row: SessionRow, settings: Settings) -> dict[str, Primitive]:
    """What a client posts to launch the same again, as far as it may be seen."""
    application = settings.applications.get(row.application)
    declared = application.parameters if application else {}
    shown = {
        key: row.parameters[key]
        for key, each in declared.items()
        if key in row.parameters and not each.secret
    }
    return {
        key: PurePosixPath(str(value)).name if declared[key].upload else value
        for key, value in shown.items()
    }


def _traffic(session: Session | None) -> TrafficReply | None:
    """What tells a slow network from slow rendering."""
    figures = session.endpoint.figures if session else None
    if figures is None:
        return None
    known = dataclasses.asdict(figures)
    if figures.round_trip is not None:
        known["round_trip"] = round(figures.round_trip, 5)
    return TrafficReply(**known)


def _expected(session: Session) -> dict[str, Any]:
    """What is known of a launch on its way."""
    outlook, limit = session.outlook, session.gives_up_at
    return {
        "gives_up_at": None if limit is None else round(limit, 3),
        "queue": outlook.queue or None,
        "waits_for": outlook.waits_for or None,
        "position": None if outlook.ahead is None else outlook.ahead + 1,
        "estimated_start": outlook.start,
    }


def _session_url(
    row: SessionRow, session: Session | None, request: Request, settings: Settings
) -> str:
    """The configured address with its ``${...}`` filled in. See ``server.session_url``."""
    host = request_host(request, settings.server)
    local_end = (session.endpoint.address if session else None) or ""
    local_host, _, local_port = local_end.rpartition(":")
    return Template(settings.session_url).safe_substitute(
        id=row.id,
        host=local_host,
        port=local_port,
        request_host=host,
        request_hostname=re.sub(r":[0-9]+$", "", host),
        server_name=settings.frontend.server_name,
        ws_scheme="wss" if request.scope["scheme"] == "https" else "ws",
    )


def request_host(request: Request, server: ServerSettings) -> str:
    """The host, and perhaps port, under which the client reached the service."""
    host = request.headers.get("host", "")
    if _HOST.fullmatch(host):
        return host
    name, port = request.scope.get("server") or ("", None)
    if port is None:  # a unix socket
        name, port = server.host, server.port
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def still_starting(error: StillStarting, session: Session) -> JSONResponse:
    """503, for a launch that takes longer than its client is kept waiting; it goes on."""
    content = {
        "error": str(error),
        "id": error.session_id,
        "state": error.state,
        "reason": error.reason,
        **_expected(session),
    }
    return JSONResponse(content, error.status, {"Retry-After": str(error.retry_after)})
