"""A cluster at work: its scheduler, transport, watcher, log follower and tunnels, put together."""

import contextlib
import dataclasses
import os
import pwd
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcbridge.clusters.measured import measured
from hpcbridge.clusters.readiness import Follower
from hpcbridge.clusters.watcher import Watcher
from hpcbridge.config.clusters import ClusterSettings, RemoteCluster
from hpcbridge.config.hosts import HostsCluster
from hpcbridge.errors import ConfigError
from hpcbridge.identity import sudoers
from hpcbridge.identity.logins import Logins, logins_of
from hpcbridge.identity.names import AccountNames
from hpcbridge.identity.views import Views
from hpcbridge.instruments import Instruments
from hpcbridge.schedulers.base import Scheduler, Site
from hpcbridge.schedulers.kinds import kind_of
from hpcbridge.transports.account import account_named
from hpcbridge.transports.base import Transport
from hpcbridge.transports.connection import Login, SSHHost
from hpcbridge.transports.local import LocalTransport
from hpcbridge.transports.pipes import open_here, opener_on
from hpcbridge.transports.ssh import SSHTransport
from hpcbridge.transports.sudo import SudoTransport
from hpcbridge.tunnels import Tunnels


@dataclass
class Cluster:
    """Everything that one cluster needs; made by :func:`build`.

    Where users' jobs are their own, this is the cluster as the service's account has it, and
    :meth:`hold` gives it as a user has it; ``account`` tells whose view one is, and ``service`` is
    the service's account.
    """

    name: str
    settings: ClusterSettings
    transport: Transport
    scheduler: Scheduler
    tunnels: Tunnels
    watcher: Watcher
    follower: Follower
    default_root: str | None = None
    login: SSHHost | None = None
    #: Machines that the settings name, by their names: None is this one.
    machines: Mapping[str, SSHHost | None] = dataclasses.field(default_factory=dict)
    account: str | None = None
    service: str | None = None
    names: AccountNames | None = None
    views: "Views[Cluster] | None" = None
    #: What a view does not share with the others.
    own: list[Watcher | Tunnels] = dataclasses.field(default_factory=list)

    async def session_root(self) -> str:
        """The directory that holds session directories, absolute."""
        given = self.settings.session_root or self.default_root
        if given is None:
            return f"{await self.transport.home()}/.hpcbridge"
        return given.replace("{account}", self.account) if self.account else given

    async def account_of(self, user: str | None) -> str | None:
        """The account as which this user's sessions run; None is the service's own.

        Raises :class:`~hpcbridge.errors.AccountRefused` where that may be none.
        """
        return await self.names.account(user) if self.names else None

    def hold(self, account: str | None) -> "Cluster":
        """The cluster as ``account`` has it, until :meth:`release` is called with the same.

        None and "" are the service's own account.
        """
        if self.views is None or account in (None, "", self.service):
            return self
        return self.views.hold(str(account))

    def release(self, account: str | None) -> None:
        """One who has called :meth:`hold` needs the view no more."""
        if self.views is not None and account not in (None, "", self.service):
            self.views.release(str(account))

    @contextlib.contextmanager
    def held(self, account: str | None) -> Iterator["Cluster"]:
        """The same for as long as the ``with`` block lasts."""
        view = self.hold(account)
        try:
            yield view
        finally:
            self.release(account)

    async def close(self) -> None:
        """Stop watching and let go of all connections; jobs go on."""
        if self.views is not None:
            await self.views.close()
        own = (self.watcher, self.tunnels) if self.account is None else self.own
        for each in (*own, self.follower, self.scheduler, self.transport):
            await each.close()
        for host in (*self.machines.values(), self.login):
            if host is not None:
                await host.close()


def build(
    name: str,
    settings: ClusterSettings,
    state_dir: Path,
    instruments: Instruments | None = None,
) -> Cluster:
    """Put a cluster together from its settings. Nothing is connected yet.

    With ``instruments``, the requests to its scheduler are counted there.

    Raises :class:`~hpcbridge.errors.ConfigError` where a key file or a map file cannot be used.
    """
    place = _Place(name, settings, state_dir / "local" / name, instruments)
    if not isinstance(settings, RemoteCluster):
        root = str(place.directory / "sessions")
        tunnels = Tunnels(None, None, None)
        run_as = getattr(settings, "run_as", None)
        account = run_as and account_named(run_as, f"clusters.{name}.run_as")
        return _assemble(place, LocalTransport(account), tunnels, default_root=root)
    if not settings.identity.personal:
        login = SSHHost(settings.ssh) if settings.ssh else None
        return _of_service(place, settings, login)
    return _of_users(place, settings)


@dataclass(frozen=True)
class _Place:
    """What all views of a cluster have in common."""

    name: str
    settings: ClusterSettings
    directory: Path
    instruments: Instruments | None = None


def _assemble(
    place: _Place,
    transport: Transport,
    tunnels: Tunnels,
    *,
    accounts: Callable[[], Collection[str]] | None = None,
    watcher: Watcher | None = None,
    **more: Any,
) -> Cluster:
    account = more.get("account")
    machines = {
        name: SSHTransport(host) if host else LocalTransport()
        for name, host in more.get("machines", {}).items()
    }
    site = Site(place.name, place.settings, transport, place.directory, accounts, account, machines)
    scheduler = kind_of(place.settings).scheduler(site)
    if place.instruments is not None:
        scheduler = measured(scheduler, place.name, place.instruments)
    if watcher is None:
        watcher = Watcher(scheduler)
    else:
        scheduler.notify(watcher.wake)
    return Cluster(
        place.name,
        place.settings,
        transport,
        scheduler,
        tunnels,
        watcher,
        Follower(transport, watcher.wake),
        **more,
    )


def _of_service(
    place: _Place,
    settings: RemoteCluster,
    login: SSHHost | None,
    accounts: Callable[[], Collection[str]] | None = None,
) -> Cluster:
    transport = SSHTransport(login) if login else LocalTransport()
    machines = _machines(settings, login) if isinstance(settings, HostsCluster) else {}
    tunnels = Tunnels(settings.tunnel, settings.ssh, login, machines=machines)
    return _assemble(place, transport, tunnels, accounts=accounts, login=login, machines=machines)


def _machines(settings: HostsCluster, login: SSHHost | None) -> dict[str, SSHHost | None]:
    """The connections to the machines, which commands and tunnels share."""
    ways = {each.name: settings.login_to(each.name) for each in settings.hosts}
    port = settings.tunnel.node_port
    return {
        name: None if way is None else SSHHost(way, host=name, port=port, through=login)
        for name, way in ways.items()
    }


def _of_users(place: _Place, settings: RemoteCluster) -> Cluster:
    """The service's own cluster, with a view for each account."""
    identity, kind = settings.identity, kind_of(settings)
    shared = identity.listing == "service"
    if identity.mode == "sudo" and not kind.commands and kind.as_user is None:
        raise ConfigError(
            f"clusters.{place.name}.identity.mode: 'sudo' is not for scheduler = "
            f"'{settings.scheduler}': its adapter does not say which commands it runs."
        )
    if shared and not kind.lists_others:
        raise ConfigError(
            f"clusters.{place.name}.identity.listing: scheduler = '{settings.scheduler}' cannot "
            "list the jobs of other accounts; set it to 'user'."
        )
    logins = logins_of(place.name, identity, forwarding=settings.tunnel.via != "direct")
    views = Views(
        lambda account: _view(place, settings, logins, base, account), settings.tunnel.linger
    )
    login = SSHHost(settings.ssh, login=_service_login(settings, logins)) if settings.ssh else None
    ours = login.settings.user if login else pwd.getpwuid(os.geteuid()).pw_name
    # Sessions from a time when all were the service's own may still be there.
    accounts = (lambda: {str(ours), *views.accounts}) if shared else None
    base = _of_service(place, settings, login, accounts)
    base.names, base.views, base.service = AccountNames(place.name, identity, ours), views, ours
    return base


def _service_login(settings: RemoteCluster, logins: Logins | None) -> Login | None:
    """The CA lets the service's own account in as well, unless that has a key."""
    ssh = settings.ssh
    if ssh is None or logins is None or settings.identity.mode != "ssh-ca":
        return None
    if ssh.user is None or ssh.identity_files:
        return None
    return dataclasses.replace(logins.to_commands(ssh.user), least_uid=None)


def _view(
    place: _Place, settings: RemoteCluster, logins: Logins | None, base: Cluster, account: str
) -> Cluster:
    """The cluster as ``account`` has it."""
    if as_user := kind_of(settings).as_user:
        place = dataclasses.replace(place, settings=as_user(settings, account))
    shared = settings.identity.listing == "service"
    watcher = base.watcher if shared else None
    ssh, login = settings.ssh, None
    if ssh is not None:
        to_commands = logins.to_commands(account) if logins else None
        login = SSHHost(ssh, login=to_commands, beside=base.login)
    transport: Transport
    if logins is None:
        transport, tunnels = _by_sudo(settings, login, account), base.tunnels
    else:
        assert login is not None, "the settings see to that"
        transport = SSHTransport(login)
        totals = base.tunnels.totals
        tunnels = Tunnels(settings.tunnel, ssh, login, logins.to_nodes(account), totals=totals)
    view = _assemble(place, transport, tunnels, watcher=watcher, login=login, account=account)
    if logins is not None:
        view.own.append(tunnels)
    if not shared:
        view.own.append(view.watcher)
    return view


def _by_sudo(settings: RemoteCluster, host: SSHHost | None, account: str) -> Transport:
    return SudoTransport(
        account,
        SSHTransport(host) if host else LocalTransport(),
        opener_on(host) if host else open_here,
        helper=sudoers.helper_command(settings),
        commands_dir=settings.identity.commands_dir,
    )
