"""What stands between the API and its callers: who they are, what they may do, and the record."""

import contextlib
import os
import pwd
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeAlias

from starlette.requests import Request

from hpcbridge import requestid
from hpcbridge.auth.audit import AuditLog
from hpcbridge.auth.gate import Asking, Gate
from hpcbridge.auth.identity import How, Identity, Scope
from hpcbridge.config.batchsystems import LocalCluster
from hpcbridge.config.clusters import ClusterSettings, RemoteCluster
from hpcbridge.config.settings import Settings
from hpcbridge.errors import (
    AccountsUnknown,
    BridgeError,
    NotAuthenticated,
    OriginRefused,
    ScopeMissing,
    StoreError,
    TooManyFailures,
    UserRefused,
)
from hpcbridge.frontends.base import Headers
from hpcbridge.identity.users import shown
from hpcbridge.network.counts import Addresses
from hpcbridge.sessions.manager import Sessions
from hpcbridge.store import SessionRow
from hpcbridge.web.middleware import UNIX, Behind, origin_allowed

READS = frozenset({"GET", "HEAD"})
VISITS = frozenset({Scope.LAUNCH, Scope.READ})
"""One of these a token needs on the way to a session."""
Recognise: TypeAlias = Callable[[Asking], Awaitable[Identity | None]]


class Access:
    """Recognises callers, refuses what they may not do, and writes down what they did.

    Raises :class:`~hpcbridge.errors.ConfigError` where the front end's secret or the audit log
    cannot be used.
    """

    def __init__(self, settings: Settings, sessions: Sessions) -> None:
        auth = settings.auth
        #: Whether there are users.
        self.on = auth.on
        self._accepts_tokens = "token" in auth.accept
        self._server = settings.server
        self._behind = Behind(settings.server.trusted_proxies)
        self._clusters = settings.clusters
        self._sessions = sessions
        #: Recognises users.
        self.gate = Gate(settings, sessions.store)
        self._audit = AuditLog(auth.audit_file) if auth.on or auth.audit_file else None

    async def who(self, request: Request, scope: Scope) -> Identity:
        """Who sent the request, and may do this by it.

        Raises :class:`~hpcbridge.errors.RequestError` of several kinds (401, 403, 429), and
        :class:`~hpcbridge.errors.AccountsUnknown` or :class:`~hpcbridge.errors.StoreError` while
        it cannot be told.
        """
        return await self._let_in(request, scope, self.gate.identify)

    async def still(self, request: Request, scope: Scope) -> None:
        """Raises what :meth:`who` raises for somebody who was let in before and may not now.

        Whoever it cannot be told of for a moment goes on.
        """
        with contextlib.suppress(AccountsUnknown, StoreError):
            await self._let_in(request, scope, self.gate.still)

    async def _let_in(self, request: Request, scope: Scope, recognise: Recognise) -> Identity:
        asking, identity = _asking(request), None
        try:
            identity = await recognise(asking)
            self._check(request, identity, scope)
        except (NotAuthenticated, UserRefused, ScopeMissing, OriginRefused) as error:
            self.refused(f"{request.method} {scope}", asking, identity, error)
            raise
        assert identity is not None
        return identity

    def _check(self, request: Request, identity: Identity | None, scope: Scope) -> None:
        if identity is None:
            raise NotAuthenticated("Log in first, or send an API token.")
        if request.method not in READS:
            self._check_origin(request, identity)
        if scope not in identity.scopes:
            has = ", ".join(sorted(identity.scopes)) or "nothing"
            raise ScopeMissing(f"This token is not for '{scope}'; it is for: {has}.")

    def _check_origin(self, request: Request, identity: Identity) -> None:
        """A web page's request carries what the front end knows its client by, whatever page."""
        if not self._server.check_origin and identity.how != How.HEADER:
            return
        allowed = origin_allowed(request, self._server.cors_origins)
        if identity.how == How.HEADER and "origin" not in request.headers:
            # No page of our own sends so; see Fetch Metadata, W3C.
            allowed = request.headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        if not allowed:
            raise OriginRefused(
                "Pages of this site may not use the launcher. "
                "Its admins can allow them in server.cors_origins."
            )

    async def admits(
        self, session_id: str, headers: Headers, peer: str | None, *, again: bool = False
    ) -> bool:
        """Whether a client of the built-in front end may go on to a session.

        Browsers send no token with a WebSocket; where tokens are accepted, whoever says nothing
        needs the session's id and secret alone. It is asked ``again`` of one who is there: whoever
        it cannot be told of for a moment stays.
        """
        if not self.on:
            return True
        asking, identity = Asking(headers, peer, await self._behind.client(headers, peer)), None
        try:
            identity = await (self.gate.still if again else self.gate.identify)(asking)
            if identity is None:
                return self._accepts_tokens
            if not identity.scopes & VISITS:
                raise ScopeMissing(f"This token is for neither of: {', '.join(sorted(VISITS))}.")
            await self._sessions.get(session_id, identity)
        except BridgeError as error:
            if again and isinstance(error, AccountsUnknown | StoreError):
                return True
            self.refused("visit", asking, identity, error)
            return False
        return True

    @property
    def front_ends(self) -> Addresses:
        """The addresses from which many people come."""
        return self._behind.trusted

    async def behind(self, headers: Headers, peer: str | None, encrypted: bool) -> tuple[str, str]:
        """The client's address and ``http`` or ``https``, as a trusted front end tells them."""
        return await self._behind.request(headers, peer, "https" if encrypted else "http")

    def facts(self, row: SessionRow) -> dict[str, Any]:
        """Which session something was done to, for the record: whose, where, and as whom."""
        return {
            "session": row.job_name,  # the id would open it
            "owner": row.user,
            "application": row.application,
            "cluster": row.cluster,
            "warm": row.was_warm or None,
            "as": row.account or _account(self._clusters.get(row.cluster)),
        }

    @contextlib.contextmanager
    def recorded(
        self, what: str, request: Request, identity: Identity, **facts: Any
    ) -> Iterator[dict[str, Any]]:
        """Write down what is done inside, and what came of it. Facts may be added there."""
        try:
            yield facts
        except BridgeError as error:
            self._note(what, "refused", _asking(request), identity, **facts, why=str(error))
            raise
        self._note(what, "done", _asking(request), identity, **facts)

    def refused_request(
        self, what: str, request: Request, identity: Identity, error: BridgeError
    ) -> None:
        """The same of a request from somebody who is known."""
        self.refused(what, _asking(request), identity, error)

    def refused(
        self, what: str, asking: Asking, identity: Identity | None, error: BridgeError
    ) -> None:
        """Write down who was refused; not who said nothing, nor who was told to wait."""
        why = getattr(error, "why", str(error))
        if self.on and why and not isinstance(error, TooManyFailures):
            claimed = None if identity else self.gate.claimed(asking)
            name = shown(claimed) if claimed else None
            self._note(what, "refused", asking, identity, claimed=name, why=why)

    def _note(
        self, what: str, result: str, asking: Asking, identity: Identity | None, **facts: Any
    ) -> None:
        if self._audit is None:
            return
        found = {"user": identity.user, "how": identity.how} if identity else {}
        found |= {"token": identity.token} if identity else {}
        found |= {"request": requestid.current()}
        peer = asking.peer or UNIX
        found |= {"from": asking.client, "peer": peer if peer != asking.client else None}
        self._audit.write(what, result, found | facts)


def _asking(request: Request) -> Asking:
    peer = request.state.peer
    client = request.client.host if request.client else peer
    return Asking(request.headers.raw, None if peer == UNIX else peer, client)


def _account(cluster: ClusterSettings | None) -> str | None:
    """The account that a cluster's jobs belong to; None where only the ssh config knows it."""
    if isinstance(cluster, RemoteCluster) and cluster.ssh is not None:
        return cluster.ssh.user
    if isinstance(cluster, LocalCluster) and cluster.run_as:
        return cluster.run_as
    return pwd.getpwuid(os.geteuid()).pw_name if cluster else None
