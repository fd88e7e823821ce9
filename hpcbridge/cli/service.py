"""The service that a command speaks to, and the session that somebody means by the beginning of an
id."""

import re
from pathlib import Path
from typing import TypeAlias

from hpcbridge.cli import logins
from hpcbridge.client import Client, ClientError, NotFound, NotLoggedIn, Refused, Session
from hpcbridge.client.connection import TIMEOUT
from hpcbridge.errors import ConfigError

Where: TypeAlias = tuple[Path | None, Path | None]
"""The options ``--socket`` and ``--token-file``."""
WHOLE = 40
"""Characters of a whole id."""
_SEARCHED = 1000
"""Sessions of each kind among which the beginning of an id is looked for, the newest first."""


def opened(where: Where, *, timeout: float = TIMEOUT) -> Client:
    """A client for the login, or what the options say.

    Raises :class:`~hpcbridge.client.ClientError`.
    """
    socket, token_file = where
    if socket is not None:
        return Client(socket=socket.absolute(), token_file=token_file, timeout=timeout)
    try:
        login = logins.load()
    except ConfigError as error:
        raise ClientError(str(error)) from error
    if login is None:
        raise NotLoggedIn("You are not logged in.", 401)
    return Client(
        login.url,
        token=None if token_file else login.token,
        token_file=token_file,
        ca=login.ca,
        cleartext=login.cleartext,
        timeout=timeout,
    )


def whole_id(client: Client, begun: str, states: tuple[str, ...] = ("live", "ended")) -> str:
    """The id that begins so; of those of one's own sessions, or of all for operators.

    Raises :class:`~hpcbridge.client.ClientError` where there is none, or more than one.
    """
    if len(begun) >= WHOLE:
        return begun
    if not re.fullmatch(r"[0-9a-f]+", begun):
        raise NotFound(f"{begun!r} is no id: they are of the digits 0 to 9 and a to f.", 404)
    pages = [client.sessions(state, limit=_SEARCHED) for state in states]
    if all(page.user is None for page in pages):
        raise NotFound("This service knows no users, so it lists nothing: give the whole id.", 404)
    found = [each.id for page in pages for each in page.sessions if each.id.startswith(begun)]
    if not found:
        raise NotFound(f"There is no session whose id begins with {begun}.", 404)
    if len(set(found)) > 1:
        some = ", ".join(sorted(set(found))[:4])
        raise Refused(f"Several sessions begin with {begun}: {some}. Give more of the id.", 400)
    return found[0]


def short_ids(sessions: list[Session]) -> dict[str, str]:
    """So much of each id that it is no other one's here."""
    length = 8
    ids = {each.id for each in sessions}
    while len({each[:length] for each in ids}) < len(ids):
        length += 1
    return {each: each[:length] for each in ids}
