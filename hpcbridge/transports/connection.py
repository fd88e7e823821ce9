"""One kept, multiplexed SSH connection a host; commands, files and tunnels share it.

The host key must be in ``known_hosts``; keys come from the files named in the settings, from
``ssh_config`` (:mod:`hpcbridge.transports.sshconfig`) or from the agent, as with ``ssh`` itself; or
a :class:`Login` says as whom, and with what.
"""

import asyncio
import contextlib
import logging
import shlex
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import asyncssh

from hpcbridge.config.clusters import SSHSettings
from hpcbridge.errors import ClusterUnreachable
from hpcbridge.transports.sshconfig import Entry
from hpcbridge.transports.sshdial import Dialler
from hpcbridge.transports.sshjump import jumps_of
from hpcbridge.transports.sshlogin import (
    Login,
    Patience,
    explained,
    look_up,
    options_of,
    personal,
)

__all__ = ["CUE", "Login", "SSHHost", "on_cue", "uncut"]

log = logging.getLogger(__name__)

# sshd's MaxStartups drops connections at random from the tenth unauthenticated one on.
CONNECTS_AT_ONCE = 8

RETIRED = 4
"""Connections beside the one in use that are kept for what still runs over them."""

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


class SSHHost:
    """A host that is connected to when first needed, and again after the connection was lost.

    ``through`` is the login host for a compute node (ProxyJump); ``beside`` is another connection
    to the same host. One connection attempt is shared by all who wait for it. For ``patience``
    seconds a refused login may be a host's that is not prepared yet.
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
        patience: float = 0.0,
    ) -> None:
        self.settings = settings
        self.name = host or settings.host
        self._port = port if host else settings.port
        self._through = through
        self._login = login
        self._patience = Patience(patience)
        #: How often it was connected to.
        self.connects = 0
        self._connection: asyncssh.SSHClientConnection | None = None
        self._retired: list[asyncssh.SSHClientConnection] = []
        self._connecting: asyncio.Task[asyncssh.SSHClientConnection] | None = None
        near = through or beside
        self._slots: asyncio.Semaphore = (
            near._slots if near else asyncio.Semaphore(CONNECTS_AT_ONCE)
        )
        self._dialler = Dialler()
        #: Names of the hosts that this one is a hop for, and whether it is one.
        self._hop_for: tuple[str, ...] = ()
        self._hops: list[SSHHost] = []
        self.home = ""

    async def connection(self) -> asyncssh.SSHClientConnection:
        """The live connection. Raises :class:`~hpcbridge.errors.ClusterUnreachable`."""
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect(), name=f"ssh {self.name}")
            self._connecting.add_done_callback(_retrieve)
        return await asyncio.shield(self._connecting)

    def replace(self, connection: asyncssh.SSHClientConnection) -> None:
        """Use another connection from now on. What runs over this one goes on."""
        if self._connection is not connection:
            return
        log.warning("the SSH connection to %s has no room: another one is made", self.name)
        self._connection = None
        self._retired = [each for each in self._retired if not each.is_closed()]
        self._retired.append(connection)
        for oldest in self._retired[:-RETIRED]:
            oldest.abort()

    async def _connect(self) -> asyncssh.SSHClientConnection:
        entry = await self._look_up()
        through = await self._tunnel(entry)
        tunnel = await through.connection() if through else None
        async with self._slots:
            try:
                options = options_of(self.settings, entry, tunnel)
                options |= await asyncio.to_thread(personal, self._login)
                connection = await self._log_in(entry, tunnel, options)
                try:
                    if not self._hop_for:
                        async with asyncio.timeout(self.settings.connect_timeout):
                            uid, self.home = await _first_command(connection)
                        self._check(uid)
                except BaseException:
                    connection.abort()
                    raise
            except Exception as error:
                raise ClusterUnreachable(
                    self._explain(error), lasting=self._patience.lasting(error)
                ) from error
        log.info("connected to %s by SSH", self.name)
        self._patience.renew()
        self.connects += 1
        self._connection = connection
        return connection

    async def _look_up(self) -> Entry:
        """What settings and ssh_config say of this host."""
        return await look_up(self.settings, self.name, self._port)

    async def _tunnel(self, entry: Entry) -> "SSHHost | None":
        """The host that this one is reached through: the login host, or the last hop."""
        if self._through is not None or not entry.hops:
            return self._through
        jumps = jumps_of(entry, self.settings, self.name, self._hop_for)
        for settings in jumps[len(self._hops) :]:
            through = SSHHost(settings, through=self._hops[-1] if self._hops else None)
            through._hop_for = (*self._hop_for, self.name)
            self._hops.append(through)
        return self._hops[-1] if jumps else None

    async def _log_in(
        self,
        entry: Entry,
        tunnel: asyncssh.SSHClientConnection | None,
        options: dict[str, Any],
    ) -> asyncssh.SSHClientConnection:
        host, limit = entry.host, self.settings.connect_timeout
        if tunnel is not None or entry.proxy_command is not None:
            async with asyncio.timeout(limit * 2):
                return await asyncssh.connect(host, **options)

        async def log_in(sock: socket.socket) -> asyncssh.SSHClientConnection:
            return await asyncssh.connect(host, sock=sock, **options)

        return await self._dialler.dial(
            host,
            options["port"],
            log_in,
            limit=limit,
            family=entry.family,
            local=entry.bind_address,
        )

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
        return explained(error, self.name, self._login, self.settings.connect_timeout)

    async def round_trip(self) -> float | None:
        """Seconds until the host has answered, over the connection that is up; None without one."""
        if self._connection is None:
            return None
        asked = time.monotonic()
        # The request by which OpenSSH, too, asks whether the other end is there.
        await self._connection._make_global_request(b"keepalive@openssh.com")
        return time.monotonic() - asked if self.connected else None

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
        for retired in self._retired:
            retired.abort()
        if self._connection is not None:
            self._connection.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await self._connection.wait_closed()
            self._connection.abort()
        for hop in reversed(self._hops):
            await hop.close()

    async def shown_key(self) -> asyncssh.SSHKey | None:
        """The key that the host shows now, whatever known_hosts has; None where it cannot be asked.

        For an admin to compare with; nothing is sent to it.
        """
        try:
            entry = await self._look_up()
            through = await self._tunnel(entry)
            tunnel = await through.connection() if through else None
            async with asyncio.timeout(self.settings.connect_timeout):
                return await asyncssh.get_server_host_key(
                    entry.host,
                    entry.port or asyncssh.DEFAULT_PORT,
                    tunnel=tunnel,
                    proxy_command=None if tunnel else entry.proxy_command,
                    config=None,
                )
        except (ClusterUnreachable, asyncssh.Error, OSError, TimeoutError):
            return None


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
