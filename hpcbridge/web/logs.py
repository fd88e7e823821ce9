"""``GET ENDPOINT/ID/log``: what a session's application prints, for its owner."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from hpcbridge.auth.identity import Identity, Scope
from hpcbridge.errors import SessionNotFound
from hpcbridge.sessions.logs import LogPart
from hpcbridge.sessions.manager import Sessions
from hpcbridge.states import State
from hpcbridge.web.access import Access
from hpcbridge.web.responses import ERRORS, NOT_FOUND, SessionId

LARGEST = 2**19
"""Bytes of one answer."""
_TEXT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The output from `offset` on, as it was printed. `X-Log-Next` tells where "
        "the next part begins, and `X-Log-Ended` whether nothing will be added.",
        "content": {"text/plain": {"schema": {"type": "string", "format": "binary"}}},
        "headers": {
            "X-Log-Next": {"schema": {"type": "integer"}},
            "X-Log-Ended": {"schema": {"type": "boolean"}},
        },
    }
}


def router(sessions: Sessions, access: Access) -> APIRouter:
    """The path, to be put below the endpoint."""
    found = APIRouter(tags=["launcher"], responses=ERRORS)

    async def who(request: Request) -> Identity:
        return await access.who(request, Scope.READ)

    @found.get("/{session_id}/log", responses={**NOT_FOUND, **_TEXT}, response_class=Response)
    async def log(
        session_id: SessionId,
        reader: Annotated[Identity, Depends(who)],
        offset: Annotated[int, Query(ge=0, le=2**40, description="First byte.")] = 0,
        limit: Annotated[int, Query(ge=1, le=LARGEST, description="Bytes at most.")] = LARGEST,
    ) -> Response:
        """What the application has printed; ask again from ``X-Log-Next`` on to follow it."""
        part = await _part(sessions, session_id, reader, offset, limit)
        headers = {"X-Log-Next": str(part.next), "X-Log-Ended": str(part.ended).lower()}
        return Response(part.data, media_type="text/plain", headers=headers)

    return found


async def _part(
    sessions: Sessions, session_id: str, who: Identity, offset: int, limit: int
) -> LogPart:
    row, logs = await sessions.get(session_id, who), sessions.logs
    if logs is not None:
        if row.state == State.ENDED and (part := await logs.kept(row, offset, limit)):
            return part
        if (session := sessions.session(session_id)) is not None:
            return await logs.live(session.cluster, row, offset, limit)
    raise SessionNotFound("The output of this session is not kept (any more).")
