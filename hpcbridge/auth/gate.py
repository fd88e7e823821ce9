"""From a request's headers to who asks."""

from dataclasses import dataclass, replace

from hpcbridge.auth.failures import Failures, place
from hpcbridge.auth.headers import FrontEnd, values
from hpcbridge.auth.identity import ANYBODY, How, Identity, Scope
from hpcbridge.auth.tokens import Tokens, id_of
from hpcbridge.auth.visitors import visitor
from hpcbridge.config.settings import Settings
from hpcbridge.errors import NotAuthenticated, TooManyFailures, UserRefused
from hpcbridge.frontends.base import Headers
from hpcbridge.identity.users import Users
from hpcbridge.store import Store


@dataclass(frozen=True)
class Asking:
    """What a request brings. ``peer`` is the connection's other end, None for a unix socket;
    ``client`` the address that the front end says is behind it, or the peer's."""

    headers: Headers
    peer: str | None
    client: str

    @property
    def bearer(self) -> str | None:
        """The token of ``Authorization: Bearer`` (RFC 6750); None without one."""
        found = values(self.headers, b"authorization")
        schemes = [each.decode("latin-1").partition(" ") for each in found]
        tokens = [token.strip() for scheme, _, token in schemes if scheme.lower() == "bearer"]
        if len(tokens) > 1:
            raise NotAuthenticated(why="two tokens")
        return tokens[0] if tokens else None


class Gate:
    """Recognises users, and slows those down who guess.

    Raises :class:`~hpcbridge.errors.ConfigError` where the front end's secret is not in order.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        auth = settings.auth
        self.users = Users(auth)
        self._on = auth.on
        header = "header" in auth.accept
        self._front_end = FrontEnd(auth, settings.server.trusted_proxies) if header else None
        self._tokens = Tokens(store) if "token" in auth.accept else None
        self._failures = Failures(auth.failures)

    async def identify(self, asking: Asking) -> Identity | None:
        """Who asks; None for somebody who does not say.

        Raises :class:`~hpcbridge.errors.NotAuthenticated` and
        :class:`~hpcbridge.errors.UserRefused` for what is not believed or allowed,
        :class:`~hpcbridge.errors.TooManyFailures` after too many of these, and
        :class:`~hpcbridge.errors.AccountsUnknown` or :class:`~hpcbridge.errors.StoreError` while
        it cannot be told.
        """
        if not self._on:
            return _anybody(asking)
        keys = [f"address {place(asking.client)}"]
        try:
            return await self._recognise(asking, keys)
        except (NotAuthenticated, UserRefused) as error:
            if wait := max(map(self._failures.wait, keys)):
                raise TooManyFailures(wait) from error
            for key in keys:
                self._failures.add(key)
            raise

    async def still(self, asking: Asking) -> Identity | None:
        """Who asks, of one who was let in with the same words before.

        As :meth:`identify`, but nothing counts as a guess, and others' guesses are in nobody's way.
        """
        return await self._recognise(asking, None) if self._on else _anybody(asking)

    async def _recognise(self, asking: Asking, keys: list[str] | None) -> Identity | None:
        """``keys`` gets what else a failure counts for; None where none does."""
        user = self._front_end.user(asking.headers, asking.peer) if self._front_end else None
        bearer = asking.bearer if self._tokens else None
        if user is not None:
            if bearer is not None and id_of(bearer):
                raise NotAuthenticated(why="a user header and a token")
            await self.users.check(user)
            return Identity(user, How.HEADER, self.users.is_operator(user))
        if self._tokens is None or bearer is None:
            return None
        # Before the database is asked. Right ones wait as well, but only from this address.
        if keys and (wait := self._failures.wait(keys[0])):
            raise TooManyFailures(wait)
        if keys and (token_id := id_of(bearer)):
            keys.append(f"token {token_id}")
        row = await self._tokens.check(bearer)
        # Others were asked for at the same time: a guess among many learns no more than one alone.
        if keys and (wait := self._failures.wait(keys[0])):
            raise TooManyFailures(wait)
        await self.users.check(row.user)
        scopes = frozenset(each for each in Scope if each in row.scopes)
        operator = self.users.is_operator(row.user)
        return Identity(row.user, How.TOKEN, operator, scopes, row.id)

    def claimed(self, asking: Asking) -> str | None:
        """Who a refused request says it is, as it was written."""
        if self._front_end and (claimed := self._front_end.claimed(asking.headers)):
            return claimed
        found = b" ".join(values(asking.headers, b"authorization")).decode("latin-1")
        token_id = id_of(found.rpartition(" ")[2])
        return f"token {token_id}" if token_id else None


def _anybody(asking: Asking) -> Identity:
    return replace(ANYBODY, visitor=visitor(asking.headers))
