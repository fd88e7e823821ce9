"""A cluster at work: its scheduler, transport, watcher, log follower and tunnels, put together."""

from dataclasses import dataclass
from pathlib import Path

from hpcbridge.clustersettings import ClusterSettings, RemoteCluster
from hpcbridge.readiness import Follower
from hpcbridge.schedulers.base import Scheduler, Site
from hpcbridge.schedulers.kinds import kind_of
from hpcbridge.ssh import SSHHost
from hpcbridge.transports.base import Transport
from hpcbridge.transports.local import LocalTransport
from hpcbridge.transports.ssh import SSHTransport
from hpcbridge.tunnels import Tunnels
from hpcbridge.watcher import Watcher


@dataclass
class Cluster:
    """Everything that one cluster needs; made by :func:`build`."""

    name: str
    settings: ClusterSettings
    transport: Transport
    scheduler: Scheduler
    tunnels: Tunnels
    watcher: Watcher
    follower: Follower
    bind: str
    default_root: str | None = None
    login: SSHHost | None = None

    async def session_root(self) -> str:
        """The directory that holds session directories, absolute."""
        given = self.settings.session_root or self.default_root
        return given or f"{await self.transport.home()}/.hpcbridge"

    async def close(self) -> None:
        """Stop watching and let go of all connections; jobs go on."""
        await self.watcher.close()
        await self.follower.close()
        await self.tunnels.close()
        await self.scheduler.close()
        await self.transport.close()
        if self.login is not None:
            await self.login.close()


def bind_address(settings: ClusterSettings) -> str:
    """Where applications listen: loopback, unless they are reached from another host."""
    far = isinstance(settings, RemoteCluster) and settings.tunnel.via != "node"
    return "0.0.0.0" if far else "127.0.0.1"  # noqa: S104


def build(name: str, settings: ClusterSettings, state_dir: Path) -> Cluster:
    """Put a cluster together from its settings. Nothing is connected yet."""
    login: SSHHost | None = None
    transport: Transport = LocalTransport()
    directory, default_root = state_dir / "local" / name, None
    if isinstance(settings, RemoteCluster):
        if settings.ssh is not None:
            login = SSHHost(settings.ssh)
            transport = SSHTransport(login)
        tunnels = Tunnels(settings.tunnel, settings.ssh, login)
    else:
        default_root = str(directory / "sessions")
        tunnels = Tunnels(None, None, None)
    scheduler = kind_of(settings).scheduler(Site(name, settings, transport, directory))
    watcher = Watcher(scheduler)
    follower = Follower(transport, watcher.stir)
    return Cluster(
        name,
        settings,
        transport,
        scheduler,
        tunnels,
        watcher,
        follower,
        bind_address(settings),
        default_root,
        login,
    )
