"""The launcher API's routes: each is a method of :class:`Launcher`."""

import asyncio
import contextlib
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.requests import ClientDisconnect

from hpcbridge.auth.identity import Identity, Scope
from hpcbridge.config.settings import Settings
from hpcbridge.errors import OperatorsOnly, StillStarting, StoreError
from hpcbridge.notifier import Notifier
from hpcbridge.sessions.manager import Sessions
from hpcbridge.sessions.session import Session
from hpcbridge.states import State
from hpcbridge.store import SessionRow
from hpcbridge.web.access import Access
from hpcbridge.web.catalogue import CatalogueReply, catalogue
from hpcbridge.web.changes import changes
from hpcbridge.web.events import Audience, stream
from hpcbridge.web.listing import ListRequest, cursor
from hpcbridge.web.middleware import error_reply, unless_gone
from hpcbridge.web.pages import Pages
from hpcbridge.web.requests import read_posted
from hpcbridge.web.responses import (
    ALL_EVENTS,
    BEGUN,
    ERRORS,
    EVENTS,
    NOT_FOUND,
    OPENED,
    LaunchReply,
    ListReply,
    SessionId,
    SessionReply,
    described,
    echoed,
    launched,
    still_starting,
)

ASK_AGAIN = 10.0
"""Seconds after which it is asked again whether who listens to events still may."""
AT_ONCE = 50
"""Sessions of a list that are described before others have their turn."""
LAUNCH_BODY = {
    "requestBody": {
        "required": True,
        "description": "A JSON object, whatever the content type says. Keys that the application "
        "does not declare as parameters have no effect. All come back in the reply, but for those "
        "that a reply has itself.",
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


def _may(scope: Scope) -> Any:
    async def who(request: Request) -> Identity:
        access: Access = request.app.state.access
        return await access.who(request, scope)

    return Depends(who)


Launching = Annotated[Identity, _may(Scope.LAUNCH)]
Reading = Annotated[Identity, _may(Scope.READ)]
Stopping = Annotated[Identity, _may(Scope.STOP)]


class Launcher:
    """Answers over running ``sessions``; the application's ``state`` has the same ``access``."""

    def __init__(self, settings: Settings, sessions: Sessions, access: Access) -> None:
        self._settings = settings
        self._server = settings.server
        self._sessions = sessions
        self._access = access
        self._audience = Audience()
        self._pages = Pages(settings, sessions)

    @property
    def router(self) -> APIRouter:
        """Which method answers what."""
        router = APIRouter(tags=["launcher"], responses=ERRORS)
        add, one = router.add_api_route, "/{session_id}"
        page = "The sessions of one page."
        add("", self.listing, methods=["GET"], response_model=ListReply, response_description=page)
        if self._access.on:
            changes: dict[str, Any] = {"response_class": StreamingResponse, "responses": ALL_EVENTS}
            add("/events", self.changes, methods=["GET"], **changes)
        add(
            "",
            self.launch,
            methods=["POST"],
            response_model=LaunchReply,
            response_description="The session is ready.",
            responses=BEGUN,
            openapi_extra=LAUNCH_BODY,
        )
        add(
            "/applications",
            self.applications,
            methods=["GET"],
            response_model=CatalogueReply,
            response_description="All that can be launched.",
        )
        told: dict[str, Any] = {"response_model": SessionReply, "responses": NOT_FOUND}
        stands, stopped = "Where it stands.", "As it was before; it is being stopped."
        add(one, self.status, methods=["GET"], response_description=stands, **told)
        add(one, self.stop, methods=["DELETE"], response_description=stopped, **told)
        as_stream: dict[str, Any] = {"response_class": StreamingResponse, "responses": EVENTS}
        opens: dict[str, Any] = {"response_class": RedirectResponse, "responses": OPENED}
        add(f"{one}/open", self.open, methods=["GET"], status_code=303, **opens)
        add(f"{one}/events", self.progress, methods=["GET"], **as_stream)
        return router

    def _described(self, row: SessionRow, request: Request, who: Identity) -> dict[str, Any]:
        view = self._pages.view(row, request, who)
        return described(row, request, self._settings, self._sessions, view)

    async def listing(
        self, request: Request, who: Reading, asked: Annotated[ListRequest, Depends()]
    ) -> JSONResponse:
        """Who asks, and sessions that they may see, the newest first, page by page.

        Without users, those that were launched with the cookie of this browser.
        """
        try:
            selection = asked.selection(who)
        except OperatorsOnly as error:
            self._access.refused_request("list", request, who, error)
            raise
        rows = await self._sessions.page(selection, asked.limit + 1, asked.place)
        shown, found = rows[: asked.limit], []
        for row in shown:
            found.append(self._described(row, request, who))
            if not len(found) % AT_ONCE:
                await asyncio.sleep(0)
        following = cursor(shown[-1]) if len(rows) > len(shown) else None
        return JSONResponse(
            {
                "user": who.user,
                "operator": who.operates and self._access.on,
                "sessions": found,
                "next": following,
            }
        )

    async def changes(self, request: Request, who: Reading) -> StreamingResponse:
        """Server-sent events: each living session that one may see, then each that changes."""
        owner = "everybody's" if who.operates else f"of {who.user}"

        async def still() -> None:
            await self._access.still(request, Scope.READ)

        events = changes(
            self._sessions.registry,
            who,
            lambda row: self._described(row, request, who),
            still,
            lambda: self._sessions.leaving,
        )
        return self._audience.told(owner, events)

    async def launch(
        self,
        request: Request,
        who: Launching,
        prefer: Annotated[str, Header(description="`respond-async` for 202 at once.")] = "",
        idempotency_key: Annotated[
            str | None,
            Header(
                min_length=16, max_length=255, description="Requests with one key are one session."
            ),
        ] = None,
    ) -> JSONResponse:
        """Launch an application and answer when it is ready.

        With ``Prefer: respond-async`` (RFC 7240) the answer is 202, at once. A request with the
        ``Idempotency-Key`` of an earlier one gets that one's session.
        """
        posted = await read_posted(request, self._server.max_body)
        wanted = posted["application"]
        with self._access.recorded("launch", request, who, application=wanted) as facts:
            client = _client(request, who)
            session = await self._sessions.launches.begin(
                wanted,
                posted,
                client=client,
                key=idempotency_key,
                user=who.user,
                visitor=who.visitor,
            )
            facts |= self._access.facts(session.row)
        if "respond-async" in prefer.replace(" ", "").lower().split(","):
            await session.claim()
            reply = self._described(session.row, request, who)
            return JSONResponse(echoed(posted) | reply | {"secret": session.row.secret}, 202)
        try:
            secret = await self._ready(session, request)
        except StillStarting as error:
            return still_starting(error, session)
        view = self._pages.view(session.row, request, who)
        return JSONResponse(launched(posted, session, secret, request, self._settings, view))

    async def _ready(self, session: Session, request: Request) -> str:
        try:
            return await unless_gone(request, self._sessions.launches.ready(session))
        except ClientDisconnect:
            cancels = self._server.on_disconnect == "cancel"
            if cancels and session.keepalive.free and not session.stopping:
                await self._sessions.stop(session.row.id)
            raise

    async def applications(self, who: Reading) -> CatalogueReply:
        """The applications, and whether their clusters take sessions."""
        sessions = self._sessions
        with contextlib.suppress(StoreError):  # what was announced before is told
            await sessions.placement.announcements.look()
        return catalogue(
            self._settings, sessions.placement, lambda name: sessions.pools.ready(name, who.user)
        )

    async def status(self, session_id: SessionId, request: Request, who: Reading) -> JSONResponse:
        """Where a session stands; ended ones are remembered for a while."""
        row = await self._sessions.get(session_id, who)
        found = self._described(row, request, who)
        own = who.user is not None and who.user == row.user and Scope.LAUNCH in who.scopes
        if own and row.state == State.READY and row.secret:
            found["secret"] = row.secret
        return JSONResponse(found)

    async def open(self, session_id: SessionId, request: Request, who: Reading) -> Response:
        """Go to the session's page, for links: the address that admits is made now."""
        view = self._pages.view(await self._sessions.get(session_id, who), request, who)
        if view.page is None:
            return error_reply("This session has no page now.", 409)
        return RedirectResponse(view.page, 303, {"Referrer-Policy": "no-referrer"})

    async def progress(
        self, session_id: SessionId, request: Request, who: Reading
    ) -> StreamingResponse:
        """Server-sent events: where the session stands, each time that changes, until it ends."""
        await self._sessions.get(session_id, who)  # 404 before the stream begins
        asked = time.monotonic()

        async def describe() -> dict[str, Any]:
            nonlocal asked
            if time.monotonic() - asked > ASK_AGAIN:
                await self._access.still(request, Scope.READ)
                asked = time.monotonic()
            return self._described(await self._sessions.get(session_id, who), request, who)

        def notifier() -> Notifier | None:
            session = self._sessions.session(session_id)
            return session.news if session else None

        events = stream(describe, notifier, lambda: self._sessions.leaving)
        return self._audience.told(session_id, events)

    async def stop(self, session_id: SessionId, request: Request, who: Stopping) -> JSONResponse:
        """Stop a session and its job."""
        with self._access.recorded("stop", request, who) as facts:
            row = await self._sessions.stop(session_id, who)
            facts |= self._access.facts(row)
        return JSONResponse(self._described(row, request, who))


def _client(request: Request, who: Identity) -> str:
    """Who asks: a user or, where there are none, a browser, or an address and a program."""
    if who.user is not None:
        return f"user {who.user}"
    if who.visitor is not None:
        return f"visitor {who.visitor}"
    address = request.client.host if request.client else ""
    return f"{address} {request.headers.get('user-agent', '')}"
