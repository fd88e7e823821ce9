"""The user as the front end names them: believed from a known peer that also knows a secret."""

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable

from hpcbridge.config.auth import AuthSettings
from hpcbridge.errors import ConfigError, NotAuthenticated
from hpcbridge.files import private as privatefile
from hpcbridge.frontends.base import Headers

SHORTEST = 32
"""Characters of a shared secret."""


class FrontEnd:
    """What is known of the front end. ``trusted`` are its addresses and networks.

    Raises :class:`~hpcbridge.errors.ConfigError` where the file of its secret is not in order.
    """

    def __init__(self, settings: AuthSettings, trusted: Iterable[str]) -> None:
        self._user_header = settings.user_header.lower().encode()
        self._secret_header = settings.secret_header.lower().encode()
        self._networks = [ipaddress.ip_network(each, strict=False) for each in trusted]
        self._secret = _digest(_secret(settings))

    def user(self, headers: Headers, peer: str | None) -> str | None:
        """The user that a request names; None where it names none. Not checked as a name.

        ``peer`` is the address of the connection's other end, None for a unix socket. Raises
        :class:`~hpcbridge.errors.NotAuthenticated` for a name that is not the front end's word.
        """
        named = values(headers, self._user_header)
        if not any(each.strip() for each in named):
            return None  # Apache sets an empty header where nobody is logged in
        if not self._trusts(peer):
            raise NotAuthenticated(why="a user header from an address that is not trusted")
        secrets = values(headers, self._secret_header) or [b""]
        proved = hmac.compare_digest(_digest(secrets[0].strip()), self._secret)
        if not proved or len(secrets) != 1:
            raise NotAuthenticated(why="a user header without the front end's secret")
        if len(named) != 1:
            raise NotAuthenticated(why="two user headers")
        return named[0].decode("latin-1")

    def claimed(self, headers: Headers) -> str | None:
        """Whatever the request says, for the audit log."""
        found = values(headers, self._user_header)
        return b",".join(found).decode("latin-1") if found else None

    def _trusts(self, peer: str | None) -> bool:
        if peer is None:
            return True  # who may connect to a unix socket is decided by its mode
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._networks)


def values(headers: Headers, name: bytes) -> list[bytes]:
    """All values of a header."""
    return [value for key, value in headers if key.lower() == name]


def _secret(settings: AuthSettings) -> bytes:
    if settings.secret_file is None:
        raise ConfigError("auth.secret_file: required with accept = ['header'].")
    secret = privatefile.read(settings.secret_file, "auth.secret_file").strip()
    if len(secret) < SHORTEST or not all(0x21 <= byte <= 0x7E for byte in secret):
        raise ConfigError(
            f"auth.secret_file: {settings.secret_file} must hold one line of {SHORTEST} or more "
            "letters, digits and signs; make it with: openssl rand -hex 32"
        )
    return secret


def _digest(secret: bytes) -> bytes:
    """Of one length, so that comparing tells nothing of the secret's."""
    return hashlib.sha256(secret).digest()
