"""The launcher API as ParaViewWeb's clients use it, and its extensions.

Success is exactly 200 without an ``error`` key, failure is ``{"error": "..."}``: browsers that get
anything else show nothing, or the wrong thing. Bodies are read whatever their content type says.
"""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

import hpcbridge
from hpcbridge.config.settings import Settings
from hpcbridge.errors import (
    BridgeError,
    ConfigError,
    NoCapacity,
    NotAuthenticated,
    StoreError,
    TooManyFailures,
)
from hpcbridge.frontends.origin import HostNames
from hpcbridge.portal import pages as portal
from hpcbridge.sessions.manager import Sessions
from hpcbridge.web import announcements, logs, openapi, uploads
from hpcbridge.web.access import Access
from hpcbridge.web.launcher import Launcher
from hpcbridge.web.middleware import Forwarded, Guard, KnownHost, StrictTransport, error_reply
from hpcbridge.web.replies import REQUEST_ID, Problems, RequestIds

log = logging.getLogger(__name__)


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
        generate_unique_id_function=openapi.operation_id,
    )
    openapi.describe(app, settings)
    app.state.access = access
    if sessions.uploads is not None:  # before the launcher's, to which its path is a session's
        app.include_router(uploads.router(sessions.uploads, access), prefix=server.endpoint)
    announced = announcements.router(settings, sessions, access)
    app.include_router(announced, prefix=server.endpoint)
    launcher = Launcher(settings, sessions, access)
    app.include_router(launcher.router, prefix=server.endpoint)
    app.include_router(logs.router(sessions, access), prefix=server.endpoint)
    for path, folder in server.folders.items():
        if not folder.is_dir():
            raise ConfigError(f"server.content: {folder} is not a directory.")
        # Links out of the folder are not followed, nor is "..": Starlette looks at real paths.
        app.mount(path, StaticFiles(directory=folder, html=True), name=f"content {path}")
    if server.portal and "/" not in server.folders:
        cards = portal.cards(settings.applications, settings.clusters)
        domain = settings.session_domain
        portal.mount(
            app,
            endpoint=server.endpoint,
            applications=cards,
            clusters={name: each.title or name for name, each in settings.clusters.items()},
            frames=[f"*.{domain}:*"] if domain else [],
            users=access.on,
            uploads=settings.uploads.on,
        )
    app.add_exception_handler(BridgeError, _bridge_error)
    app.add_exception_handler(ClientDisconnect, _hung_up)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_middleware(Guard, endpoint=server.endpoint)
    if server.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=server.cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["*"],
            expose_headers=[REQUEST_ID],
        )
    names = HostNames(settings.own_names)
    app.add_middleware(KnownHost, names=names, trusted=server.trusted_proxies)
    app.add_middleware(Problems)
    app.add_middleware(RequestIds)
    frontend = settings.frontend
    apache = frontend.server_name if frontend.kind == "apache" else None
    if server.hsts is not None:
        app.add_middleware(StrictTransport, said=server.hsts)
    app.add_middleware(Forwarded, trusted=server.trusted_proxies, apache=apache)
    return app


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
    headers = dict(error.headers or {})
    if error.status_code == 405 and (methods := openapi.methods(request.app, request.url.path)):
        headers["Allow"] = ", ".join(methods)  # Starlette tells those of the first route
    return error_reply(message, error.status_code, headers)


def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    wrong = error.errors()[0]
    return error_reply(f"The {wrong['loc'][0]} {wrong['loc'][-1]}: {wrong['msg']}.", 400)
