"""As whom an SSH host is logged in to, with what, and how it is told that this failed."""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import asyncssh

from hpcbridge.config.clusters import SSHSettings
from hpcbridge.errors import BridgeError, ClusterUnreachable
from hpcbridge.transports.sshconfig import Entry, entry_of

# Measured: a third of the processor time of chacha20-poly1305, which asyncssh would choose.
CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"

LASTING = (asyncssh.HostKeyNotVerifiable, asyncssh.PermissionDenied, FileNotFoundError)
"""Errors that do not go away by themselves."""


class Patience:
    """Tells whether an error lasts. For ``seconds``, a refused login may be a host's that is not
    prepared yet."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._refused_since: float | None = None

    def lasting(self, error: Exception) -> bool:
        """Whether it will not go away by itself."""
        if isinstance(error, asyncssh.PermissionDenied) and self._seconds:
            now = time.monotonic()
            self._refused_since = self._refused_since or now
            return now - self._refused_since >= self._seconds
        if isinstance(error, asyncssh.ChannelOpenError):
            return error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED
        if isinstance(error, BridgeError):
            return not isinstance(error, ClusterUnreachable) or error.lasting
        return isinstance(error, LASTING)

    def renew(self) -> None:
        """The host has taken a login."""
        self._refused_since = None


@dataclass(frozen=True)
class Login:
    """An account and how it is logged in to, where the settings do not say that.

    ``keys`` makes asyncssh's ``client_keys``, anew for each connection, in a thread; it may raise
    :class:`~hpcbridge.errors.ConfigError`. ``cure`` is told where the host refuses. An account
    whose number is below ``least_uid`` is not used; None does not ask for it.
    """

    account: str
    keys: Callable[[], list[Any]]
    cure: str
    least_uid: int | None = None


async def look_up(settings: SSHSettings, name: str, port: int | None) -> Entry:
    """What settings and ssh_config say of a host.

    Raises :class:`~hpcbridge.errors.ClusterUnreachable` where a file cannot be used.
    """
    limit = settings.connect_timeout
    try:
        async with asyncio.timeout(limit):  # Match exec, a dead home
            return await asyncio.to_thread(entry_of, settings, name, port)
    except TimeoutError as error:
        raise ClusterUnreachable(
            f"The ssh_config for {name} was not read within {limit:g} s."
        ) from error
    except (BridgeError, OSError) as error:
        raise ClusterUnreachable(explained(error, name, None, limit), lasting=True) from error


def options_of(
    settings: SSHSettings, entry: Entry, tunnel: asyncssh.SSHClientConnection | None
) -> dict[str, Any]:
    """What :func:`asyncssh.connect` is told, beside the host."""
    options: dict[str, Any] = {
        "config": None,  # read already, by sshconfig.py
        "encryption_algs": CIPHERS,
        "connect_timeout": settings.connect_timeout,
        "login_timeout": settings.connect_timeout,
        "keepalive_interval": settings.keepalive_interval,
        "keepalive_count_max": settings.keepalive_count,
        "known_hosts": entry.known_hosts,
        "host_key_alias": entry.host_key_alias,
        "port": entry.port or asyncssh.DEFAULT_PORT,
        "proxy_command": None if tunnel else entry.proxy_command,
        "client_certs": entry.certificate_files,
    }
    if entry.identity_files:
        options["client_keys"] = entry.identity_files
        options["ignore_encrypted"] = not entry.named
    if entry.agent_keys is not None:
        options["agent_identities"] = entry.agent_keys
    if entry.agent != "":
        options["agent_path"] = entry.agent
    if entry.user is not None:
        options["username"] = entry.user
    if tunnel is not None:
        options["tunnel"] = tunnel
    return options


def personal(login: Login | None) -> dict[str, Any]:
    """What a login says instead of the settings and the agent. It may read files."""
    if login is None:
        return {}
    return {
        "username": login.account,
        "client_keys": login.keys(),
        "client_certs": (),
        "ignore_encrypted": False,
        "agent_identities": None,
        "agent_path": None,
        "preferred_auth": "publickey",
    }


def explained(error: Exception, host: str, login: Login | None, limit: float) -> str:
    """What went wrong in words an admin can act on; nothing of the key material is in it.

    ``limit`` is the time for an answer, in seconds.
    """
    where = f"The SSH host {host}"
    if isinstance(error, BridgeError):
        return str(error)
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return (
            f"{where} did not show a host key that known_hosts has for it; nothing was sent. "
            "If the host was re-installed, ask its admins for the new key and update the "
            "known_hosts file."
        )
    if isinstance(error, asyncssh.PermissionDenied):
        if login is not None:
            return f"{where} refused the login of '{login.account}': {login.cure}"
        return (
            f"{where} refused the login: check the user name, the key and the agent, and whether a "
            "certificate has expired or the host wants more than a key (a password, a second "
            "factor)."
        )
    if getattr(error, "code", None) == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
        return (
            f"{where} cannot be reached: sshd of the host before it does not allow forwarding to "
            "its port. Its admins must allow it (AllowTcpForwarding, PermitOpen)."
        )
    if isinstance(error, TimeoutError):
        return f"{where} did not answer within {limit:g} s."
    if isinstance(error, FileNotFoundError):
        return f"{where} cannot be used: {error.filename} is missing."
    detail = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    if isinstance(error, OSError) and error.errno and error.errno > 0:  # asyncio has own words
        detail = os.strerror(error.errno)
    return f"{where} cannot be reached: {detail or type(error).__name__}."
