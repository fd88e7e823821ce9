"""Who makes the SSH connections that tunnels go through: the service itself, or ssh(1)."""

import asyncio
from pathlib import Path
from typing import Protocol

from hpcbridge.config.clusters import SSHSettings, TunnelSettings
from hpcbridge.transports.connection import Login, SSHHost
from hpcbridge.transports.line import Line
from hpcbridge.transports.openssh.folder import Folder
from hpcbridge.transports.openssh.host import OpenSSHHost


class Lines(Protocol):
    """The hosts of one cluster; ``login`` is the login host, where there is one."""

    @property
    def login(self) -> Line | None:
        """What tunnels to nodes go through."""
        ...

    def node(self, settings: SSHSettings, host: str, port: int, patience: float) -> Line:
        """A node, behind the login host. For ``patience`` seconds it may refuse a login."""
        ...

    async def close(self) -> None:
        """Close what is left, nodes excepted."""
        ...


class OwnLines:
    """By asyncssh, over the connection to the login host that commands have, too."""

    def __init__(self, login: SSHHost | None, to_nodes: Login | None) -> None:
        self.login = login
        self._to_nodes = to_nodes

    def node(self, settings: SSHSettings, host: str, port: int, patience: float) -> Line:
        """See :class:`Lines`."""
        to, through = self._to_nodes, self.login
        return SSHHost(settings, host=host, port=port, through=through, login=to, patience=patience)

    async def close(self) -> None:
        """See :class:`Lines`."""


class OpenSSHLines:
    """By ssh(1), with a connection to the login host beside the one for commands.

    ``adopted`` is the control socket of one that is there already.
    """

    def __init__(self, login: SSHSettings | None, adopted: Path | None) -> None:
        self._folder = Folder()
        self.login = OpenSSHHost(login, self._folder, adopted=adopted) if login else None

    def node(self, settings: SSHSettings, host: str, port: int, patience: float) -> Line:
        """See :class:`Lines`."""
        folder, through = self._folder, self.login
        return OpenSSHHost(
            settings, folder, host=host, port=port, through=through, patience=patience
        )

    async def close(self) -> None:
        """See :class:`Lines`."""
        if self.login is not None:
            await self.login.close()
        await asyncio.to_thread(self._folder.remove)


def lines_of(
    settings: TunnelSettings | None, login: SSHHost | None, to_nodes: Login | None
) -> Lines:
    """What the settings say."""
    if settings is not None and settings.backend == "openssh":
        return OpenSSHLines(login.settings if login else None, settings.control_path)
    return OwnLines(login, to_nodes)
