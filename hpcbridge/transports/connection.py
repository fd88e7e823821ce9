"""One kept, multiplexed SSH connection a host; commands, files and tunnels share it.

The host key must be in ``known_hosts``; keys come from the files named in the settings, from
``ssh_config`` or from the agent, as with ``ssh`` itself (ssh_config(5)); or a :class:`Login` says
as whom, and with what.
"""

import asyncio
import contextlib
import logging
import os
import shlex
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncssh

from hpcbridge.config.clusters import SSHSettings
from hpcbridge.errors import BridgeError, ClusterUnreachable

log = logging.getLogger(__name__)

# Measured: a third of the processor time of chacha20-poly1305, which asyncssh would choose.
CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"

# sshd's MaxStartups drops connections at random from the tenth unauthenticated one on.
CONNECTS_AT_ONCE = 8


LASTING = (asyncssh.HostKeyNotVerifiable, asyncssh.PermissionDenied, FileNotFoundError)

NUDGE = 0.005
"""Seconds between two messages that say nothing, while a connection begins."""

CUE = b"\n"
"""What a command from :func:`on_cue` waits for on its standard input before it begins."""

T = TypeVar("T")
_late: set[asyncio.Future[Any]] = set()


async def uncut(opening: Awaitable[T], close: Callable[[T], object] = lambda _: None) -> T:
    """What ``opening`` brings. When who waits for it is cancelled, it goes on, and ``close`` gets
    what it brings.

    asyncssh leaves a channel open for ever when its opening is cancelled, and sshd (MaxSessions)
    has room for ten.
    """
    task = asyncio.ensure_future(opening)

    def late(_: object) -> None:
        _late.discard(task)
        if not task.cancelled() and task.exception() is None:
            close(task.result())

    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        _late.add(task)
        task.add_done_callback(late)
        raise


def on_cue(argv: Sequence[str]) -> str:
    """A command line, for whatever login shell, that begins when it has read ``CUE``.

    A command that is over before asyncssh has set its session up takes asyncssh's answer with it
    (an AttributeError in the middle of the opening, and the output is lost). So it waits for us.
    """
    return shlex.join(["/bin/sh", "-c", 'read -r _; exec "$@"', "hpcbridge", *argv])


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


class SSHHost:
    """A host that is connected to when first needed, and again after the connection was lost.

    ``through`` is the login host for a compute node (ProxyJump); ``beside`` is another connection
    to the same host. One connection attempt is shared by all who wait for it.
    """

    def __init__(
        self,
        settings: SSHSettings,
        *,
        host: str | None = None,
        port: int | None = None,
        through: "SSHHost | None" = None,
        login: Login | None = None,
        beside: "SSHHost | None" = None,
    ) -> None:
        self.settings = settings
        self.name = host or settings.host
        self._port = port if host else settings.port
        self._through = through
        self._login = login
        self._connection: asyncssh.SSHClientConnection | None = None
        self._connecting: asyncio.Task[asyncssh.SSHClientConnection] | None = None
        near = through or beside
        self._slots: asyncio.Semaphore = (
            near._slots if near else asyncio.Semaphore(CONNECTS_AT_ONCE)
        )
        self.home = ""

    async def connection(self) -> asyncssh.SSHClientConnection:
        """The live connection. Raises :class:`~hpcbridge.errors.ClusterUnreachable`."""
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect(), name=f"ssh {self.name}")
            self._connecting.add_done_callback(_retrieve)
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> asyncssh.SSHClientConnection:
        tunnel = await self._through.connection() if self._through else None
        async with self._slots:
            try:
                async with asyncio.timeout(self.settings.connect_timeout * 2):
                    options = self._options(tunnel) | await asyncio.to_thread(self._personal)
                    connection = await asyncssh.connect(self.name, **options)
                    try:
                        uid, self.home = await _first_command(connection)
                        self._check(uid)
                    except BaseException:
                        connection.abort()
                        raise
            except Exception as error:
                kept = isinstance(error, BridgeError) and not isinstance(error, ClusterUnreachable)
                lasting = isinstance(error, LASTING) or getattr(error, "lasting", kept)
                raise ClusterUnreachable(self._explain(error), lasting=lasting) from error
        log.info("connected to %s by SSH", self.name)
        self._connection = connection
        return connection

    def _options(self, tunnel: asyncssh.SSHClientConnection | None) -> dict[str, Any]:
        settings = self.settings
        options: dict[str, Any] = {
            "encryption_algs": CIPHERS,
            "connect_timeout": settings.connect_timeout,
            "login_timeout": settings.connect_timeout,
            "keepalive_interval": settings.keepalive_interval,
            "keepalive_count_max": settings.keepalive_count,
        }
        if settings.config is not None:
            options["config"] = [str(settings.config)]
        if settings.known_hosts is not None:
            options["known_hosts"] = str(settings.known_hosts)
        if settings.identity_files:
            options["client_keys"] = [str(path) for path in settings.identity_files]
        if settings.user is not None:
            options["username"] = settings.user
        if tunnel is not None:
            options["tunnel"] = tunnel
        if self._port is not None:
            options["port"] = self._port
        return options

    def _personal(self) -> dict[str, Any]:
        """What a login says instead of the settings and the agent."""
        if self._login is None:
            return {}
        return {
            "username": self._login.account,
            "client_keys": self._login.keys(),
            "agent_path": None,
            "preferred_auth": "publickey",
        }

    def _check(self, uid: int | None) -> None:
        login = self._login
        if login is None or login.least_uid is None:
            return
        if uid is None or uid < login.least_uid:
            raise ClusterUnreachable(
                f"The account '{login.account}' is not used: its number on {self.name} is "
                f"{'not known' if uid is None else uid}, and those below {login.least_uid} are "
                "the system's.",
                lasting=True,
            )

    def _explain(self, error: Exception) -> str:
        """What went wrong in words an admin can act on; nothing of the key material is in it."""
        where = f"The SSH host {self.name}"
        if isinstance(error, BridgeError):
            return str(error)
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            return (
                f"{where} did not show a host key that known_hosts has for it; nothing was sent. "
                "If the host was re-installed, ask its admins for the new key and update the "
                "known_hosts file."
            )
        if isinstance(error, asyncssh.PermissionDenied):
            if self._login is not None:
                return f"{where} refused the login of '{self._login.account}': {self._login.cure}"
            return f"{where} refused the login: check the user name, the key and the agent."
        if isinstance(error, TimeoutError):
            return f"{where} did not answer within {self.settings.connect_timeout:g} s."
        if isinstance(error, FileNotFoundError):
            return f"{where} cannot be used: {error.filename} is missing."
        detail = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        if isinstance(error, OSError) and error.errno and error.errno > 0:  # asyncio has own words
            detail = os.strerror(error.errno)
        return f"{where} cannot be reached: {detail or type(error).__name__}."

    @property
    def connected(self) -> bool:
        """Whether a connection is up now."""
        return self._connection is not None and not self._connection.is_closed()

    async def close(self) -> None:
        """Close the connection and all that runs over it."""
        if self._connecting is not None:
            self._connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError, ClusterUnreachable):
                await self._connecting
        if self._connection is not None:
            self._connection.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await self._connection.wait_closed()
            self._connection.abort()


async def _first_command(connection: asyncssh.SSHClientConnection) -> tuple[int | None, str]:
    """Ask for the account's number and home, and so make sshd set TCP_NODELAY on its side.

    sshd leaves Nagle's algorithm on until a session channel starts: a connection that carries only
    forwards delays small messages by 40 ms. The answer stands between two marks, since a site's
    shell start-up files may print.
    """
    command = on_cue(["/bin/sh", "-c", 'printf \'<<%s:%s>>\' "$(id -u)" "$HOME"'])
    nudging = asyncio.create_task(_nudge(connection), name="nudge")
    try:
        result = await connection.run(command, encoding=None, input=CUE)
    finally:
        nudging.cancel()
    out = result.stdout if isinstance(result.stdout, bytes) else b""
    answer = out.rpartition(b"<<")[2].partition(b">>")[0]
    uid, _, home = answer.partition(b":")
    return int(uid) if uid.isdigit() else None, home.decode("utf-8", "surrogateescape")


async def _nudge(connection: asyncssh.SSHClientConnection) -> None:
    """Send a little something every few milliseconds.

    Until the first command runs, Nagle's algorithm has sshd hold its answer back until its last
    message is acknowledged, and the system at this end does that only after 40 ms if there is
    nothing to send along. Measured: 100 ms for a login become 60.
    """
    while True:
        await asyncio.sleep(NUDGE)
        connection.send_debug("")


def _retrieve(task: "asyncio.Task[asyncssh.SSHClientConnection]") -> None:
    """Mark the error as seen: whoever waited has it, and maybe nobody waits any more."""
    if not task.cancelled():
        task.exception()
