"""The launcher API as ParaViewWeb's clients use it, and its extensions.

Success is exactly 200 without an ``error`` key, failure is ``{"error": "..."}``: browsers that get
anything else show nothing, or the wrong thing. Bodies are read whatever their content type says.
"""

import asyncio
import json
import logging
import re
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
from hpcbridge.config import ServerSettings, Settings
from hpcbridge.errors import (
    BridgeError,
    ConfigError,
    OriginRefused,
    RequestError,
    StillStarting,
    TooLarge,
)
from hpcbridge.events import Bell, stream
from hpcbridge.http import Guard, error_reply, origin_allowed, unless_gone
from hpcbridge.life import Life
from hpcbridge.portal import pages
from hpcbridge.schedulers.base import EndReason
from hpcbridge.sessions import Sessions
from hpcbridge.store import SessionRow, State

log = logging.getLogger(__name__)

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,255})(:[0-9]{1,5})?")

BODY_TIME = 30.0
"""Seconds that a request's body may take to arrive."""
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
    tunnel: str | None = Field(
        None, description="'open', or 'reconnecting' while the node's SSH connection is down."
    )
    ends: EndReply | None = Field(
        None, description="What will end a ready session first, while that is known."
    )
    times: dict[State, float] = Field(description="When each state began, seconds since the epoch.")
    error: str | None = Field(None, description="Present when it ended and was not stopped.")


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorReply, "description": "The request is wrong."},
    403: {"model": ErrorReply, "description": "Pages of this origin may not use the launcher."},
    413: {"model": ErrorReply, "description": "The request is too large."},
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


def create_app(settings: Settings, sessions: Sessions) -> FastAPI:
    """The FastAPI application over running ``sessions``."""
    server = settings.server
    app = FastAPI(
        title="hpcbridge",
        version=hpcbridge.__version__,
        summary="ParaViewWeb's launcher API on a batch system.",
        docs_url=None,  # they load scripts from elsewhere; /openapi.json has it all
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(_router(settings, sessions), prefix=server.endpoint)
    if server.content is not None:
        if not server.content.is_dir():
            raise ConfigError(f"server.content: {server.content} is not a directory.")
        app.mount("/", StaticFiles(directory=server.content, html=True), name="content")
    elif server.portal:
        pages.mount(app, endpoint=server.endpoint, applications=pages.cards(settings.applications))
    app.add_exception_handler(BridgeError, _bridge_error)
    app.add_exception_handler(StillStarting, _still_starting)
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
    return app


def _router(settings: Settings, sessions: Sessions) -> APIRouter:
    server = settings.server

    async def same_site(request: Request) -> None:
        if server.check_origin and not origin_allowed(request, server.cors_origins):
            raise OriginRefused(
                "Pages of this site may not use the launcher. "
                "Its admins can allow them in server.cors_origins."
            )

    router = APIRouter(tags=["launcher"], responses=ERRORS)
    guarded = [Depends(same_site)]

    @router.post(
        "",
        response_model=LaunchReply,
        responses={202: {"model": SessionReply, "description": "Begun; ask GET for progress."}},
        dependencies=guarded,
        openapi_extra=LAUNCH_BODY,
    )
    async def launch(
        request: Request,
        prefer: Annotated[str, Header()] = "",
        idempotency_key: Annotated[str | None, Header(min_length=16, max_length=255)] = None,
    ) -> JSONResponse:
        """Launch an application and answer when it is ready.

        With ``Prefer: respond-async`` (RFC 7240) the answer is 202, at once. A request with the
        ``Idempotency-Key`` of an earlier one gets that one's session.
        """
        posted = await _posted(request, server)
        life = await sessions.launch(
            posted["application"], posted, client=_client(request), key=idempotency_key
        )
        if "respond-async" in prefer.replace(" ", "").lower().split(","):
            await life.claim()
            reply = _describe(life.row, request, server, sessions)
            return JSONResponse(posted | reply | {"secret": life.row.secret}, 202)
        try:
            secret = await unless_gone(request, sessions.ready(life))
        except ClientDisconnect:
            if server.on_disconnect == "cancel" and life.interest.free:
                life.stop()
            raise
        return JSONResponse(_launched(posted, life, secret, request, server))

    @router.get("/{session_id}", response_model=SessionReply, responses=NOT_FOUND)
    async def status(session_id: str, request: Request) -> JSONResponse:
        """Where a session stands; ended ones are remembered for a while."""
        row = await sessions.get(session_id)
        return JSONResponse(_describe(row, request, server, sessions))

    @router.get(
        "/{session_id}/events",
        responses={
            **NOT_FOUND,
            200: {"content": {"text/event-stream": {}}, "description": "Descriptions as of GET."},
        },
        response_class=StreamingResponse,
    )
    async def progress(session_id: str, request: Request) -> StreamingResponse:
        """Server-sent events: where the session stands, each time that changes, until it ends."""
        await sessions.get(session_id)  # 404 before the stream begins

        async def describe() -> dict[str, Any]:
            return _describe(await sessions.get(session_id), request, server, sessions)

        def bell() -> Bell | None:
            life = sessions.life(session_id)
            return life.news if life else None

        return StreamingResponse(
            stream(describe, bell, lambda: sessions.leaving),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )

    @router.delete(
        "/{session_id}", response_model=SessionReply, responses=NOT_FOUND, dependencies=guarded
    )
    async def stop(session_id: str, request: Request) -> JSONResponse:
        """Stop a session and its job."""
        row = await sessions.stop(session_id)
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
        "sessionURL": _session_url(row, request, server),
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
        unknown_since=life.watch.unknown_since if life and life.watch else None,
        times={state: at for state in State if (at := getattr(row, f"{state}_at")) is not None},
    )
    if row.state == State.READY:
        reply.tunnel = life.tunnel_state if life else None
        for first in life.limits[:1] if life else []:
            reply.ends = EndReply(at=first.when, reason=first.reason, message=first.message)
        reply.sessionURL = _session_url(row, request, server)
    if row.state == State.ENDED and row.reason not in (EndReason.STOPPED, EndReason.FINISHED):
        reply.error = row.message
    return reply.model_dump(mode="json", exclude_none=True)


def _session_url(row: SessionRow, request: Request, server: ServerSettings) -> str:
    """The configured address with its ``${...}`` filled in. See ``server.session_url``."""
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        name, port = request.scope.get("server") or (server.host, server.port)
        host = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    local_host, _, local_port = (row.address or "").rpartition(":")
    return Template(server.session_url).safe_substitute(
        id=row.id,
        host=local_host,
        port=local_port,
        request_host=host,
        request_hostname=re.sub(r":[0-9]+$", "", host),
        ws_scheme="wss" if request.scope["scheme"] == "https" else "ws",
    )


def _client(request: Request) -> str:
    """Who asks, as far as can be told without users: an address and a program."""
    address = request.client.host if request.client else ""
    return f"{address} {request.headers.get('user-agent', '')}"


def _still_starting(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StillStarting)
    content = {
        "error": str(error),
        "id": error.session_id,
        "state": error.state,
        "reason": error.reason,
        "estimated_start": None,
    }
    return JSONResponse(content, error.status, {"Retry-After": str(error.retry_after)})


def _hung_up(request: Request, error: Exception) -> JSONResponse:
    return error_reply("The client hung up.", 499)


def _bridge_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BridgeError)
    if error.status >= 500:
        log.warning("%s %r: %s", request.method, request.scope["path"], error)
    return error_reply(str(error), error.status)


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    said = {404: "There is nothing here.", 405: "This method is not allowed here."}
    message = said.get(error.status_code, str(error.detail))
    return error_reply(message, error.status_code, error.headers)


def _validation_error(request: Request, error: Exception) -> JSONResponse:
    return error_reply("The request is not what this address expects.", 400)
