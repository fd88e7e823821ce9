"""Tunnels over real SSH connections, through a login host to a node, and their faults."""

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from hpcbridge import tunnels as tunnels_module
from hpcbridge.config.clusters import SSHSettings, TunnelSettings
from hpcbridge.errors import BridgeError, ClusterUnreachable, RouteError, TunnelError
from hpcbridge.network.addresses import TCPAddress, UnixAddress
from hpcbridge.transports.connection import SSHHost
from hpcbridge.tunnels import Tunnel, Tunnels
from tests.sshpeer import SSHPeer
from tests.waiting import until

ANY = TCPAddress("127.0.0.1", 0)
NODE = "node1.cluster"


class Place:
    """A login host, a node behind it, and an application on the node that echoes."""

    def __init__(self, root: Path, login: SSHPeer, node: SSHPeer, backend: str) -> None:
        self.login, self.node, self.backend = login, node, backend
        known = root / "known_hosts"
        login.trust_host_key()
        node.trust_host_key()
        keys = login.known_hosts.read_text() + node.known_hosts.read_text()
        known.write_text(keys + keys.replace("127.0.0.1", NODE))
        both = [login.client_key, node.client_key]
        self.ssh = login.settings(known_hosts=known, identity_files=both)
        self.made: list[tuple[Tunnels, SSHHost]] = []
        self.open: list[Tunnel] = []
        self.port = 0
        self.remote_clients: list[asyncio.StreamWriter] = []

    def tunnels(self, **settings: Any) -> Tunnels:
        login = SSHHost(self.ssh)
        given = TunnelSettings(**{"node_port": self.node.port, "backend": self.backend, **settings})
        tunnels = Tunnels(given, self.ssh, login)
        self.made.append((tunnels, login))
        return tunnels

    async def tunnel(self, tunnels: Tunnels, local: Any = ANY, **more: Any) -> Tunnel:
        tunnel = await tunnels.open(NODE, self.port, local, **more)
        self.open.append(tunnel)
        return tunnel


class Echo(asyncio.Protocol):
    """The application. No connection of it outlives the test."""

    open: ClassVar[set[asyncio.BaseTransport]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.open.add(transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.open.discard(self.transport)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node has a name, which leads to this machine."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **more: Any) -> Any:
        return resolve("127.0.0.1" if host == NODE else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[tuple[SSHPeer, SSHPeer]]:
    with SSHPeer(tmp_path / "login") as login, SSHPeer(tmp_path / "node") as node:
        yield login, node


@pytest.fixture(params=["asyncssh", "openssh"])
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, peers: tuple[SSHPeer, SSHPeer], names: None
) -> AsyncIterator[Place]:
    place = Place(tmp_path, *peers, request.param)
    loop = asyncio.get_running_loop()
    async with await loop.create_server(Echo, "127.0.0.1", 0) as server:
        place.port = server.sockets[0].getsockname()[1]
        yield place
        for writer in place.remote_clients:
            writer.close()
        for tunnel in place.open:
            await tunnel.close()
        for tunnels, login in place.made:
            await tunnels.close()
            await login.close()
        await until(lambda: not Echo.open)


async def connected(tunnel: Tunnel) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = tunnel.address
    if isinstance(address, UnixAddress):
        return await asyncio.open_unix_connection(address.path)
    return await asyncio.open_connection(address.host, address.port)


async def echoed(tunnel: Tunnel, data: bytes = b"hello") -> bytes:
    """What comes back; short when the connection breaks."""
    async with asyncio.timeout(60):
        reader, writer = await connected(tunnel)
        received = b""
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            while len(received) < len(data) and (more := await reader.read(65536)):
                received += more
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        return received


async def answers(tunnel: Tunnel) -> bool:
    return await echoed(tunnel) == b"hello"


async def test_a_tunnel_leads_through_the_login_host_to_the_node(place: Place) -> None:
    tunnel = await place.tunnel(place.tunnels())
    assert await echoed(tunnel) == b"hello"
    assert (place.login.connections, place.node.connections) == (1, 1)
    assert isinstance(tunnel.address, TCPAddress)
    assert tunnel.address.host == "127.0.0.1"


async def test_a_tunnel_can_end_at_the_nodes_address_behind_the_login_host(place: Place) -> None:
    tunnel = await place.tunnel(place.tunnels(via="login"))
    assert await echoed(tunnel) == b"hello"
    assert (place.login.connections, place.node.connections) == (1, 0)


async def test_a_tunnel_can_be_a_plain_connection(place: Place) -> None:
    tunnel = await place.tunnel(place.tunnels(via="direct"))
    assert await echoed(tunnel) == b"hello"
    assert (place.login.connections, place.node.connections) == (0, 0)


async def test_tunnels_to_one_node_share_its_connection(place: Place) -> None:
    tunnels = place.tunnels()
    made = await asyncio.gather(*(place.tunnel(tunnels) for _ in range(5)))
    assert await asyncio.gather(*(echoed(each) for each in made)) == [b"hello"] * 5
    assert (place.login.connections, place.node.connections) == (1, 1)


async def test_a_unix_socket_has_its_mode_and_goes_with_the_tunnel(
    place: Place, tmp_path: Path
) -> None:
    path = tmp_path / "s.sock"
    path.write_text("stale")
    tunnel = await place.tunnel(place.tunnels(), UnixAddress(path), group=os.getegid())
    assert await echoed(tunnel) == b"hello"
    status = path.stat()
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o660
    assert status.st_gid == os.getegid()
    await tunnel.close()
    assert not path.exists()


async def test_traffic_is_counted(place: Place) -> None:
    tunnels = place.tunnels()
    tunnel, other = await place.tunnel(tunnels), await place.tunnel(tunnels)
    assert tunnel.traffic.connections == 0
    assert await echoed(tunnel, b"x" * 100_000) == b"x" * 100_000
    assert (tunnel.traffic.bytes_in, tunnel.traffic.bytes_out) == (100_000, 100_000)
    await until(lambda: tunnel.traffic.connections == 0)
    _, writer = await connected(other)
    await until(lambda: other.traffic.connections == 1)
    assert await echoed(other, b"y" * 1000) == b"y" * 1000
    totals = tunnels.totals
    assert (totals.traffic.bytes_in, totals.traffic.bytes_out) == (101_000, 101_000)
    await until(lambda: totals.traffic.connections == 1)
    writer.close()
    await until(lambda: totals.traffic.connections == 0)
    assert (totals.open, totals.reconnects) == (2, 0)
    await tunnel.close()
    await tunnel.close()
    assert totals.open == 1


async def test_the_local_end_is_closed_with_its_connections(place: Place) -> None:
    tunnel = await place.tunnel(place.tunnels())
    reader, writer = await connected(tunnel)
    writer.write(b"x")
    assert await reader.read(1) == b"x"
    await tunnel.close()
    async with asyncio.timeout(60):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    writer.close()
    with pytest.raises(OSError):
        await connected(tunnel)


async def test_a_busy_local_end_is_told(place: Place) -> None:
    tunnels = place.tunnels()
    taken = await place.tunnel(tunnels)
    with pytest.raises(RouteError):
        await place.tunnel(tunnels, taken.address)


# -- the probe


@pytest.mark.parametrize("via", ["node", "login", "direct"])
async def test_the_probe_waits_for_an_application_that_listens_late(place: Place, via: str) -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))  # has the port, but does not accept yet
    place.port = listener.getsockname()[1]
    tunnels = place.tunnels(via=via)
    opening = asyncio.create_task(place.tunnel(tunnels))
    await asyncio.sleep(0.5)
    assert not opening.done()
    listener.listen()
    async with asyncio.timeout(60):
        await opening
    listener.close()


@pytest.mark.parametrize("via", ["node", "login", "direct"])
async def test_an_application_that_never_accepts_is_told(
    place: Place, via: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnels_module, "PROBE_TIME", 0.3)
    place.port = 1
    with pytest.raises(TunnelError, match=r"nothing accepts connections on port 1 of node1"):
        await place.tunnel(place.tunnels(via=via))


async def test_an_sshd_that_forbids_forwarding_is_told_at_once(place: Place) -> None:
    tunnels = place.tunnels()
    await (await place.tunnel(tunnels)).close()
    place.node.refuse_channels = True
    with pytest.raises(TunnelError, match="does not allow forwarding"):
        await place.tunnel(tunnels)


async def test_a_node_that_cannot_be_reached_is_told(place: Place) -> None:
    with pytest.raises(ClusterUnreachable, match=NODE):
        await place.tunnel(place.tunnels(node_port=1))
    place.node.refuse_key = True
    with pytest.raises(ClusterUnreachable, match=f"{NODE} refused the login"):
        await place.tunnel(place.tunnels())


async def test_a_node_with_another_key_is_told(place: Place) -> None:
    place.node.rotate_host_key()
    with pytest.raises(ClusterUnreachable, match=f"{NODE} did not show a host key"):
        await place.tunnel(place.tunnels())


async def test_a_node_that_stalls_while_it_is_probed_is_told_in_time(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnels_module, "PROBE_TIME", 0.3)
    tunnels = place.tunnels()
    await (await place.tunnel(tunnels)).close()
    place.node.stall()
    async with asyncio.timeout(60):
        with pytest.raises(BridgeError):
            await place.tunnel(tunnels)
    place.node.resume()


async def test_what_an_application_that_never_accepts_answered_is_told(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnels_module, "PROBE_TIME", 0.3)
    place.port = 1
    with pytest.raises(TunnelError, match=r"port 1 of node1.cluster \(.*[Cc]onnect"):
        await place.tunnel(place.tunnels(via="direct"))


async def test_a_login_host_that_forbids_forwarding_is_named_as_the_cause(place: Place) -> None:
    """The node is behind it; nothing will change that soon."""
    place.login.refuse_channels = True
    with pytest.raises(ClusterUnreachable, match="does not allow forwarding") as caught:
        await place.tunnel(place.tunnels())
    assert caught.value.lasting


async def test_a_node_may_refuse_a_login_for_a_while(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It learns of a job a little after the queue does (pam_slurm_adopt)."""
    tunnels = place.tunnels()
    place.node.refuse_key = True
    with pytest.raises(ClusterUnreachable, match="refused the login") as caught:
        await place.tunnel(tunnels)
    assert not caught.value.lasting
    place.node.refuse_key = False
    assert await echoed(await place.tunnel(tunnels)) == b"hello"

    monkeypatch.setattr(tunnels_module, "LOGIN_PATIENCE", 0.3)
    impatient = place.tunnels()
    place.node.refuse_key = True

    async def given_up() -> bool:
        with pytest.raises(ClusterUnreachable) as caught:
            await place.tunnel(impatient)
        return caught.value.lasting

    await until(given_up)


async def test_a_login_host_that_refuses_the_login_is_not_asked_again(place: Place) -> None:
    place.login.refuse_key = True
    with pytest.raises(ClusterUnreachable, match="refused the login") as caught:
        await place.tunnel(place.tunnels())
    assert caught.value.lasting


# -- which nodes


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost",
        "localhost.",
        "localhost.localdomain",
        "ip6-localhost",
        "127.0.0.1",
        "127.1",
        "127.0.0.53",
        "0",
        "0.0.0.0",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "169.254.169.254",
        "0xA9FEA9FE",
        "fe80::1",
        "224.0.0.1",
        "",
        "evil;rm",
        "-oProxyCommand=id",
        "node1\nnode2",
        "node1\n",
        "node1 node2",
        "node1:22",
        "../x",
        "node1/..",
        "alice@node1",
        "nodé",
        "x" * 300,
        "node1.",
        "%h",
        "node[1-4]",
    ],
)
@pytest.mark.parametrize("via", ["node", "login", "direct"])
async def test_what_is_no_node_is_not_connected_to(
    host: str, via: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = SSHHost(SSHSettings(host="login"))
    tunnels = Tunnels(TunnelSettings(via=via), login.settings, login)
    monkeypatch.setattr(tunnels, "_dial", lambda *_: pytest.fail("it was dialled"))
    with pytest.raises(TunnelError, match="node_pattern"):
        await tunnels.open(host, 8080, ANY)
    tunnels.warm(host)
    assert tunnels._nodes == {}


async def test_a_sites_own_pattern_narrows_it_but_never_to_this_host() -> None:
    narrow = Tunnels(TunnelSettings(node_pattern=r"n\d+"), None, None)
    assert narrow._allowed("n12")
    assert not narrow._allowed("n12x")
    assert not narrow._allowed("xn12")
    everything = Tunnels(TunnelSettings(node_pattern=r".*"), None, None)
    assert everything._allowed("10.77.0.11")
    assert everything._allowed("fd00::11")
    for host in ("127.0.0.1", "localhost", "169.254.169.254", "[::1]"):
        assert not everything._allowed(host)


async def test_jobs_of_this_machine_are_only_reached_here() -> None:
    here = Tunnels(None, None, None)
    for host in ("node1", "127.0.0.1", "", "10.0.0.1"):
        with pytest.raises(TunnelError):
            await here.open(host, 8080, ANY)


# -- loss and return


async def test_the_local_end_outlives_the_connection_and_works_again(place: Place) -> None:
    tunnels = place.tunnels()
    tunnel = await place.tunnel(tunnels)
    address = tunnel.address
    assert await echoed(tunnel) == b"hello"
    for peer in (place.node, place.login):
        peer.drop()
        await until(lambda: answers(tunnel), "an answer through the tunnel")
        assert tunnel.address == address
    await until(lambda: tunnel.traffic.connections == 0)
    await until(lambda: tunnels.totals.reconnects, "that the connections were made again")


async def test_a_connection_that_drops_in_mid_stream_ends_the_visitors_too(place: Place) -> None:
    tunnel = await place.tunnel(place.tunnels())
    place.node.drop_after(50_000)
    received = await echoed(tunnel, b"x" * 1_000_000)
    assert len(received) <= 50_000
    place.node.drop_after(None)
    await until(lambda: answers(tunnel), "an answer through the tunnel")


async def test_a_peer_that_refuses_a_channel_drops_only_that_visitor(place: Place) -> None:
    tunnel = await place.tunnel(place.tunnels())
    reader, writer = await connected(tunnel)
    writer.write(b"1")
    assert await reader.read(1) == b"1"
    place.node.refuse_channels = True
    assert await echoed(tunnel) == b""
    writer.write(b"2")
    assert await reader.read(1) == b"2"
    writer.close()
    place.node.refuse_channels = False
    assert await echoed(tunnel) == b"hello"


async def test_a_stall_ends_nothing(place: Place) -> None:
    tunnel = await place.tunnel(place.tunnels())
    reader, writer = await connected(tunnel)
    writer.write(b"1")
    assert await reader.read(1) == b"1"
    place.node.stall()
    writer.write(b"2")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await reader.read(1)
    place.node.resume()
    async with asyncio.timeout(60):
        assert await reader.read(1) == b"2"
    writer.close()


# -- the node's connection


async def test_an_unused_connection_to_a_node_is_closed_after_a_while(place: Place) -> None:
    tunnels = place.tunnels(linger=1)
    tunnel = await place.tunnel(tunnels)
    node = tunnels._nodes[NODE]
    await tunnel.close()
    await tunnel.close()  # closing twice counts once
    assert node.connected
    await until(lambda: not node.connected)
    assert tunnels._nodes == {}
    assert await echoed(await place.tunnel(tunnels)) == b"hello"
    assert place.node.connections == 2


async def test_a_connection_in_use_is_kept(place: Place) -> None:
    tunnels = place.tunnels(linger=0.05)
    first, second = await place.tunnel(tunnels), await place.tunnel(tunnels)
    await first.close()
    await asyncio.sleep(0.2)
    assert await echoed(second) == b"hello"
    assert place.node.connections == 1


async def test_a_node_is_connected_to_ahead_and_let_go_if_nothing_comes(place: Place) -> None:
    tunnels = place.tunnels(linger=0.2)
    tunnels.warm(NODE)
    await until(lambda: place.node.connections == 1)
    await until(lambda: NODE not in tunnels._nodes)


async def test_warming_a_node_that_is_down_is_no_error(place: Place) -> None:
    tunnels = place.tunnels(node_port=1, linger=0.05)
    tunnels.warm(NODE)
    await until(lambda: NODE in tunnels._nodes)
    await until(lambda: not tunnels._closing and NODE not in tunnels._nodes)


async def test_a_tunnel_that_could_not_be_opened_keeps_no_connection(place: Place) -> None:
    tunnels = place.tunnels(linger=0.1)
    place.node.refuse_channels = True
    with pytest.raises(TunnelError):
        await place.tunnel(tunnels)
    await until(lambda: tunnels._nodes == {})
