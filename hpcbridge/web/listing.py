"""Pages of the list of sessions: what a client may ask for, and the cursor to the next page."""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Query

from hpcbridge.auth.identity import How, Identity
from hpcbridge.database.listing import Which, place
from hpcbridge.errors import OperatorsOnly, RequestError
from hpcbridge.store import FIRST, Place, Selection, SessionRow

PAGE = 200
"""Sessions of a page, unless a client asks for another number."""
LARGEST_PAGE = 1000
NO_VISITOR = ""
"""Who launched nothing."""
_PLACE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ([a-z0-9-]{1,64})")
_PLAIN = r"^[^\x00-\x1f]*$"


def _name(description: str) -> Any:
    return Query(max_length=64, pattern=_PLAIN, description=description)


@dataclass(frozen=True)
class ListRequest:
    """What is asked for: the query of ``GET ENDPOINT``."""

    state: Annotated[
        Which, Query(description="Those that have not ended, those that have, or both.")
    ] = "live"
    application: Annotated[str | None, _name("Only those of this application.")] = None
    cluster: Annotated[str | None, _name("Only those of this cluster.")] = None
    owner: Annotated[str | None, _name("Only those of this user; others' for operators.")] = None
    limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="Sessions at most.")] = PAGE
    before: Annotated[
        str | None, Query(max_length=128, description="The `next` of the page before.")
    ] = None

    def selection(self, who: Identity) -> Selection:
        """What of it ``who`` may see.

        Raises :class:`~hpcbridge.errors.OperatorsOnly` for others' sessions.
        """
        owner, visitor = self.owner or None, None
        if who.how == How.NOBODY:
            visitor = who.visitor or NO_VISITOR
        elif not who.operates:
            if owner not in (None, who.user):
                raise OperatorsOnly("owner: only operators may list the sessions of others.")
            owner = who.user
        return Selection(self.state, owner, self.application or None, self.cluster or None, visitor)

    @property
    def place(self) -> Place:
        """Where the page begins. Raises :class:`~hpcbridge.errors.RequestError`."""
        return _read(self.before) if self.before else FIRST


def cursor(row: SessionRow) -> str:
    """What a client sends for the page behind this session. The session's id is not in it."""
    submitting_at, name = place(row)
    return base64.urlsafe_b64encode(f"{submitting_at!r} {name}".encode()).decode().rstrip("=")


def _read(text: str) -> Place:
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        found = _PLACE.fullmatch(base64.b64decode(padded, b"-_", validate=True).decode("ascii"))
    except (UnicodeError, binascii.Error, ValueError):
        found = None
    if found is None:
        raise RequestError("before: not a cursor; send the 'next' of the page before.")
    return Place(float(found[1]), found[2])
