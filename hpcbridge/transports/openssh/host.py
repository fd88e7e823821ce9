"""A host that is reached through a master of ssh(1): for tunnels only.

It has the contract of :class:`hpcbridge.transports.connection.SSHHost`, as far as tunnels need it:
one kept connection, shared, made again after it was lost, with the same words for the same faults.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import asyncssh

from hpcbridge.config.clusters import SSHSettings
from hpcbridge.errors import BridgeError, ClusterUnreachable
from hpcbridge.files.directories import others_above
from hpcbridge.transports.connection import CONNECTS_AT_ONCE
from hpcbridge.transports.openssh import options
from hpcbridge.transports.openssh.folder import Folder, discard
from hpcbridge.transports.openssh.master import MasterConnection
from hpcbridge.transports.openssh.mux import Control
from hpcbridge.transports.openssh.process import Process
from hpcbridge.transports.openssh.words import failure
from hpcbridge.transports.sshconfig import Entry
from hpcbridge.transports.sshjump import jumps_of
from hpcbridge.transports.sshlogin import Patience, explained, look_up

log = logging.getLogger(__name__)

LOOK = 0.01
"""Seconds between two looks for the socket of a master that is logging in."""


class OpenSSHHost:
    """A host that is connected to when first needed, and again after the connection was lost.

    ``through`` is the login host for a compute node. ``adopted`` is the control socket of a master
    that somebody else has opened and will end.
    """

    def __init__(
        self,
        settings: SSHSettings,
        folder: Folder,
        *,
        host: str | None = None,
        port: int | None = None,
        through: "OpenSSHHost | None" = None,
        adopted: Path | None = None,
        patience: float = 0.0,
    ) -> None:
        self.settings = settings
        self.name = host or settings.host
        #: How often it was connected to.
        self.connects = 0
        self._port = port if host else settings.port
        self._folder = folder
        self._through = through
        self._adopted = adopted
        self._patience = Patience(patience)
        self._connection: MasterConnection | None = None
        self._connecting: asyncio.Task[MasterConnection] | None = None
        self._slots: asyncio.Semaphore = (
            through._slots if through else asyncio.Semaphore(CONNECTS_AT_ONCE)
        )
        self._hop_for: tuple[str, ...] = ()
        self._hops: list[OpenSSHHost] = []

    async def connection(self) -> MasterConnection:
        """The live connection. Raises :class:`~hpcbridge.errors.ClusterUnreachable`."""
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect(), name=f"ssh {self.name}")
            self._connecting.add_done_callback(_retrieve)
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> MasterConnection:
        try:
            made = await (self._adopt(self._adopted) if self._adopted else self._log_in())
        except (BridgeError, asyncssh.Error, OSError, TimeoutError) as error:
            told = explained(error, self.name, None, self.settings.connect_timeout)
            raise ClusterUnreachable(told, lasting=self._patience.lasting(error)) from error
        log.info("connected to %s by OpenSSH", self.name)
        self._patience.renew()
        self.connects += 1
        self._connection = made
        made.begin()
        return made

    async def _log_in(self) -> MasterConnection:
        entry = await look_up(self.settings, self.name, self._port)
        through = self._before(entry)
        before = await through.connection() if through else None
        async with self._slots:
            control = await asyncio.to_thread(self._folder.name)
            config = control.with_suffix(".conf")
            ssh = await asyncio.to_thread(self._write, entry, control, config, before)
            seen = before.lines.count if before else 0
            process = await Process.start(ssh, config)
            try:
                async with asyncio.timeout(self.settings.connect_timeout * 2):
                    watch = await _answering(process, control)
                    if watch is not None:
                        return MasterConnection(control, watch, process)
                    status = await process.ended()
            except BaseException:
                await process.end()
                raise
            finally:
                if process.gone:
                    discard(control)
        said = process.lines.since(0)
        raise failure(status, said, before.lines.since(seen) if before else ())

    def _write(
        self, entry: Entry, control: Path, config: Path, before: MasterConnection | None
    ) -> str:
        """Write the files of a master; returns the path of ssh."""
        ssh = shutil.which("ssh")
        if ssh is None:
            raise FileNotFoundError(2, os.strerror(2), "ssh (openssh-client)")
        port = entry.port or asyncssh.DEFAULT_PORT
        jump = None
        if before is not None:
            through = control.with_suffix(".jump")
            _private(through, options.jumping(before.control))
            jump = options.jump_command(ssh, through, entry.host, port)
        _private(config, options.master(self.settings, entry, control, jump, port))
        return ssh

    def _before(self, entry: Entry) -> "OpenSSHHost | None":
        """The host that this one is reached through: the login host, or the last hop."""
        if self._through is not None or not entry.hops:
            return self._through
        jumps = jumps_of(entry, self.settings, self.name, self._hop_for)
        for settings in jumps[len(self._hops) :]:
            near = self._hops[-1] if self._hops else None
            hop = OpenSSHHost(settings, self._folder, through=near)
            hop._hop_for = (*self._hop_for, self.name)
            self._hops.append(hop)
        return self._hops[-1] if jumps else None

    async def _adopt(self, path: Path) -> MasterConnection:
        await asyncio.to_thread(_ours, path, self.name)
        try:
            async with asyncio.timeout(self.settings.connect_timeout):
                watch = await _watching(path)
        except (OSError, TimeoutError) as error:
            raise ClusterUnreachable(_nobody(path, self.name)) from error
        return MasterConnection(path, watch, None)

    async def round_trip(self) -> float | None:
        """Seconds until the host has answered, over the connection that is up; None without one,
        and where the host runs no command for us."""
        return await self._connection.round_trip() if self._connection else None

    @property
    def connected(self) -> bool:
        """Whether a connection is up now."""
        return self._connection is not None and not self._connection.is_closed()

    async def close(self) -> None:
        """Close the connection and all that runs over it; an adopted master goes on."""
        if self._connecting is not None:
            self._connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError, ClusterUnreachable):
                await self._connecting
        if self._connection is not None:
            await self._connection.close()
        for hop in reversed(self._hops):
            await hop.close()


async def _answering(process: Process, control: Path) -> Control | None:
    """A connection to a new master, as soon as it has logged in; None where it ends before."""
    while not await process.over(LOOK):
        with contextlib.suppress(OSError):
            return await _watching(control)
    return None


async def _watching(control: Path) -> Control:
    """A connection to a master that has answered. Raises OSError."""
    watch = await Control.open(str(control))
    try:
        await watch.alive()
    except BaseException:
        watch.close()
        raise
    return watch


def _private(path: Path, text: str) -> None:
    path.touch(0o600, exist_ok=False)
    path.write_text(text)


def _ours(path: Path, name: str) -> None:
    """Raises :class:`~hpcbridge.errors.ClusterUnreachable` for a control socket of others."""
    try:
        status = path.stat()
    except OSError as error:
        raise ClusterUnreachable(_nobody(path, name)) from error
    wrong = f"belongs to uid {status.st_uid}" if status.st_uid not in (0, os.geteuid()) else ""
    if not stat.S_ISSOCK(status.st_mode):
        wrong = "is no socket"
    elif above := others_above(path):
        wrong = f"could be replaced by others: they can write to {above}"
    if wrong:
        raise ClusterUnreachable(f"tunnel.control_path: {path} {wrong}.", lasting=True)


def _nobody(path: Path, name: str) -> str:
    return (
        f"No ssh to {name} can be used at {path}: an admin has to log in, as this service's "
        f"account, with: ssh -fNM -S {path} {name}"
    )


def _retrieve(task: "asyncio.Task[Any]") -> None:
    """Mark the error as seen: whoever waited has it, and maybe nobody waits any more."""
    if not task.cancelled():
        task.exception()
