"""Tunnels: from a local end on this host to the application's port on a node.

The local end is this service's own listener; each connection to it is dialled anew through the
SSH connection of that moment. So the local end outlives the SSH connection, and all traffic is
counted where it passes.
"""

import asyncio
import contextlib
import ipaddress
import logging
import random
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncssh

from hpcbridge.config.clusters import SSHSettings, TunnelSettings
from hpcbridge.config.hosts import HERE
from hpcbridge.errors import BridgeError, ClusterUnreachable, NotServing, RouteError, TunnelError
from hpcbridge.network.addresses import Address, ListenError
from hpcbridge.network.httpprobe import status_of
from hpcbridge.network.relay import Relay, Serve
from hpcbridge.network.splice import ConnectError, Traffic
from hpcbridge.network.stream import Stream
from hpcbridge.transports.connection import Login, SSHHost, uncut
from hpcbridge.transports.line import Connection, Line, Meter
from hpcbridge.transports.lines import lines_of
from hpcbridge.transports.sshdial import NEXT

log = logging.getLogger(__name__)

PROBE_TIME = 10.0
"""Seconds for which an application may refuse connections after its ready line."""

RECONNECT = 0.5
"""Seconds before the second attempt to connect again to a node in use; then doubled."""
RECONNECT_LIMIT = 30.0

MEASURE = 5.0
"""Seconds between two measurements of how long an SSH host takes to answer."""

LOGIN_PATIENCE = 30.0
"""Seconds for which a node may refuse a login: it learns of a job a little after the queue does
(pam_slurm_adopt)."""

ATTEMPT = 30.0
"""Seconds for which one HTTP request that asks whether the application is ready is waited for."""

ProtocolFactory = Callable[[], Any]
Dial = Callable[[ProtocolFactory], Awaitable[object]]


@dataclass(frozen=True)
class Probe:
    """How the application shows that it can be used: it accepts a connection, and with ``path`` it
    answers GET with a status below 500.

    ``patience`` is for how many seconds it may not; None where it has said that it is ready.
    """

    patience: float | None = None
    path: str | None = None


ACCEPTS = Probe()


@dataclass
class Totals:
    """What became of all tunnels of a cluster since the service began.

    ``reconnects`` tells how often a lost SSH connection in use was made again, ``open`` how many
    tunnels there are now.
    """

    traffic: Traffic = field(default_factory=Traffic)
    reconnects: int = 0
    open: int = 0


@dataclass(frozen=True)
class Figures:
    """What passed through a tunnel, and what its SSH connection is like.

    ``bytes_in`` went to the application, ``bytes_out`` came from it. ``round_trip`` is the seconds
    that the SSH host needs to answer; None where there is none, or not known yet. ``reconnects``
    tells how often the connection was made again since the tunnel was opened.
    """

    bytes_in: int
    bytes_out: int
    connections: int
    round_trip: float | None
    reconnects: int


class Tunnel:
    """An open tunnel; ``address`` is its local end."""

    def __init__(
        self, relay: Relay, release: Callable[[], None], line: Line | None, meter: Meter | None
    ) -> None:
        self._relay = relay
        self._release = release
        self._line = line
        self._meter = meter
        self._connects = line.connects if line else 0

    @property
    def address(self) -> Address:
        """Where the front end connects."""
        return self._relay.address

    @property
    def traffic(self) -> Traffic:
        """Bytes and connections so far."""
        return self._relay.traffic

    @property
    def state(self) -> str:
        """``open``, or ``reconnecting`` while the SSH connection it goes through is down."""
        return "open" if self._line is None or self._line.connected else "reconnecting"

    @property
    def figures(self) -> Figures:
        """What tells a slow network from slow rendering."""
        traffic = self._relay.traffic
        return Figures(
            bytes_in=traffic.bytes_in,
            bytes_out=traffic.bytes_out,
            connections=traffic.connections,
            round_trip=self._meter.seconds if self._meter else None,
            reconnects=max(0, self._line.connects - self._connects) if self._line else 0,
        )

    def cut(self) -> None:
        """Drop all connections through it; new ones may be made at once."""
        self._relay.cut()

    async def close(self) -> None:
        """Close the local end and all connections through it."""
        await self._relay.close()
        self._release()


class Tunnels:
    """Opens the tunnels of one cluster.

    ``login`` is the login host's connection, or None where this machine is on the cluster.
    ``settings`` None means that jobs run on this machine. ``to_nodes`` says as whom nodes are
    logged in to, where that is not for the SSH settings to say. ``machines`` are the only nodes
    where they are given: the connections to them, which others use too, and None for this one.
    ``totals`` counts for several accounts of the same cluster.
    """

    def __init__(
        self,
        settings: TunnelSettings | None,
        ssh: SSHSettings | None,
        login: SSHHost | None,
        to_nodes: Login | None = None,
        machines: Mapping[str, SSHHost | None] | None = None,
        totals: Totals | None = None,
    ) -> None:
        self.totals = totals or Totals()
        self._settings = settings
        self._ssh = ssh
        self._lines = lines_of(settings, login, to_nodes)
        self._login = self._lines.login
        self._machines = machines or {}
        self._nodes: dict[str, Line] = {}
        self._meters: dict[str, Meter] = {}
        self._users: dict[str, int] = {}
        self._lingering: dict[str, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._keepers: dict[str, asyncio.Task[None]] = {}

    @property
    def own_login(self) -> Line | None:
        """The login host, where tunnels have a connection of their own to it."""
        by_openssh = self._settings is not None and self._settings.backend == "openssh"
        return self._login if by_openssh else None

    def warm(self, host: str) -> None:
        """Begin to connect to a node, so that the tunnel is quick when its job is ready."""
        if self._settings and self._settings.via == "node" and self._allowed(host):
            task = asyncio.create_task(self._warm(host), name=f"connect {host}")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _warm(self, host: str) -> None:
        line, release = self._carrier(host), self._use(host)
        with contextlib.suppress(BridgeError):  # whoever opens the tunnel is told
            if line is not None:
                await line.connection()
        release()

    async def open(
        self,
        host: str,
        port: int,
        local: Address,
        *,
        group: int | None = None,
        probe: Probe | None = ACCEPTS,
        serve: Serve | None = None,
    ) -> Tunnel:
        """Open a tunnel to ``port`` on the node ``host``, as the scheduler named it.

        With ``probe``, the application has accepted a connection before this returns. ``serve``
        sees to each client of the local end; without it, bytes pass as they are.

        Raises :class:`~hpcbridge.errors.TunnelError` when the application accepts no connection,
        :class:`~hpcbridge.errors.ClusterUnreachable` when the node cannot be reached, and
        :class:`~hpcbridge.errors.RouteError` when the local end cannot be had.
        """
        if not self._allowed(host):
            raise TunnelError(
                f"The job runs on '{host[:80]}', which tunnel.node_pattern does not allow."
            )
        dial = self._dial(host, port)
        release = self._use(host)
        try:
            if probe is not None:
                line = self._carrier(host)
                if line is not None:
                    await line.connection()  # the application's time begins when it is reached
                await _wait_for(_attempt(dial, host, probe.path), probe, host, port)
            traffic = Traffic(total=self.totals.traffic)
            relay = await Relay.listen(local, _told(dial), traffic, group=group, serve=serve)
        except ListenError as error:
            release()
            raise RouteError(str(error)) from error
        except BaseException:
            release()
            raise
        self._keep(host)
        line = self._carrier(host)
        meter = self._meters.get(line.name) if line else None
        return Tunnel(relay, self._counted(release), line, meter)

    def _counted(self, release: Callable[[], None]) -> Callable[[], None]:
        """A tunnel is open until the returned function is called, once."""
        self.totals.open += 1
        over = False

        def released() -> None:
            nonlocal over
            self.totals.open -= not over
            over = True
            release()

        return released

    def _keep(self, host: str) -> None:
        """Connect again by ourselves when a connection in use is lost: clients should not wait."""
        line = self._carrier(host)
        if line is None or line.name in self._keepers:
            return
        meter = self._meters[line.name] = Meter(line)
        task = asyncio.create_task(self._keep_up(line, meter), name=f"keep {line.name}")
        self._keepers[line.name] = task
        task.add_done_callback(lambda _: self._keepers.pop(line.name, None))

    async def _keep_up(self, line: Line, meter: Meter) -> None:
        pause, lost = RECONNECT, False
        while self._users.get(line.name) or line is self._login:
            try:
                connection = await line.connection()
            except ClusterUnreachable as error:
                log.warning("%s", error)
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  # jitter
                pause = min(pause * 2, RECONNECT_LIMIT)
            else:
                pause = RECONNECT
                self.totals.reconnects += lost
                await _measured(connection, meter)
                lost = True
                log.warning("the SSH connection to %s was lost", line.name)

    def _allowed(self, host: str) -> bool:
        if self._settings is None:
            return host == HERE
        if self._machines:
            return host in self._machines
        return re.fullmatch(self._settings.node_pattern, host) is not None and not _special(host)

    def _carrier(self, host: str) -> Line | None:
        """The SSH host that tunnels to ``host`` go through; None without SSH on the way."""
        if self._settings is None or self._settings.via == "direct":
            return None
        if host in self._machines and (self._settings.via == "node" or host == HERE):
            return self._machines[host]
        return self._node(host) if self._settings.via == "node" else self._login

    def _dial(self, host: str, port: int) -> Dial:
        line = self._carrier(host)
        if line is None:
            target = "127.0.0.1" if host == HERE else host
            return lambda factory: asyncio.get_running_loop().create_connection(
                factory, target, port, happy_eyeballs_delay=NEXT
            )
        # On the node itself to its loopback; from the login host to the node's address.
        return _through(line, host if line is self._login else "127.0.0.1", port)

    def _node(self, host: str) -> Line:
        if host not in self._nodes:
            assert self._settings is not None
            settings, port = self._ssh or SSHSettings(host=host), self._settings.node_port
            self._nodes[host] = self._lines.node(settings, host, port, LOGIN_PATIENCE)
        return self._nodes[host]

    def _use(self, host: str) -> Callable[[], None]:
        """Keep a node's connection until the returned function is called, and a while longer."""
        if timer := self._lingering.pop(host, None):
            timer.cancel()
        self._users[host] = self._users.get(host, 0) + 1
        released = False

        def release() -> None:
            nonlocal released
            if released:
                return
            released = True
            self._users[host] -= 1
            if not self._users[host] and self._settings:
                self._lingering[host] = asyncio.get_running_loop().call_later(
                    self._settings.linger, self._hang_up, host
                )

        return release

    def _hang_up(self, host: str) -> None:
        self._lingering.pop(host, None)
        if keeper := self._keepers.get(host):
            keeper.cancel()
        if node := self._nodes.pop(host, None):
            task = asyncio.create_task(node.close(), name=f"close {host}")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all connections to nodes."""
        for timer in self._lingering.values():
            timer.cancel()
        tasks = [*self._closing, *self._keepers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(node.close() for node in self._nodes.values()))
        await self._lines.close()


def _special(host: str) -> bool:
    """Whether a name or address can mean no node: this host itself, or a cloud's metadata."""
    try:
        packed = socket.inet_aton(host)  # takes what connect() takes: 0, 127.1, 0x7f000001
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.IPv4Address(packed)
    except OSError:
        try:
            address = ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            labels = host.lower().rstrip(".").split(".")
            return "localhost" in labels or labels[0] in ("ip6-localhost", "ip6-loopback")
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return (
        address.is_loopback
        or address.is_unspecified
        or address.is_link_local
        or address.is_multicast
    )


async def _measured(connection: Connection, meter: Meter) -> None:
    """Return when the connection is lost; measure it now and then meanwhile."""

    async def measure() -> None:
        while True:
            await meter.measure()
            await asyncio.sleep(MEASURE)

    measuring = asyncio.create_task(measure(), name="measure")
    try:
        await connection.wait_closed()
    finally:
        measuring.cancel()
        await asyncio.gather(measuring, return_exceptions=True)


def _through(host: Line, target: str, port: int) -> Dial:
    async def dial(factory: ProtocolFactory) -> object:
        connection = await host.connection()
        return await connection.create_connection(factory, target, port)

    return dial


def _told(dial: Dial) -> Dial:
    """The same, where whoever dials knows nothing of clusters."""

    async def told(factory: ProtocolFactory) -> object:
        try:
            return await dial(factory)
        except BridgeError as error:
            raise ConnectError(str(error)) from error

    return told


class _Probe(Stream):
    """A connection that only wants to be accepted."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.close()


def _cause(error: Exception | None) -> str:
    if isinstance(error, TimeoutError):
        return " (no answer in time)"
    said = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return f" ({said})" if said else ""


Attempt = Callable[[], Awaitable[str]]


def _attempt(dial: Dial, host: str, path: str | None) -> Attempt:
    """One look at the application; why it cannot be used yet, "" where it can."""

    async def accepts() -> str:
        await uncut(dial(_Probe))
        return ""

    async def answers() -> str:
        stream = Stream()
        await uncut(dial(lambda: stream), lambda _: stream.abort())
        status = await status_of(stream, host, path or "/", ATTEMPT)
        if status is None:
            return f"GET {path} is not answered in HTTP"
        return f"GET {path} is answered with status {status}" if status >= 500 else ""

    return accepts if path is None else answers


async def _wait_for(attempt: Attempt, probe: Probe, host: str, port: int) -> None:
    """Return once the application can be used."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + (PROBE_TIME if probe.patience is None else probe.patience)
    pause, why = 0.02, ""
    cause: Exception | None = None
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                found = await attempt()
            if not found:
                return
            why, cause = found, None
        except (OSError, asyncssh.ChannelOpenError, TimeoutError) as error:
            if getattr(error, "code", None) == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
                raise TunnelError(
                    f"sshd does not allow forwarding to port {port} of {host}. "
                    "Its admins must allow it (AllowTcpForwarding, PermitOpen)."
                ) from error
            late = isinstance(error, TimeoutError)
            if not (late and why and loop.time() >= deadline):  # then the last word was another
                path, cause = probe.path, error
                silent = late and path is not None
                why = f"GET {path} is not answered" if silent else "nothing accepts connections"
        if loop.time() + pause >= deadline:
            said = "said that it was ready, but" if probe.patience is None else "is not ready:"
            raise NotServing(
                f"The application {said} {why} on port {port} of {host}{_cause(cause)}. "
                "Does it listen on the address in job.bind?"
            ) from cause
        await asyncio.sleep(pause)
        pause = min(0.5, pause * 2)
