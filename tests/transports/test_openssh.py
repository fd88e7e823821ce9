"""Tunnels by ssh(1) through real sshds: what a stand-in for either would only imitate."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from hpcbridge.config.clusters import SSHSettings, TunnelSettings
from hpcbridge.errors import ClusterUnreachable, TunnelError
from hpcbridge.network.addresses import TCPAddress
from hpcbridge.transports.connection import SSHHost
from hpcbridge.transports.line import Line
from hpcbridge.transports.lines import lines_of
from hpcbridge.transports.openssh import folder as folder_module
from hpcbridge.transports.openssh.folder import PREFIX, Folder
from hpcbridge.transports.openssh.host import OpenSSHHost
from hpcbridge.tunnels import Tunnel, Tunnels
from tests.kerberos import Realm
from tests.opensshd import OpenSSHD
from tests.waiting import until, wait_until

pytestmark = pytest.mark.servers

ANY = TCPAddress("127.0.0.1", 0)
NODE = "127.0.0.3"
BACKENDS = ("asyncssh", "openssh")


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """An application that echoes, on this machine."""
    loop = asyncio.get_running_loop()
    async with await loop.create_server(Echo, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def place(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where control sockets lie."""
    monkeypatch.setattr(folder_module, "base", lambda: directory)
    return directory


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[OpenSSHD]:
    (tmp_path / "sshd").mkdir()
    with OpenSSHD(tmp_path / "sshd") as sshd:
        yield sshd


@pytest.fixture
async def host(place: Path) -> AsyncIterator[Callable[..., OpenSSHHost]]:
    """Makes hosts, and closes them."""
    made: list[OpenSSHHost] = []
    folder = Folder()

    def make(settings: SSHSettings, **more: Any) -> OpenSSHHost:
        made.append(OpenSSHHost(settings, folder, **more))
        return made[-1]

    yield make
    for each in made:
        await each.close()
    folder.remove()
    assert not list(place.glob(f"{PREFIX}*"))


async def echoed(line: Any, port: int, data: bytes = b"hello") -> bytes:
    """What comes back through a connection of this host, to its end."""
    connection = await line.connection()
    reader = asyncio.StreamReader()
    transport, _ = await connection.create_connection(
        lambda: asyncio.StreamReaderProtocol(reader), "127.0.0.1", port
    )
    transport.write(data)
    transport.write_eof()
    async with asyncio.timeout(60):
        received = await reader.read()
    transport.close()
    return received


def pid_of(line: OpenSSHHost) -> int:
    assert line._connection is not None
    assert line._connection._process is not None
    return line._connection._process._process.pid


def alive(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


# -- bytes


async def test_bytes_pass_whole_both_ways_and_to_their_end(
    host: Callable[..., OpenSSHHost], sshd: OpenSSHD, port: int
) -> None:
    line = host(sshd.settings())
    data = os.urandom(3_000_000)
    answers = await asyncio.gather(*(echoed(line, port, data) for _ in range(5)))
    assert answers == [data] * 5


async def test_an_end_that_only_the_application_makes_is_passed_on(
    host: Callable[..., OpenSSHHost], sshd: OpenSSHD
) -> None:
    """A server that answers and closes: the client learns of the end while it could still send."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.write_eof()
        assert await reader.read() == b"thanks"
        writer.close()

    line = host(sshd.settings())
    connection = await line.connection()
    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        reader = asyncio.StreamReader()
        transport, _ = await connection.create_connection(
            lambda: asyncio.StreamReaderProtocol(reader),
            "127.0.0.1",
            server.sockets[0].getsockname()[1],
        )
        async with asyncio.timeout(60):
            assert await reader.read() == b"bye"
        transport.write(b"thanks")
        transport.close()
        await until(lambda: transport._lost)


class Lazy(asyncio.Protocol):
    """Reads nothing unless it is asked to."""

    def __init__(self) -> None:
        self.full = self.lost = False
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self.received += len(data)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True


async def test_one_who_does_not_read_holds_the_other_up_and_loses_nothing(
    host: Callable[..., OpenSSHHost], sshd: OpenSSHD
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    connection = await host(sshd.settings()).connection()
    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        channel, lazy = await connection.create_connection(Lazy, "127.0.0.1", port)
        left = total = 100_000_000  # more than all buffers on the way have room for
        while left and not await held_up(lazy):
            channel.write(bytes(1_000_000))
            left -= 1_000_000
        assert left
        assert lazy.received == 0
        channel.resume_reading()
        channel.write_eof()
        await until(lambda: lazy.received == total - left)
        await until(lambda: lazy.lost)


async def held_up(lazy: Lazy) -> bool:
    """Whether there is no room for more, for as long as that takes to be sure of."""
    for _ in range(50):
        if not lazy.full:
            return False
        await asyncio.sleep(0.02)
    return True


async def test_what_is_aborted_ends_at_the_application_too(
    host: Callable[..., OpenSSHHost], sshd: OpenSSHD
) -> None:
    over = asyncio.Event()

    class Application(asyncio.Protocol):
        def connection_lost(self, error: Exception | None) -> None:
            over.set()

    loop = asyncio.get_running_loop()
    connection = await host(sshd.settings()).connection()
    async with await loop.create_server(Application, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        channel, lazy = await connection.create_connection(Lazy, "127.0.0.1", port)
        channel.abort()
        async with asyncio.timeout(60):
            await over.wait()
        await until(lambda: lazy.lost)


# -- who is connected to


async def test_several_hops_are_each_a_master_and_each_checked(
    host: Callable[..., OpenSSHHost], sshd: OpenSSHD, tmp_path: Path, port: int
) -> None:
    """Three times the same sshd, under three names."""
    keys = sshd.host_key.export_public_key().decode()
    sshd.known_hosts.write_text(f"far {keys}middle {keys}near {keys}")
    config = tmp_path / "config"
    names = f"HostName {sshd.address}\nPort {sshd.port}\n"
    config.write_text(
        f"Host far\nProxyJump near,middle\n{names}HostKeyAlias far\n"
        f"Host middle\n{names}HostKeyAlias middle\nHost near\n{names}HostKeyAlias near\n"
    )
    config.chmod(0o600)
    settings = sshd.settings(host="far", port=None, config=config)
    line = host(settings)
    assert await echoed(line, port) == b"hello"
    assert [each.name for each in line._hops] == ["near", "middle"]
    assert all(each.connected for each in line._hops)
    sshd.known_hosts.write_text(f"far {keys}near {keys}")
    with pytest.raises(ClusterUnreachable, match="The SSH host middle did not show a host key"):
        await host(settings).connection()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("principal", ["node1", "node2"])
async def test_a_host_certificate_is_believed_for_the_name_in_it_only(
    place: Path, tmp_path: Path, backend: str, principal: str
) -> None:
    """A node that was re-imaged has new keys, and a certificate of the same CA."""
    authority = asyncssh.generate_private_key("ssh-ed25519")
    (tmp_path / "sshd").mkdir()
    sshd = OpenSSHD(tmp_path / "sshd", f"HostCertificate {tmp_path}/sshd/host_key-cert.pub")
    certificate = authority.generate_host_certificate(
        sshd.host_key, "a node", principals=[principal]
    )
    certificate.write_certificate(f"{tmp_path}/sshd/host_key-cert.pub")
    with sshd:
        public = authority.export_public_key().decode()
        sshd.known_hosts.write_text(f"@cert-authority node1 {public}")
        config = tmp_path / "config"
        config.write_text(f"Host {sshd.address}\nHostKeyAlias node1\n")
        config.chmod(0o600)
        async with one(sshd.settings(config=config), backend) as line:
            if principal == "node1":
                await line.connection()
            else:
                with pytest.raises(ClusterUnreachable, match="did not show a host key"):
                    await line.connection()


@contextlib.asynccontextmanager
async def one(settings: SSHSettings, backend: str) -> AsyncIterator[Line]:
    """A login host, by either back end."""
    login = SSHHost(settings)
    lines = lines_of(TunnelSettings(backend=backend), login, None)
    assert lines.login is not None
    yield lines.login
    await lines.close()
    await login.close()


@pytest.mark.parametrize("backend", BACKENDS)
async def test_one_alias_stands_for_nodes_that_share_a_key(
    place: Path, tmp_path: Path, sshd: OpenSSHD, backend: str
) -> None:
    sshd.known_hosts.write_text(f"nodes {sshd.host_key.export_public_key().decode()}")
    config = tmp_path / "config"
    config.write_text("Host 127.0.0.*\nHostKeyAlias nodes\n")
    config.chmod(0o600)
    async with one(sshd.settings(config=config), backend) as line:
        await line.connection()
    async with one(sshd.settings(), backend) as line:
        with pytest.raises(ClusterUnreachable, match="did not show a host key"):
            await line.connection()


# -- what is refused


@contextlib.asynccontextmanager
async def cluster(
    login: OpenSSHD, node: OpenSSHD, backend: str = "openssh", **more: Any
) -> AsyncIterator[Tunnels]:
    """Tunnels to ``NODE`` behind a login host."""
    keys = f"{login.known_hosts.read_text()}{node.known_hosts.read_text()}"
    both = login.directory / "both"
    both.write_text(keys)
    both.chmod(0o600)
    files = [login.key_file, node.key_file]
    ssh = login.settings(known_hosts=both, identity_files=files)
    given = {"node_port": node.port, "node_pattern": ".*", "backend": backend, **more}
    first = SSHHost(ssh)
    tunnels = Tunnels(TunnelSettings(**given), ssh, first)
    tunnels._allowed = lambda _: True  # type: ignore[method-assign]  # loopback is the network here
    yield tunnels
    await tunnels.close()
    await first.close()


@pytest.fixture
def nodes(tmp_path: Path) -> Callable[..., OpenSSHD]:
    """Makes an sshd with these lines, on another address."""

    def make(*lines: str, address: str = NODE) -> OpenSSHD:
        directory = tmp_path / address
        directory.mkdir()
        return OpenSSHD(directory, *lines, address=address)

    return make


OFF = "AllowTcpForwarding no"


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_node_that_forbids_forwarding_is_told_at_once(
    place: Path, sshd: OpenSSHD, nodes: Callable[..., OpenSSHD], port: int, backend: str
) -> None:
    with nodes(OFF) as node:
        async with cluster(sshd, node, backend) as tunnels:
            with pytest.raises(TunnelError, match="does not allow forwarding to port"):
                await tunnels.open(NODE, port, ANY)


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_login_host_that_forbids_forwarding_is_told(
    place: Path, sshd: OpenSSHD, nodes: Callable[..., OpenSSHD], port: int, backend: str
) -> None:
    with nodes(OFF, address="127.0.0.2") as login:
        async with cluster(login, sshd, backend) as tunnels:
            with pytest.raises(ClusterUnreachable, match="does not allow forwarding") as caught:
                await tunnels.open(sshd.address, port, ANY)
    assert caught.value.lasting


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_node_that_is_down_is_told(
    place: Path, sshd: OpenSSHD, nodes: Callable[..., OpenSSHD], port: int, backend: str
) -> None:
    with nodes() as node:
        pass
    async with cluster(sshd, node, backend) as tunnels:
        with pytest.raises(ClusterUnreachable, match=f"{NODE} cannot be reached: .*refused"):
            await tunnels.open(NODE, port, ANY)


async def test_a_banner_does_not_hide_why(
    host: Callable[..., OpenSSHHost], nodes: Callable[..., OpenSSHD], tmp_path: Path
) -> None:
    banner = tmp_path / "banner"
    banner.write_text("Host key verification failed.\nx: Permission denied (forever).\n")
    told = pytest.raises(ClusterUnreachable, match="refused the login")
    with nodes(f"Banner {banner}", "AllowUsers nobody") as node, told:
        await host(node.settings()).connection()
    with nodes(f"Banner {banner}", address="127.0.0.4") as node:
        await host(node.settings()).connection()


async def test_an_account_that_may_run_nothing_can_have_tunnels(
    host: Callable[..., OpenSSHHost], nodes: Callable[..., OpenSSHD], port: int
) -> None:
    with nodes("ForceCommand /bin/false") as node:
        line = host(node.settings())
        assert await echoed(line, port) == b"hello"
        assert await line.round_trip() is None
        assert await echoed(line, port) == b"hello"


async def test_without_ssh_that_is_told(
    host: Callable[..., OpenSSHHost], sshd: OpenSSHD, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ClusterUnreachable, match=r"ssh \(openssh-client\) is missing"):
        await host(sshd.settings()).connection()


# -- how far away


@pytest.mark.parametrize("backend", BACKENDS)
async def test_round_trip_and_reconnects_of_a_tunnel_are_known(
    place: Path, sshd: OpenSSHD, nodes: Callable[..., OpenSSHD], port: int, backend: str
) -> None:
    with nodes() as node:
        async with cluster(sshd, node, backend) as tunnels:
            tunnel = await tunnels.open(NODE, port, ANY)
            await until(lambda: tunnel.figures.round_trip)
            assert tunnel.figures.reconnects == 0
            _end_children(node)
            await until(lambda: tunnel.figures.reconnects)
            await until(lambda: tunnel.state == "open")
            assert await through(tunnel) == b"hello"
            assert (tunnel.figures.bytes_in, tunnel.figures.bytes_out) == (5, 5)
            await tunnel.close()


async def through(tunnel: Tunnel) -> bytes:
    address = tunnel.address
    assert isinstance(address, TCPAddress)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(b"hello")
    writer.write_eof()
    async with asyncio.timeout(60):
        received = await reader.read()
    writer.close()
    return received


def _end_children(sshd: OpenSSHD) -> None:
    """Kill the processes that serve its connections."""
    assert sshd._process is not None
    pids = {sshd._process.pid}
    below: set[int] = set()
    while more := {pid for pid, parent in _parents() if parent in pids | below} - below:
        below |= more
    for pid in below:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _parents() -> list[tuple[int, int]]:
    found = []
    for each in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            found.append(
                (int(each.parent.name), int(each.read_text().rpartition(")")[2].split()[1]))
            )
    return found


# -- processes


async def test_arguments_and_environment_of_ssh_tell_nothing(
    host: Callable[..., OpenSSHHost], sshd: OpenSSHD, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    monkeypatch.setenv("HPCBRIDGE_STORE__URL", "s3cret")
    line = host(sshd.settings())
    await line.connection()
    seen = Path(f"/proc/{pid_of(line)}/cmdline").read_text()
    assert "\0-F\0" in seen
    for told in (str(sshd.key_file), sshd.address, str(sshd.port), "s3cret"):
        assert told not in seen
    assert "s3cret" not in Path(f"/proc/{pid_of(line)}/environ").read_text()
    for each in [*place.glob(f"{PREFIX}*"), *place.glob(f"{PREFIX}*/*")]:
        assert each.stat().st_mode & 0o077 == 0


async def test_a_master_that_is_killed_is_noticed_and_another_is_made(
    host: Callable[..., OpenSSHHost], sshd: OpenSSHD, port: int
) -> None:
    line = host(sshd.settings())
    connection = await line.connection()
    channel, lazy = await connection.create_connection(Lazy, "127.0.0.1", port)
    channel.resume_reading()
    os.kill(pid_of(line), signal.SIGKILL)
    async with asyncio.timeout(60):
        await connection.wait_closed()
    await until(lambda: lazy.lost)
    assert not line.connected
    assert await echoed(line, port) == b"hello"


async def test_no_process_is_left_when_a_host_is_closed(
    host: Callable[..., OpenSSHHost], sshd: OpenSSHD
) -> None:
    line = host(sshd.settings())
    await line.connection()
    pid = pid_of(line)
    assert alive(pid)
    await line.close()
    assert not alive(pid)
    assert not line.connected


SERVICE = """
import asyncio, sys, tempfile
from pathlib import Path
from hpcbridge.config.clusters import SSHSettings
from hpcbridge.transports.openssh.folder import Folder
from hpcbridge.transports.openssh.host import OpenSSHHost

async def main():
    line = OpenSSHHost(SSHSettings.model_validate_json(sys.argv[1]), Folder())
    connection = await line.connection()
    print(connection._process._process.pid, connection.control.parent, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_a_service_that_is_killed_leaves_no_ssh_and_the_next_one_tidies_up(
    host: Callable[..., OpenSSHHost], sshd: OpenSSHD, place: Path
) -> None:
    settings = sshd.settings().model_dump_json()
    environment = {**os.environ, "TMPDIR": str(place)}
    command = [sys.executable, "-c", SERVICE, settings]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as service:
        assert service.stdout is not None
        pid, _, left = (await asyncio.to_thread(service.stdout.readline)).strip().partition(" ")
        assert alive(int(pid))
        line = host(sshd.settings())
        await line.connection()
        assert Path(left).is_dir()  # it is in use
        service.kill()
    wait_until(lambda: not alive(int(pid)))
    assert Path(left).is_dir()
    folder = Folder()
    folder.name()
    folder.remove()
    assert not Path(left).exists()
    assert line.connected


# -- Kerberos


async def test_a_ticket_logs_in_and_is_not_handed_on(
    host: Callable[..., OpenSSHHost],
    nodes: Callable[..., OpenSSHD],
    tmp_path: Path,
    port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "realm").mkdir()
    with Realm(tmp_path / "realm") as realm:
        for name, value in realm.environment.items():
            monkeypatch.setenv(name, value)
        lines = ("GSSAPIAuthentication yes", "GSSAPIStrictAcceptorCheck no", "PermitTunnel no")
        given = f'ForceCommand echo "<$KRB5CCNAME>" > {tmp_path}/given; exec cat'
        with nodes(*lines, given, address="127.0.0.1") as sshd:
            sshd.trust("localhost")
            (sshd.directory / "authorized_keys").write_text("")
            settings = sshd.settings(host="localhost", identity_files=[])
            with pytest.raises(ClusterUnreachable, match="refused the login"):
                await host(settings).connection()
            realm.log_in("root")
            line = host(settings)
            assert await echoed(line, port) == b"hello"
            assert await line.round_trip()
            assert (tmp_path / "given").read_text() == "<>\n"
            realm.log_out()


# -- a connection that an admin has opened


@contextlib.contextmanager
def opened_by_hand(sshd: OpenSSHD, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A master as an admin has it after typing a password and a code."""
    options = [f"UserKnownHostsFile={sshd.known_hosts}", f"IdentityFile={sshd.key_file}"]
    command = ["ssh", "-F", "none", "-N", "-M", "-S", str(path), "-p", str(sshd.port)]
    for each in options:
        command += ["-o", each]
    with subprocess.Popen([*command, sshd.address]) as master:
        wait_until(path.exists, "a master")
        yield master
        master.terminate()


async def test_a_connection_that_was_opened_by_hand_is_used_and_left_alone(
    place: Path, sshd: OpenSSHD, nodes: Callable[..., OpenSSHD], port: int
) -> None:
    path = place / "login.ctl"
    with nodes() as node, opened_by_hand(sshd, path) as master:
        sshd.key_file.chmod(0o600)
        (sshd.directory / "authorized_keys").write_text("")  # nobody logs in by a key any more
        async with cluster(sshd, node, control_path=path) as tunnels:
            tunnel = await tunnels.open(NODE, port, ANY)
            assert await through(tunnel) == b"hello"
            await tunnel.close()
        async with cluster(sshd, node, control_path=path, via="login") as tunnels:
            tunnel = await tunnels.open("127.0.0.1", port, ANY)
            assert await through(tunnel) == b"hello"
            await until(lambda: tunnel.figures.round_trip)
            await tunnel.close()
        assert master.poll() is None


async def test_one_that_is_gone_is_told_and_used_again_when_it_is_back(
    host: Callable[..., OpenSSHHost], place: Path, sshd: OpenSSHD, port: int
) -> None:
    path = place / "login.ctl"
    line = host(sshd.settings(), adopted=path)
    with pytest.raises(ClusterUnreachable, match=f"ssh -fNM -S {path}") as caught:
        await line.connection()
    assert not caught.value.lasting
    with opened_by_hand(sshd, path):
        connection = await line.connection()
        assert await echoed(line, port) == b"hello"
    async with asyncio.timeout(60):
        await connection.wait_closed()
    assert not line.connected
    with opened_by_hand(sshd, path):
        assert await echoed(line, port) == b"hello"


async def test_a_control_socket_of_others_is_not_used(
    host: Callable[..., OpenSSHHost], place: Path, sshd: OpenSSHD
) -> None:
    path = place / "ctl"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        os.chown(path, 12345, -1)
        with pytest.raises(ClusterUnreachable, match="belongs to uid 12345") as caught:
            await host(sshd.settings(), adopted=path).connection()
        assert caught.value.lasting
        os.chown(path, 0, -1)
        place.chmod(0o777)
        with pytest.raises(ClusterUnreachable, match="could be replaced by others"):
            await host(sshd.settings(), adopted=path).connection()
        place.chmod(0o700)


@pytest.mark.parametrize("answer", [b"", b"\0\0\0\4\0\0\0\1", b"\xff\xff\xff\xff", b"HTTP/1.1 400"])
async def test_what_listens_there_and_is_no_master_is_told(
    host: Callable[..., OpenSSHHost], place: Path, sshd: OpenSSHD, answer: bytes
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    path = place / "ctl"
    async with await asyncio.start_unix_server(talk, path):
        with pytest.raises(ClusterUnreachable, match="No ssh to"):
            await host(sshd.settings(), adopted=path).connection()
