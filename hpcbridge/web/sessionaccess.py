"""Who may open a session at its own address, and what its application gets with their requests.

Browsers send nothing there that proves who their user is: they come with a ticket of the launcher
API in the address, once, and then with a cookie of that address alone.
"""

from dataclasses import replace
from urllib.parse import parse_qsl, urlencode

from hpcbridge.auth.gate import Asking
from hpcbridge.auth.identity import How, Identity, Scope
from hpcbridge.auth.tickets import Tickets
from hpcbridge.config.settings import Settings
from hpcbridge.errors import AccountsUnknown, BridgeError, ScopeMissing, StoreError
from hpcbridge.frontends.address import SessionAddresses
from hpcbridge.frontends.admission import (
    SESSION_COOKIES,
    TICKET,
    Admission,
    Redirect,
    Visit,
    admission,
)
from hpcbridge.sessions.manager import Sessions
from hpcbridge.store import SessionRow
from hpcbridge.web.access import VISITS, Access

_CREDENTIALS = (b"authorization",)
_BY_COOKIE = frozenset([Scope.READ, Scope.OPERATE])


class SessionAccess:
    """Admits to sessions at ``addresses``."""

    def __init__(
        self, settings: Settings, sessions: Sessions, access: Access, addresses: SessionAddresses
    ) -> None:
        self._websocket = settings.frontend.websocket_paths[0]
        self._addresses = addresses
        self._sessions = sessions
        self._access = access
        self._tickets = Tickets(sessions.store)

    async def enter(self, visit: Visit, *, again: bool = False) -> Admission | Redirect | None:
        """What a request becomes; None where its client may not have the session.

        Without users, whoever knows the session's address may. It is asked ``again`` of one who is
        there: whoever it cannot be told of for a moment stays.
        """
        client, scheme = await self._access.behind(visit.headers, visit.peer, visit.encrypted)
        asking, identity = Asking(visit.headers, visit.peer, client), None
        try:
            if not self._access.on:
                row = await self._sessions.get(visit.session_id)
            elif not again and (ticket := _ticket(visit)):
                return await self._redeemed(visit, ticket, scheme)
            else:
                identity = await self._identity(visit, asking, scheme, again=again)
                if identity is None:
                    return None
                if not identity.scopes & VISITS:
                    raise ScopeMissing(f"This token is for neither of: {', '.join(VISITS)}.")
                row = await self._sessions.get(visit.session_id, identity)
        except BridgeError as error:
            if again and isinstance(error, AccountsUnknown | StoreError):
                return Admission()
            self._access.refused("visit", asking, identity, error)
            return None
        application = self._sessions.application(row)
        return admission(
            application, row, visit, self._session_url(row, visit, scheme), scheme, client
        )

    def _session_url(self, row: SessionRow, visit: Visit, scheme: str) -> str:
        own = self._addresses.url(row.id, "wss" if scheme == "https" else "ws", visit.host)
        return f"{own}{self._websocket}"

    async def _identity(
        self, visit: Visit, asking: Asking, scheme: str, *, again: bool
    ) -> Identity | None:
        cookie, user = _cookie(visit, scheme), None
        if cookie and (row := await self._sessions.known(visit.session_id)):
            user = self._tickets.user(row, cookie)
            if user is None:
                await self._sessions.asked_in_vain(visit.session_id)
        gate = self._access.gate
        if user is not None:
            # The application's pages may send an Authorization of their own.
            said = [each for each in asking.headers if each[0] not in _CREDENTIALS]
            asking = replace(asking, headers=said)
        named = await (gate.still if again else gate.identify)(asking)
        if named is not None or user is None:
            return named
        await gate.users.check(user)
        return Identity(user, How.COOKIE, gate.users.is_operator(user), _BY_COOKIE)

    async def _redeemed(self, visit: Visit, ticket: str, scheme: str) -> Redirect | None:
        """To the same address without the ticket. One that is used up may have left a cookie."""
        row = await self._sessions.known(visit.session_id)
        user = await self._tickets.redeem(row, ticket) if row else None
        if user is None:
            await self._sessions.asked_in_vain(visit.session_id)
        path, _, query = visit.target.partition("?")
        left = [pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] != TICKET]
        # Not "//": that would be another host's name.
        location = f"{visit.prefix}/{path.lstrip('/')}{'?' if left else ''}{urlencode(left)}"
        if row is None or user is None:
            return Redirect(location, "") if _cookie(visit, scheme) else None
        value = self._tickets.cookie(row, user)
        secure = "; Secure" if scheme == "https" else ""
        name = _cookie_name(visit, scheme)
        kept = f"{name}={value}; Path={visit.prefix}/; HttpOnly; SameSite=Lax{secure}"
        return Redirect(location, kept)


def _ticket(visit: Visit) -> str | None:
    if visit.method != "GET":
        return None
    query = visit.target.partition("?")[2]
    return dict(parse_qsl(query)).get(TICKET) if TICKET in query else None


def _cookie_name(visit: Visit, scheme: str) -> str:
    """With the prefix that browsers let nobody else set, where they can."""
    return SESSION_COOKIES[1] if scheme == "https" and not visit.prefix else SESSION_COOKIES[0]


def _cookie(visit: Visit, scheme: str) -> str | None:
    wanted = _cookie_name(visit, scheme)
    for name, value in visit.headers:
        if name == b"cookie":
            for pair in value.decode("latin-1").split(";"):
                key, _, given = pair.strip().partition("=")
                if key == wanted and given.isascii():
                    return given
    return None
