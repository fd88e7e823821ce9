"""Sessions of an SSH connection, of which sshd gives each connection few (MaxSessions): what is
opened is closed, a command that is given up is ended there, and a connection without room for
another session is replaced."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

import asyncssh

from hpcbridge.errors import ClusterUnreachable
from hpcbridge.transports.connection import SSHHost, uncut
from hpcbridge.transports.frame import Frame

FULL_PAUSE = 0.05
FULL_PAUSE_LIMIT = 1.0
"""Seconds between two attempts to open a session that was refused."""

FULL_LIMIT = 3.0
"""Seconds for which a connection may refuse every session while no command of ours runs on it."""

LATE = 2.0
"""Seconds by which a command may outlive its time there."""

T = TypeVar("T")
Process = asyncssh.SSHClientProcess[bytes]


class Sessions:
    """The sessions of one host's connections."""

    def __init__(self, host: SSHHost) -> None:
        self._host = host
        # Commands that will end, or be ended in time, by connection.
        self._running: dict[asyncssh.SSHClientConnection, int] = {}
        # Since when, in the loop's time, a connection has refused all that was asked of it.
        self._full_since: dict[asyncssh.SSHClientConnection, float] = {}

    @contextlib.asynccontextmanager
    async def command(self, argv: Sequence[str], limit: float) -> AsyncIterator[Process]:
        """A started command that waits for its frame's cue; where it has not ended, it is killed.

        Waits for room for another session, for at most ``limit`` seconds. Nothing has run when
        asyncssh.ChannelOpenError says that there was none.
        """
        connection, process = await self._begin(Frame.around(argv, limit + LATE), limit)
        self._running[connection] = self._running.get(connection, 0) + 1
        try:
            yield process
        finally:
            end(process)
            self._running[connection] -= 1
            if not self._running[connection]:
                del self._running[connection]

    async def start(self, argv: Sequence[str], limit: float) -> Process:
        """The same for a command that goes on; :func:`end` ends it."""
        return (await self._begin(Frame.before(argv), limit))[1]

    async def _begin(self, line: str, limit: float) -> tuple[asyncssh.SSHClientConnection, Process]:

        async def begin(connection: asyncssh.SSHClientConnection) -> Process:
            opening = connection.create_process(line, encoding=None, stdin=asyncssh.PIPE)
            return await uncut(opening, end)

        return await self._with_room(begin, limit)

    async def _with_room(
        self, begin: Callable[[asyncssh.SSHClientConnection], Awaitable[T]], limit: float
    ) -> tuple[asyncssh.SSHClientConnection, T]:
        """What ``begin`` opens, as soon as a connection has room for another session."""
        loop, pause = asyncio.get_running_loop(), FULL_PAUSE
        until = loop.time() + limit - FULL_PAUSE_LIMIT
        while True:
            connection = await self._host.connection()  # another one, if that was lost meanwhile
            try:
                opened = await begin(connection)
            except asyncssh.ChannelOpenError:
                last = loop.time() + pause > until
                if self._used_up(connection, last=last):
                    self._host.replace(connection)
                if last:
                    raise
                await asyncio.sleep(pause)
                pause = min(pause * 2, FULL_PAUSE_LIMIT)
            else:
                self._full_since.pop(connection, None)
                return connection, opened

    def _used_up(self, connection: asyncssh.SSHClientConnection, *, last: bool) -> bool:
        """Whether nothing that would end by itself keeps the room for another session.

        With ``last``, whoever waited for it has waited long enough to say so.
        """
        now = asyncio.get_running_loop().time()
        self._full_since = {k: v for k, v in self._full_since.items() if not k.is_closed()}
        since = self._full_since.setdefault(connection, now)
        return connection not in self._running and (last or now - since >= FULL_LIMIT)

    async def sftp(self, limit: float) -> tuple[asyncssh.SSHClientConnection, asyncssh.SFTPClient]:
        """A new SFTP client, and the connection it is on. Cancelled or failed, it leaves nothing.

        Waits for room as :meth:`command` does. Raises asyncssh.Error.
        """
        return await self._with_room(_start_sftp, limit)


async def _start_sftp(connection: asyncssh.SSHClientConnection) -> asyncssh.SFTPClient:
    opener = _Opener(connection)
    starting = asyncssh.SSHClientConnection.start_sftp_client(
        cast(asyncssh.SSHClientConnection, opener)
    )
    try:
        return await starting
    except BaseException:
        opener.close()
        raise


class _Opener:
    """A connection to whoever starts SFTP on it, who would leave the session open on failure."""

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        self._connection = connection
        self._channel: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def open_session(self, *arguments: Any, **options: Any) -> Any:
        opening = self._connection.open_session(*arguments, **options)
        opened = await uncut(opening, lambda late: _end(late[0].channel))
        self._channel = opened[0].channel
        return opened

    def close(self) -> None:
        if self._channel is not None:
            _end(self._channel)


def end(process: Process) -> None:
    """Close a command's session, and kill the command where it runs: sshd keeps the session until
    the command ends."""
    _end(process.channel, over=process.returncode is not None)


def _end(channel: Any, *, over: bool = False) -> None:
    if not over:
        with contextlib.suppress(OSError):  # closed already
            channel.kill()
    channel.close()


def full(host: SSHHost, what: str, error: asyncssh.ChannelOpenError) -> ClusterUnreachable:
    """The host has no room for another session, or does not want it."""
    return ClusterUnreachable(f"{host.name} refused to run {what}: {error.reason}.")
