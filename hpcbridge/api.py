"""The launcher API as ParaViewWeb's clients use it, and its extensions.

Success is exactly 200 without an ``error`` key, failure is ``{"error": "..."}``: browsers that get
anything else show nothing, or the wrong thing. Bodies are read whatever their content type says.
"""

import logging
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

import hpcbridge
from hpcbridge.auth.identity import Identity, Scope
from hpcbridge.config.settings import Settings
from hpcbridge.errors import (
    BridgeError,
    ConfigError,
    NoCapacity,
    NotAuthenticated,
    StillStarting,
    StoreError,
    TooManyFailures,
)
from hpcbridge.notifier import Notifier
from hpcbridge.portal import pages as portal
from hpcbridge.sessions.manager import Sessions
from hpcbridge.store import SessionRow
from hpcbridge.web.access import Access
from hpcbridge.web.catalogue import CatalogueReply, catalogue
from hpcbridge.web.events import Audience, stream
from hpcbridge.web.middleware import Forwarded, Guard, error_reply, unless_gone
from hpcbridge.web.pages import Pages
from hpcbridge.web.requests import read_posted
from hpcbridge.web.responses import (
    ERRORS,
    NOT_FOUND,
    LaunchReply,
    ListReply,
    SessionReply,
    described,
    launched,
    still_starting,
)

log = logging.getLogger(__name__)

ASK_AGAIN = 10.0
"""Seconds after which it is asked again whether who listens to events still may."""
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
    for path, folder in server.folders.items():
        if not folder.is_dir():
            raise ConfigError(f"server.content: {folder} is not a directory.")
        # Links out of the folder are not followed, nor is "..": Starlette looks at real paths.
        app.mount(path, StaticFiles(directory=folder, html=True), name=f"content {path}")
    if server.portal and "/" not in server.folders:
        cards = portal.cards(settings.applications, settings.clusters)
        portal.mount(app, endpoint=server.endpoint, applications=cards, users=access.on)
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
    server, audience, pages = settings.server, Audience(), Pages(settings, sessions)
    router = APIRouter(tags=["launcher"], responses=ERRORS)

    def may(scope: Scope) -> Any:
        async def who(request: Request) -> Identity:
            return await access.who(request, scope)

        return Depends(who)

    def describe_to(row: SessionRow, request: Request, who: Identity) -> dict[str, Any]:
        return described(row, request, server, sessions, pages.view(row, request, who))

    Launching = Annotated[Identity, may(Scope.LAUNCH)]
    Reading = Annotated[Identity, may(Scope.READ)]
    Stopping = Annotated[Identity, may(Scope.STOP)]

    if access.on:

        @router.get("", response_model=ListReply)
        async def listing(request: Request, who: Reading) -> JSONResponse:
            """Who asks, and the living sessions that they may see."""
            rows = await sessions.living(who)
            found = [describe_to(row, request, who) for row in rows]
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
        posted = await read_posted(request, server.max_body)
        wanted = posted["application"]
        with access.recorded("launch", request, who, application=wanted) as facts:
            client = _client(request, who)
            session = await sessions.launch(
                wanted, posted, client=client, key=idempotency_key, user=who.user
            )
            facts |= access.facts(session.row)
        if "respond-async" in prefer.replace(" ", "").lower().split(","):
            await session.claim()
            reply = describe_to(session.row, request, who)
            posted.pop("page", None)  # the reply's own
            return JSONResponse(posted | reply | {"secret": session.row.secret}, 202)
        try:
            secret = await unless_gone(request, sessions.ready(session))
        except StillStarting as error:
            return still_starting(error, session)
        except ClientDisconnect:
            if server.on_disconnect == "cancel" and session.keepalive.free and not session.stopping:
                await sessions.stop(session.row.id)
            raise
        view = pages.view(session.row, request, who)
        return JSONResponse(launched(posted, session, secret, request, server, view))

    @router.get("/applications", response_model=CatalogueReply)
    async def applications(who: Reading) -> CatalogueReply:
        """The applications, and whether their clusters take sessions."""
        return catalogue(
            settings, sessions.placement, lambda name: sessions.pools.ready(name, who.user)
        )

    @router.get("/{session_id}", response_model=SessionReply, responses=NOT_FOUND)
    async def status(session_id: str, request: Request, who: Reading) -> JSONResponse:
        """Where a session stands; ended ones are remembered for a while."""
        row = await sessions.get(session_id, who)
        return JSONResponse(describe_to(row, request, who))

    @router.get("/{session_id}/open", response_class=RedirectResponse, include_in_schema=False)
    async def opening(session_id: str, request: Request, who: Reading) -> Response:
        """Go to the session's page, for links: the address that admits is made now."""
        view = pages.view(await sessions.get(session_id, who), request, who)
        if view.page is None:
            return error_reply("This session has no page now.", 409)
        return RedirectResponse(view.page, 303, {"Referrer-Policy": "no-referrer"})

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
        audience.admit(session_id)
        asked = time.monotonic()

        async def describe() -> dict[str, Any]:
            nonlocal asked
            if time.monotonic() - asked > ASK_AGAIN:
                await access.still(request, Scope.READ)
                asked = time.monotonic()
            return describe_to(await sessions.get(session_id, who), request, who)

        def notifier() -> Notifier | None:
            session = sessions.session(session_id)
            return session.news if session else None

        events = stream(describe, notifier, lambda: sessions.leaving)
        return StreamingResponse(
            audience.of(session_id, events),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )

    @router.delete("/{session_id}", response_model=SessionReply, responses=NOT_FOUND)
    async def stop(session_id: str, request: Request, who: Stopping) -> JSONResponse:
        """Stop a session and its job."""
        with access.recorded("stop", request, who) as facts:
            row = await sessions.stop(session_id, who)
            facts |= access.facts(row)
        return JSONResponse(describe_to(row, request, who))

    return router


def _client(request: Request, who: Identity) -> str:
    """Who asks: a user, or an address and a program where there are none."""
    if who.user is not None:
        return f"user {who.user}"
    address = request.client.host if request.client else ""
    return f"{address} {request.headers.get('user-agent', '')}"


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
