"""The launcher API as ParaViewWeb's clients use it, and its extensions.

Success is exactly 200 without an ``error`` key, failure is ``{"error": "..."}``: browsers that get
anything else show nothing, or the wrong thing. Bodies are read whatever their content type says.
"""

import asyncio
import json
import logging
import re
import time
from collections.abc import Mapping
from string import Template
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

import hpcbridge
from hpcbridge.access import Access
from hpcbridge.auth.identity import Identity, Scope
from hpcbridge.catalogue import CatalogueReply, catalogue
from hpcbridge.config import ServerSettings, Settings
from hpcbridge.errors import (
    BridgeError,
    ConfigError,
    NoCapacity,
    NotAuthenticated,
    RequestError,
    StillStarting,
    StoreError,
    TooLarge,
    TooManyFailures,
)
from hpcbridge.events import Bell, stream
from hpcbridge.http import Forwarded, Guard, error_reply, unless_gone
from hpcbridge.life import Life
from hpcbridge.portal import pages
from hpcbridge.schedulers.base import EndReason
from hpcbridge.sessions import Sessions
from hpcbridge.store import SessionRow, State

log = logging.getLogger(__name__)

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,255})(:[0-9]{1,5})?")

BODY_TIME = 30.0
"""Seconds that a request's body may take to arrive."""
ASK_AGAIN = 10.0
"""Seconds after which it is asked again whether who listens to events still may."""
DEPTH_LIMIT = 64
"""Levels of nesting that a request may have: what can be read cannot always be written again."""
OURS = frozenset({"id", "secret", "sessionURL", "error"})
"""Keys that only a reply can have; a posted ``error`` would turn success into failure."""


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


class EndReply(BaseModel):
    """An end that can be foreseen; being used puts an ``idle`` one off."""

    at: float = Field(description="Seconds since the epoch.")
    reason: EndReason
    message: str


class SessionReply(BaseModel):
    """Where a session stands."""

    model_config = ConfigDict(extra="allow")
    id: str
    application: str
    cluster: str
    state: State
    message: str = Field(description="The state in plain words.")
    job_id: str | None = Field(None, description="The batch system's id of the job.")
    host: str | None = Field(None, description="The node that runs it.")
    sessionURL: str | None = Field(None, description="WebSocket address, once it is ready.")
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
    ends: EndReply | None = Field(
        None, description="What will end a ready session first, while that is known."
    )
    times: dict[State, float] = Field(description="When each state began, seconds since the epoch.")
    warm: bool | None = Field(None, description="True where it was ready before it was launched.")
    handed_over_at: float | None = Field(
        None, description="When a warm session was launched, in seconds since the epoch."
    )
    error: str | None = Field(None, description="Present when it ended and was not stopped.")


class ListReply(BaseModel):
    """Who asks, and the living sessions that they may see, the newest first."""

    user: str
    operator: bool = Field(description="Whether everybody's sessions are listed.")
    sessions: list[SessionReply]


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
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorReply}}

LAUNCH_BODY = {
    "requestBody": {
        "required": True,
        "description": "A JSON object, whatever the content type says. Keys that the application "
        "does not declare as parameters have no effect and come back in the reply.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["application"],
                    "properties": {"application": {"type": "string"}},
                    "additionalProperties": True,
                },
                "example": {"application": "visualizer"},
            }
        },
    }
}


def create_app(settings: Settings, sessions: Sessions, access: Access | None = None) -> FastAPI:
    """The FastAPI application over running ``sessions``.

    Raises :class:`~hpcbridge.errors.ConfigError` for what ``access``, made here where it is not
    given, and the pages cannot use.
    """
    server = settings.server
    access = access or Access(settings, sessions)
    app = FastAPI(
        title="hpcbridge",
        version=hpcbridge.__version__,
        summary="ParaViewWeb's launcher API on a batch system.",
        docs_url=None,  # they load scripts from elsewhere; /openapi.json has it all
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(_router(settings, sessions, access), prefix=server.endpoint)
    if server.content is not None:
        if not server.content.is_dir():
            raise ConfigError(f"server.content: {server.content} is not a directory.")
        app.mount("/", StaticFiles(directory=server.content, html=True), name="content")
    elif server.portal:
        cards = pages.cards(settings.applications, settings.clusters)
        pages.mount(app, endpoint=server.endpoint, applications=cards, users=access.on)
    app.add_exception_handler(BridgeError, _bridge_error)
    app.add_exception_handler(ClientDisconnect, _hung_up)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_middleware(Guard, endpoint=server.endpoint)
    if server.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=server.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
        )
    app.add_middleware(Forwarded, trusted=server.trusted_proxies)
    return app


def _router(settings: Settings, sessions: Sessions, access: Access) -> APIRouter:
    server = settings.server
    router = APIRouter(tags=["launcher"], responses=ERRORS)

    def may(scope: Scope) -> Any:
        async def who(request: Request) -> Identity:
            return await access.who(request, scope)

        return Depends(who)

    Launching = Annotated[Identity, may(Scope.LAUNCH)]
    Reading = Annotated[Identity, may(Scope.READ)]
    Stopping = Annotated[Identity, may(Scope.STOP)]

    if access.on:

        @router.get("", response_model=ListReply)
        async def listing(request: Request, who: Reading) -> JSONResponse:
            """Who asks, and the living sessions that they may see."""
            rows = await sessions.living(who)
            found = [_describe(row, request, server, sessions) for row in rows]
            return JSONResponse({"user": who.user, "operator": who.operates, "sessions": found})

    @router.post(
        "",
        response_model=LaunchReply,
        responses={202: {"model": SessionReply, "description": "Begun; ask GET for progress."}},
        openapi_extra=LAUNCH_BODY,
    )
    async def launch(
        request: Request,
        who: Launching,
        prefer: Annotated[str, Header()] = "",
        idempotency_key: Annotated[str | None, Header(min_length=16, max_length=255)] = None,
    ) -> JSONResponse:
        """Launch an application and answer when it is ready.

        With ``Prefer: respond-async`` (RFC 7240) the answer is 202, at once. A request with the
        ``Idempotency-Key`` of an earlier one gets that one's session.
        """
        posted = await _posted(request, server)
        wanted = posted["application"]
        with access.recorded("launch", request, who, application=wanted) as facts:
            client = _client(request, who)
            life = await sessions.launch(
                wanted, posted, client=client, key=idempotency_key, user=who.user
            )
            facts |= access.facts(life.row)
        if "respond-async" in prefer.replace(" ", "").lower().split(","):
            await life.claim()
            reply = _describe(life.row, request, server, sessions)
            return JSONResponse(posted | reply | {"secret": life.row.secret}, 202)
        try:
            secret = await unless_gone(request, sessions.ready(life))
        except StillStarting as error:
            return _still_starting(error, life)
        except ClientDisconnect:
            if server.on_disconnect == "cancel" and life.interest.free and not life.stopping:
                await sessions.stop(life.row.id)
            raise
        return JSONResponse(_launched(posted, life, secret, request, server))

    @router.get("/applications", response_model=CatalogueReply)
    async def applications(who: Reading) -> CatalogueReply:
        """The applications, and whether their clusters take sessions."""
        return catalogue(
            settings, sessions.choice, lambda name: sessions.pools.ready(name, who.user)
        )

    @router.get("/{session_id}", response_model=SessionReply, responses=NOT_FOUND)
    async def status(session_id: str, request: Request, who: Reading) -> JSONResponse:
        """Where a session stands; ended ones are remembered for a while."""
        row = await sessions.get(session_id, who)
        return JSONResponse(_describe(row, request, server, sessions))

    @router.get(
        "/{session_id}/events",
        responses={
            **NOT_FOUND,
            200: {"content": {"text/event-stream": {}}, "description": "Descriptions as of GET."},
        },
        response_class=StreamingResponse,
    )
    async def progress(session_id: str, request: Request, who: Reading) -> StreamingResponse:
        """Server-sent events: where the session stands, each time that changes, until it ends."""
        await sessions.get(session_id, who)  # 404 before the stream begins

        asked = time.monotonic()

        async def describe() -> dict[str, Any]:
            nonlocal asked
            if time.monotonic() - asked > ASK_AGAIN:
                await access.still(request, Scope.READ)
                asked = time.monotonic()
            return _describe(await sessions.get(session_id, who), request, server, sessions)

        def bell() -> Bell | None:
            life = sessions.life(session_id)
            return life.news if life else None

        return StreamingResponse(
            stream(describe, bell, lambda: sessions.leaving),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )

    @router.delete("/{session_id}", response_model=SessionReply, responses=NOT_FOUND)
    async def stop(session_id: str, request: Request, who: Stopping) -> JSONResponse:
        """Stop a session and its job."""
        with access.recorded("stop", request, who) as facts:
            row = await sessions.stop(session_id, who)
            facts |= access.facts(row)
        return JSONResponse(_describe(row, request, server, sessions))

    return router


async def _posted(request: Request, server: ServerSettings) -> dict[str, Any]:
    """The posted object. Raises :class:`~hpcbridge.errors.RequestError` for anything else."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIME):
            async for chunk in request.stream():
                body += chunk
                if len(body) > server.max_body:
                    raise TooLarge(f"The request has more than {server.max_body} bytes.")
    except TimeoutError as error:
        raise RequestError(f"The request was not complete after {BODY_TIME:g} s.") from error
    except ClientDisconnect as error:
        raise RequestError("The client hung up in the middle of its request.") from error
    try:
        posted = await asyncio.to_thread(_parse, bytes(body))
    except (ValueError, RecursionError) as error:
        raise RequestError("The request is not JSON, or is nested too deeply.") from error
    if not isinstance(posted, dict):
        raise RequestError('The request must be a JSON object such as {"application": "NAME"}.')
    if not isinstance(posted.get("application"), str):
        raise RequestError("The request is not complete: 'application' must name an application.")
    return {key: value for key, value in posted.items() if key not in OURS}


def _parse(body: bytes) -> Any:
    """JSON as RFC 8259 has it, and as it can be sent back: no NaN, no lone surrogates."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    value = json.loads(body, parse_constant=refuse)
    if _depth(value) > DEPTH_LIMIT:
        raise ValueError("nested too deeply")
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return value


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [
            inner for each in level for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return depth


def _launched(
    posted: Mapping[str, Any],
    life: Life,
    secret: str,
    request: Request,
    server: ServerSettings,
) -> dict[str, Any]:
    row = life.row
    known = {
        "cluster": row.cluster,
        "host": row.host,
        "port": row.port,
        "job_id": row.job_id,
        "state": row.state,
    }
    return {
        **posted,
        **{key: known[key] for key in server.fields},
        "id": row.id,
        "sessionURL": _session_url(row, life, request, server),
        "secret": secret,
    }


def _describe(
    row: SessionRow, request: Request, server: ServerSettings, sessions: Sessions
) -> dict[str, Any]:
    life = sessions.life(row.id)
    reply = SessionReply(
        id=row.id,
        application=row.application,
        cluster=row.cluster,
        state=row.state,
        message=row.message,
        job_id=row.job_id,
        host=row.host,
        reason=row.reason,
        exit_status=row.exit_status,
        unknown_since=life.unknown_since if life else None,
        times={state: at for state in State if (at := getattr(row, f"{state}_at")) is not None},
        warm=row.was_warm or None,
        handed_over_at=row.taken_at if row.was_warm else None,
    )
    if life:
        reply = reply.model_copy(update=_expected(life))
    if row.state == State.READY:
        reply.tunnel = life.tunnel_state if life else None
        for first in life.limits[:1] if life else []:
            reply.ends = EndReply(at=first.when, reason=first.reason, message=first.message)
        reply.sessionURL = _session_url(row, life, request, server)
    if row.state == State.ENDED and row.reason not in (EndReason.STOPPED, EndReason.FINISHED):
        reply.error = row.message
    return reply.model_dump(mode="json", exclude_none=True)


def _expected(life: Life) -> dict[str, Any]:
    """What is known of a wait in the queue."""
    outlook = life.outlook
    return {
        "queue": outlook.queue or None,
        "waits_for": outlook.waits_for or None,
        "position": None if outlook.ahead is None else outlook.ahead + 1,
        "estimated_start": outlook.start,
    }


def _session_url(
    row: SessionRow, life: Life | None, request: Request, server: ServerSettings
) -> str:
    """The configured address with its ``${...}`` filled in. See ``server.session_url``."""
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        name, port = request.scope.get("server") or ("", None)
        if port is None:  # a unix socket
            name, port = server.host, server.port
        host = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    local_end = (life.door.address if life else None) or ""
    local_host, _, local_port = local_end.rpartition(":")
    return Template(server.session_url).safe_substitute(
        id=row.id,
        host=local_host,
        port=local_port,
        request_host=host,
        request_hostname=re.sub(r":[0-9]+$", "", host),
        ws_scheme="wss" if request.scope["scheme"] == "https" else "ws",
    )


def _client(request: Request, who: Identity) -> str:
    """Who asks: a user, or an address and a program where there are none."""
    if who.user is not None:
        return f"user {who.user}"
    address = request.client.host if request.client else ""
    return f"{address} {request.headers.get('user-agent', '')}"


def _still_starting(error: StillStarting, life: Life) -> JSONResponse:
    content = {
        "error": str(error),
        "id": error.session_id,
        "state": error.state,
        "reason": error.reason,
        **_expected(life),
    }
    return JSONResponse(content, error.status, {"Retry-After": str(error.retry_after)})


def _hung_up(request: Request, error: Exception) -> JSONResponse:
    return error_reply("The client hung up.", 499)


def _bridge_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BridgeError)
    if error.status >= 500:
        log.warning("%s %r: %s", request.method, request.scope["path"], error)
    headers = {}
    if isinstance(error, NotAuthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="hpcbridge"'
    if isinstance(error, TooManyFailures | StoreError | NoCapacity):
        headers["Retry-After"] = str(error.retry_after)
    return error_reply(str(error), error.status, headers)


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    said = {404: "There is nothing here.", 405: "This method is not allowed here."}
    message = said.get(error.status_code, str(error.detail))
    return error_reply(message, error.status_code, error.headers)


def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    wrong = error.errors()[0]
    return error_reply(f"The {wrong['loc'][0]} {wrong['loc'][-1]}: {wrong['msg']}.", 400)
