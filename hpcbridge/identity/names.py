"""From a user's name, as the front end or a token tells it, to an account of the cluster.

Whatever is configured, an account's name is plain ASCII, short, and cannot be taken for an option
or a path; and root and the system's accounts are refused.
"""

import asyncio
import os
import pwd
import re
import threading
from pathlib import Path

from hpcbridge.config.identity import IdentitySettings
from hpcbridge.errors import AccountRefused, AccountsUnknown, ConfigError
from hpcbridge.files.directories import closed_to_others
from hpcbridge.identity.users import LOOK_UP_TIME, SYSTEM, shown

# No pattern of an admin can allow more.
SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
MAP_LIMIT = 2**22
"""Bytes that a map file may have."""


class AccountNames:
    """The rule of one cluster. A map file is read again when it has changed."""

    def __init__(
        self, cluster: str, settings: IdentitySettings, service: str | None = None
    ) -> None:
        """``service`` is this service's own account, which is nobody's.

        Raises :class:`~hpcbridge.errors.ConfigError` where the map file cannot be used."""
        self._cluster = cluster
        self._settings = settings
        self._service = service
        self._map: dict[str, str] = {}
        self._read_at: tuple[int, int, int] | None = None
        self._reading = threading.Lock()
        self._refresh()

    async def account(self, user: str | None) -> str:
        """The account of ``user``.

        Raises :class:`~hpcbridge.errors.AccountRefused`, and
        :class:`~hpcbridge.errors.AccountsUnknown` while it cannot be told.
        """
        if not user:
            raise AccountRefused(
                f"Sessions on {self._cluster} run as who asks for them, and this request does not "
                "tell who that is. Log in."
            )
        try:
            async with asyncio.timeout(LOOK_UP_TIME):
                return await asyncio.to_thread(self._account, user)
        except (TimeoutError, OSError) as error:
            raise AccountsUnknown("This host's accounts cannot be looked up. Try again.") from error

    def _account(self, user: str) -> str:
        account = self._mapped(user)
        allowed = re.fullmatch(self._settings.pattern, account, re.ASCII)
        if not SAFE.fullmatch(account) or not allowed:
            raise AccountRefused(
                f"The user '{shown(user)}' cannot have an account on {self._cluster}: its name "
                f"would have to match {self._settings.pattern}."
            )
        if account == self._service or account in SYSTEM or self._is_system(account):
            raise AccountRefused(
                f"The account '{account}' is the system's own; sessions do not run as it."
            )
        return account

    def _mapped(self, user: str) -> str:
        if self._settings.map_file is None:
            return user
        self._refresh()
        account = self._map.get(user)
        if account is None:
            raise AccountRefused(f"The user '{shown(user)}' has no account on {self._cluster}.")
        return account

    def _is_system(self, account: str) -> bool:
        """By its number, where this machine knows it; the cluster's is looked at on login."""
        try:
            return pwd.getpwnam(account).pw_uid < self._settings.least_uid
        except KeyError:
            return False

    def _refresh(self) -> None:
        path = self._settings.map_file
        if path is None:
            return
        what = f"clusters.{self._cluster}.identity.map_file:"
        try:
            status = path.stat()
        except OSError as error:
            raise ConfigError(f"{what} {path} cannot be read: {error.strerror}.") from error
        version = (status.st_ino, status.st_mtime_ns, status.st_size)
        with self._reading:
            if version != self._read_at:
                self._map = parse_map(_trusted(path, what), f"{what} {path}")
                self._read_at = version


def parse_map(content: bytes, where: str) -> dict[str, str]:
    """Lines ``user account``; empty lines and lines that begin with ``#`` say nothing."""
    found: dict[str, str] = {}
    text = content.decode("utf-8", "replace")
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or "\ufffd" in line:
            raise ConfigError(f"{where}, line {number}: not 'user account'.")
        if words[0] in found:
            raise ConfigError(f"{where}, line {number}: '{words[0]}' has a line already.")
        found[words[0]] = words[1]
    return found


def _trusted(path: Path, what: str) -> bytes:
    """The content of a file that nobody but this service's account and root can write."""
    closed_to_others(what.rstrip(":"), path)
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
            raise ConfigError(
                f"{what} {path} can be changed by others than this service's account and root. "
                "chown and chmod 644 it: whoever can write it can be anybody."
            )
        return file.read(MAP_LIMIT)
