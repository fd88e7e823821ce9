"""``ENDPOINT/announcements``: what operators announce, and what they drain, without a restart."""

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi import Path as PathParameter
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
from hpcbridge.web.responses import ERRORS


class AnnouncementsReply(BaseModel):
    """All that is announced, the newest first."""

    announcements: list[AnnouncementReply]


class Announcement(BaseModel):
    """What an operator announces."""

    model_config = ConfigDict(extra="forbid", strict=True)
    text: str = Field("", description=f"One line of at most {LONGEST} characters.")
    drain: bool = Field(False, description="Refuse new sessions with it; those that run go on.")


Kind = Annotated[Literal["application", "cluster"], PathParameter(description="What it is about.")]
Named = Annotated[
    str, PathParameter(max_length=64, description="The application's or cluster's name.")
]
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
    board = sessions.placement.announcements

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

    Operator = Annotated[Identity, Depends(operator)]

    async def announcements(who: Annotated[Identity, Depends(reader)]) -> AnnouncementsReply:
        """What is announced now; operators are told by whom."""
        await board.look()
        said = announced(board, operator=access.on and who.operates)
        return AnnouncementsReply(announcements=said)

    async def put(about: About, name: str, request: Request, who: Identity) -> AnnouncementsReply:
        wanted = await _posted(request, settings.server.max_body)
        what = "drain" if wanted.drain else "announce"
        with access.recorded(what, request, who, about=about, name=name or None) as facts:
            checked(settings, about, name)
            text = text_of(wanted.text, drain=wanted.drain)
            facts["text"] = text
            said: dict[str, Any] = {"text": text, "drain": wanted.drain, "by": who.user or ""}
            await sessions.store.announcements.put(about, name, **said)
        return await announcements(who)

    async def remove(
        about: About, name: str, request: Request, who: Identity
    ) -> AnnouncementsReply:
        with access.recorded("withdraw", request, who, about=about, name=name or None):
            if not await sessions.store.announcements.remove(about, name):
                raise RequestError("Nothing is announced of this.")
        return await announcements(who)

    async def announce_site(request: Request, who: Operator) -> AnnouncementsReply:
        """Announce something of the whole site, in the place of what was said of it before."""
        return await put(About.SITE, "", request, who)

    async def announce(
        about: Kind, name: Named, request: Request, who: Operator
    ) -> AnnouncementsReply:
        """Announce something of an application or a cluster, in the place of what was said."""
        return await put(About(about), name, request, who)

    async def withdraw_site(request: Request, who: Operator) -> AnnouncementsReply:
        """Withdraw what is announced of the site; if it was drained, it takes sessions again."""
        return await remove(About.SITE, "", request, who)

    async def withdraw(
        about: Kind, name: Named, request: Request, who: Operator
    ) -> AnnouncementsReply:
        """Withdraw an announcement; what was drained takes new sessions again."""
        return await remove(About(about), name, request, who)

    add = found.add_api_route
    told: dict[str, Any] = {
        "response_model": AnnouncementsReply,
        "response_description": "All that is announced by now.",
    }
    add("", announcements, methods=["GET"], **told)
    for path, put_, remove_ in (
        ("/site", announce_site, withdraw_site),
        ("/{about}/{name}", announce, withdraw),
    ):
        add(path, put_, methods=["PUT"], openapi_extra=_BODY, **told)
        add(path, remove_, methods=["DELETE"], **told)
    return found


async def _posted(request: Request, limit: int) -> Announcement:
    posted = await read_object(request, limit, example=json.dumps(_EXAMPLE))
    try:
        return Announcement.model_validate(posted)
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, wrong["loc"]))
        raise RequestError(f"{where}: {wrong['msg']}.") from error
