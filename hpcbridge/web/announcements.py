"""``ENDPOINT/announcements``: what operators announce, and what they drain, without a restart."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hpcbridge.auth.identity import Identity, Scope
from hpcbridge.clusters.announcements import LONGEST, checked, text_of
from hpcbridge.config.settings import Settings
from hpcbridge.database.tables import About
from hpcbridge.errors import OperatorsOnly, RequestError
from hpcbridge.sessions.manager import Sessions
from hpcbridge.web.access import Access
from hpcbridge.web.catalogue import AnnouncementReply, announced
from hpcbridge.web.requests import read_object
from hpcbridge.web.responses import ERRORS, NOT_FOUND


class AnnouncementsReply(BaseModel):
    """All that is announced, the newest first."""

    announcements: list[AnnouncementReply]


class Announcement(BaseModel):
    """What an operator announces."""

    model_config = ConfigDict(extra="forbid", strict=True)
    text: str = Field("", description=f"One line of at most {LONGEST} characters.")
    drain: bool = Field(False, description="Refuse new sessions with it; those that run go on.")


_EXAMPLE = {"text": "New disks on Monday", "drain": True}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": Announcement.model_json_schema(),
                "example": _EXAMPLE,
            }
        },
    }
}


def router(settings: Settings, sessions: Sessions, access: Access) -> APIRouter:
    """The paths, to be put below the endpoint."""
    found = APIRouter(prefix="/announcements", tags=["operators"], responses=ERRORS)
    announcements = sessions.placement.announcements

    async def reader(request: Request) -> Identity:
        return await access.who(request, Scope.READ)

    async def operator(request: Request) -> Identity:
        who = await access.who(request, Scope.OPERATE)
        if access.on and who.operates:
            return who
        error = OperatorsOnly(
            "Only operators may announce something (auth.operators)."
            if access.on
            else "Without users nobody is an operator here; use the command hpcbridge announce."
        )
        access.refused_request("announce", request, who, error)
        raise error

    @found.get("", response_model=AnnouncementsReply)
    async def listing(who: Annotated[Identity, Depends(reader)]) -> AnnouncementsReply:
        """What is announced now; operators are told by whom."""
        await announcements.look()
        found = announced(announcements, operator=access.on and who.operates)
        return AnnouncementsReply(announcements=found)

    async def put(
        about: About,
        request: Request,
        who: Annotated[Identity, Depends(operator)],
        name: str = "",
    ) -> AnnouncementsReply:
        """Announce something, in the place of what was announced of the same before."""
        wanted = await _posted(request, settings.server.max_body)
        what = "drain" if wanted.drain else "announce"
        with access.recorded(what, request, who, about=about, name=name or None) as facts:
            checked(settings, about, name)
            text = text_of(wanted.text, drain=wanted.drain)
            facts["text"] = text
            by = who.user or ""
            await sessions.store.announcements.put(
                about, name, text=text, drain=wanted.drain, by=by
            )
        return await listing(who)

    async def remove(
        about: About,
        request: Request,
        who: Annotated[Identity, Depends(operator)],
        name: str = "",
    ) -> AnnouncementsReply:
        """Withdraw an announcement; what was drained takes new sessions again."""
        with access.recorded("withdraw", request, who, about=about, name=name or None):
            if not await sessions.store.announcements.remove(about, name):
                raise RequestError("Nothing is announced of this.")
        return await listing(who)

    for path in ("/{about}", "/{about}/{name}"):
        named: dict[str, Any] = {"response_model": AnnouncementsReply, "responses": NOT_FOUND}
        found.add_api_route(path, put, methods=["PUT"], openapi_extra=_BODY, **named)
        found.add_api_route(path, remove, methods=["DELETE"], **named)
    return found


async def _posted(request: Request, limit: int) -> Announcement:
    posted = await read_object(request, limit, example=json.dumps(_EXAMPLE))
    try:
        return Announcement.model_validate(posted)
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, wrong["loc"]))
        raise RequestError(f"{where}: {wrong['msg']}.") from error
