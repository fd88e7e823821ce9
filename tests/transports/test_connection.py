"""SSH connections: kept, shared, refused for a reason, and through a login host."""

import asyncio
import logging
import os
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from hpcbridge.config.clusters import SSHSettings
from hpcbridge.errors import ClusterUnreachable
from hpcbridge.transports import connection as connection_module
from hpcbridge.transports.connection import SSHHost
from hpcbridge.transports.openssh.folder import Folder
from hpcbridge.transports.openssh.host import OpenSSHHost
from hpcbridge.transports.sshconfig import Entry, entry_of
from tests.opensshd import OpenSSHD
from tests.sshpeer import SSHPeer


@pytest.fixture(params=["asyncssh", "openssh"])
async def connect(
    request: pytest.FixtureRequest, peer: SSHPeer
) -> AsyncIterator[Callable[..., Any]]:
    """Makes hosts with these settings changed, of either back end, and closes them."""
    made: list[Any] = []
    folder = Folder()

    def make(**changes: Any) -> Any:
        settings = peer.settings(**changes)
        made.append(
            SSHHost(settings) if request.param == "asyncssh" else OpenSSHHost(settings, folder)
        )
        return made[-1]

    yield make
    for host in made:
        await host.close()
    folder.remove()


# What only asyncssh has: commands, and a dialler of its own.
BY_ASYNCSSH = pytest.mark.parametrize("connect", ["asyncssh"], indirect=True)


async def refusal(host: SSHHost) -> str:
    async with asyncio.timeout(60):
        with pytest.raises(ClusterUnreachable) as caught:
            await host.connection()
    assert not host.connected
    return str(caught.value)


async def test_one_connection_is_made_and_kept(
    connect: Callable[..., SSHHost], peer: SSHPeer
) -> None:
    host = connect()
    assert not host.connected
    found = await asyncio.gather(*(host.connection() for _ in range(10)))
    assert len(set(map(id, found))) == 1
    assert await host.connection() is found[0]
    assert host.connected
    assert peer.connections == 1


@BY_ASYNCSSH
async def test_the_home_is_known_once_it_is_connected(
    connect: Callable[..., SSHHost], peer: SSHPeer
) -> None:
    host = connect()
    await host.connection()
    assert host.home == str(peer.home)


async def test_a_lost_connection_is_made_again(
    connect: Callable[..., SSHHost], peer: SSHPeer
) -> None:
    host = connect()
    first = await host.connection()
    peer.drop()
    async with asyncio.timeout(60):
        await first.wait_closed()
    assert not host.connected
    assert await host.connection() is not first
    assert peer.connections == 2


async def test_one_who_gives_up_waiting_does_not_spoil_it_for_the_others(
    connect: Callable[..., SSHHost], peer: SSHPeer
) -> None:
    host = connect()
    impatient = asyncio.create_task(host.connection())
    patient = asyncio.create_task(host.connection())
    await asyncio.sleep(0)
    impatient.cancel()
    assert await patient is await host.connection()
    assert peer.connections == 1


async def test_a_host_with_a_changed_key_is_refused(
    connect: Callable[..., SSHHost], peer: SSHPeer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "hpcbridge")
    peer.rotate_host_key()
    told = await refusal(connect())
    assert "known_hosts" in told
    assert "nothing was sent" in told
    for secret in (peer.client_key.read_text(), peer.authorized_key, peer.host_key.get_base64()):
        assert secret not in told + caplog.text


async def test_a_host_that_known_hosts_lacks_is_refused(
    connect: Callable[..., SSHHost], peer: SSHPeer, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.write_text("")
    assert "known_hosts" in await refusal(connect(known_hosts=empty))
    assert peer.connections == 1


async def test_without_known_hosts_nothing_is_connected_to(
    connect: Callable[..., SSHHost], peer: SSHPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = await refusal(connect(known_hosts=tmp_path / "missing"))
    assert "missing" in told
    monkeypatch.setenv("HOME", str(tmp_path))  # nor with the default file, which is not there
    told = await refusal(connect(known_hosts=None))
    assert "known_hosts" in told


async def test_a_refused_key_is_told_and_may_be_accepted_later(
    connect: Callable[..., SSHHost], peer: SSHPeer
) -> None:
    peer.refuse_key = True
    host = connect()
    told = await refusal(host)
    assert "refused the login" in told
    assert "key" in told
    peer.refuse_key = False
    await host.connection()


async def test_a_missing_key_file_is_told(connect: Callable[..., SSHHost], tmp_path: Path) -> None:
    assert "id_gone" in await refusal(connect(identity_files=[tmp_path / "id_gone"]))


async def test_a_broken_key_file_is_told_without_its_content(
    connect: Callable[..., SSHHost], tmp_path: Path
) -> None:
    (tmp_path / "id_broken").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\ns3cret\n")
    told = await refusal(connect(identity_files=[tmp_path / "id_broken"]))
    assert "s3cret" not in told


async def test_a_host_that_does_not_listen_is_told(connect: Callable[..., SSHHost]) -> None:
    told = await refusal(connect(port=1))
    assert "cannot be reached" in told
    assert "refused" in told


async def test_an_unknown_name_is_told(connect: Callable[..., SSHHost]) -> None:
    told = await refusal(connect(host="no-such-host.invalid"))
    assert "no-such-host.invalid cannot be reached" in told


async def test_a_stalled_peer_is_given_up_in_time(
    connect: Callable[..., SSHHost], peer: SSHPeer
) -> None:
    peer.stall()
    told = await refusal(connect(connect_timeout=0.3))
    assert "did not answer" in told or "cannot be reached" in told


async def test_a_peer_that_stalls_later_is_noticed_by_keepalives(
    connect: Callable[..., SSHHost], peer: SSHPeer
) -> None:
    host = connect(keepalive_interval=0.5, keepalive_count=2)
    connection = await host.connection()
    peer.stall()
    async with asyncio.timeout(60):
        await connection.wait_closed()
    assert not host.connected
    peer.resume()
    await host.connection()


async def test_a_peer_that_is_no_ssh_server_is_told(connect: Callable[..., SSHHost]) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert "cannot be reached" in await refusal(connect(port=port))


async def test_an_ssh_config_is_honoured(connect: Callable[..., SSHHost], peer: SSHPeer) -> None:
    host = connect(
        host="peer", port=None, user=None, known_hosts=None, identity_files=[], config=peer.config
    )
    await host.connection()
    assert host.name == "peer"


@BY_ASYNCSSH
async def test_a_fast_cipher_is_agreed_on(
    connect: Callable[..., SSHHost], peer: SSHPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await connect().connection()
    assert connection.get_extra_info("send_cipher") == "aes128-gcm@openssh.com"


@BY_ASYNCSSH
async def test_not_more_connections_are_begun_at_once_than_sshd_takes(
    connect: Callable[..., SSHHost], peer: SSHPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CONNECTS_AT_ONCE", 2)
    login = connect()
    nodes = [
        SSHHost(login.settings, host=peer.host, port=peer.port, through=login) for _ in range(5)
    ]
    busy = most = 0
    first_command = connection_module._first_command

    async def counted(connection: Any) -> str:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        try:
            return await first_command(connection)
        finally:
            busy -= 1

    monkeypatch.setattr(connection_module, "_first_command", counted)
    await asyncio.gather(*(node.connection() for node in nodes))
    assert most <= 2
    await asyncio.gather(*(node.close() for node in nodes))


@BY_ASYNCSSH
async def test_a_node_behind_a_login_host_that_is_down_is_told_as_that(
    connect: Callable[..., SSHHost], peer: SSHPeer
) -> None:
    login = connect(port=1)
    node = SSHHost(login.settings, host="node1", port=22, through=login)
    assert f"The SSH host {peer.host} cannot be reached" in await refusal(node)


async def test_closing_while_connecting_leaves_nothing(
    connect: Callable[..., SSHHost], peer: SSHPeer
) -> None:
    host = connect()
    waiting = asyncio.create_task(host.connection())
    await asyncio.sleep(0.01)
    await host.close()
    await asyncio.wait([waiting], timeout=60)
    assert waiting.done()
    assert not host.connected


# -- a name with several addresses


class Silent:
    """An address beside the peer's own, on the same port: it takes connections, or not even that,
    and says nothing."""

    def __init__(self, address: str, port: int, *, takes: bool) -> None:
        self.address = address
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((address, port))
        self._listener.listen(16 if takes else 0)
        self._queue: list[socket.socket] = []
        while not takes and len(self._queue) < 3:  # a full queue drops what comes
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex((address, port))
            self._queue.append(client)

    def close(self) -> None:
        for each in (self._listener, *self._queue):
            each.close()


@pytest.fixture
def addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str, list[str]], None]:
    """Gives a name these addresses."""
    resolve = socket.getaddrinfo

    def give(name: str, found: list[str]) -> None:
        def getaddrinfo(host: Any, *rest: Any, **more: Any) -> Any:
            hosts = found if host == name else [host]
            return [each for one in hosts for each in resolve(one, *rest, **more)]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return give


@BY_ASYNCSSH
@pytest.mark.parametrize("takes", [False, True], ids=["unreachable", "frozen"])
async def test_an_address_that_is_silent_is_followed_by_the_next(
    connect: Callable[..., SSHHost],
    peer: SSHPeer,
    addresses: Callable[[str, list[str]], None],
    takes: bool,
) -> None:
    known = peer.known_hosts.read_text()
    peer.known_hosts.write_text(known + known.replace("127.0.0.1", "login.test"))
    addresses("login.test", ["127.0.0.2", "127.0.0.1"])
    silent = Silent("127.0.0.2", peer.port, takes=takes)
    try:
        host = connect(host="login.test", connect_timeout=3)
        async with asyncio.timeout(30):
            first = await host.connection()
        peer.drop()
        await first.wait_closed()
        began = time.monotonic()
        await host.connection()
        assert time.monotonic() - began < 3  # the one that answered is now the first
    finally:
        silent.close()


@BY_ASYNCSSH
async def test_when_all_addresses_are_silent_that_is_told(
    connect: Callable[..., SSHHost],
    peer: SSHPeer,
    addresses: Callable[[str, list[str]], None],
) -> None:
    addresses("login.test", ["127.0.0.2", "127.0.0.3"])
    silent = [Silent(each, peer.port, takes=True) for each in ("127.0.0.2", "127.0.0.3")]
    try:
        told = await refusal(connect(host="login.test", connect_timeout=0.5))
        assert "did not answer within 0.5 s" in told
    finally:
        for each in silent:
            each.close()


@BY_ASYNCSSH
async def test_an_address_with_another_key_is_not_passed_over(
    connect: Callable[..., SSHHost],
    peer: SSHPeer,
    addresses: Callable[[str, list[str]], None],
) -> None:
    addresses("login.test", ["127.0.0.1", "127.0.0.1"])
    peer.rotate_host_key()
    assert "did not show a host key" in await refusal(connect(host="login.test"))
    assert peer.connections == 1


# -- what an ssh_config may say


@pytest.fixture
def configured(
    connect: Callable[..., SSHHost], peer: SSHPeer, tmp_path: Path
) -> Callable[..., SSHHost]:
    """Makes hosts of which only an ssh_config with these lines knows anything."""

    def make(*lines: str, host: str = "peer", **changes: Any) -> SSHHost:
        peer.config.write_text("\n".join(lines) + "\n" + PEER.format(peer=peer))
        peer.config.chmod(0o600)
        bare = {"port": None, "user": None, "known_hosts": None, "identity_files": []}
        return connect(**{"host": host, "config": peer.config, **bare, **changes})

    return make


PEER = """
Host peer
  HostName {peer.host}
  Port {peer.port}
  User {peer.user}
  IdentityFile "{peer.client_key}"
  UserKnownHostsFile "{peer.known_hosts}"
"""

OFF = "StrictHostKeyChecking no"


@pytest.mark.parametrize(
    "lines",
    [
        ("UserKnownHostsFile none", OFF),
        ("UserKnownHostsFile NONE", "StrictHostKeyChecking yes"),
        ("UserKnownHostsFile none", "GlobalKnownHostsFile none"),
        ("UserKnownHostsFile /dev/null", OFF),
        ("UserKnownHostsFile /no/such/file", OFF),
        ("Host pe*", "UserKnownHostsFile none", OFF),
        ("Match final all", "UserKnownHostsFile none", OFF),
        (OFF, "CheckHostIP no", "VerifyHostKeyDNS yes", "NoHostAuthenticationForLocalhost yes"),
        ("KnownHostsCommand /bin/echo *", OFF),
    ],
    ids=lambda lines: lines[0],
)
async def test_no_line_of_an_ssh_config_turns_the_check_of_host_keys_off(
    configured: Callable[..., SSHHost], peer: SSHPeer, lines: tuple[str, ...]
) -> None:
    peer.rotate_host_key()
    await refusal(configured(*lines))


async def test_known_hosts_of_the_settings_stand_above_an_ssh_config(
    configured: Callable[..., SSHHost], peer: SSHPeer
) -> None:
    host = configured("UserKnownHostsFile none", known_hosts=peer.known_hosts)
    await host.connection()


async def test_several_files_of_host_keys_may_be_named_and_some_be_missing(
    configured: Callable[..., SSHHost], peer: SSHPeer
) -> None:
    line = f"UserKnownHostsFile /no/such/file {peer.known_hosts}"
    await configured(line).connection()


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o622])
@pytest.mark.parametrize("what", ["config", "included", "known_hosts"])
async def test_a_file_that_others_can_change_is_not_believed(
    configured: Callable[..., SSHHost], peer: SSHPeer, tmp_path: Path, what: str, mode: int
) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "included").write_text(f"ProxyCommand touch {ran}\n")
    host = configured(f"Include {tmp_path}/included" if what == "included" else "")
    file = {"config": peer.config, "known_hosts": peer.known_hosts}
    file.get(what, tmp_path / "included").chmod(mode)
    told = await refusal(host)
    assert f"has the mode {mode:04o}" in told
    assert "chmod go-w" in told
    assert not ran.exists()
    assert peer.connections == 0


async def test_a_file_in_a_directory_of_others_is_not_believed(
    configured: Callable[..., SSHHost], peer: SSHPeer
) -> None:
    host = configured()
    peer.config.parent.chmod(0o775)
    assert f"others could replace what is in {peer.config.parent}" in await refusal(host)
    peer.config.parent.chmod(0o700)
    os.chown(peer.config, 12345, -1)
    assert "belongs to uid 12345" in await refusal(configured())


@pytest.mark.parametrize("mode", [0o666, 0o644, 0o640, 0o604])
async def test_a_key_that_others_can_reach_is_not_used(
    configured: Callable[..., SSHHost], connect: Callable[..., SSHHost], peer: SSHPeer, mode: int
) -> None:
    peer.client_key.chmod(mode)
    for host in (configured(), connect()):
        told = await refusal(host)
        assert f"{peer.client_key} has the mode {mode:04o}" in told
    assert peer.connections == 0


async def test_so_is_a_default_key(
    configured: Callable[..., SSHHost],
    peer: SSHPeer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    shutil.copy(peer.client_key, tmp_path / ".ssh/id_ecdsa")
    (tmp_path / ".ssh/id_ecdsa").chmod(0o666)
    settings = {"host": peer.host, "port": peer.port, "user": peer.user}
    host = configured(**settings, known_hosts=peer.known_hosts)
    assert "id_ecdsa has the mode 0666" in await refusal(host)
    (tmp_path / ".ssh/id_ecdsa").chmod(0o600)
    await host.connection()


@BY_ASYNCSSH
@pytest.mark.servers
async def test_what_an_ssh_config_would_give_to_the_host_is_not_given(
    connect: Callable[..., SSHHost], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real sshd that takes everything."""
    monkeypatch.setenv("HPCBRIDGE_STORE__URL", "s3cret")
    config = tmp_path / "config"
    config.write_text(
        "ForwardAgent yes\nSendEnv *\nSetEnv SQUEUE_FORMAT=x\nForwardX11Trusted yes\n"
        "GSSAPIDelegateCredentials yes\nRemoteCommand id\nRequestTTY force\n"
    )
    config.chmod(0o600)
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(f"{tmp_path}/a")
        monkeypatch.setenv("SSH_AUTH_SOCK", f"{tmp_path}/a")
        (tmp_path / "sshd").mkdir()
        with OpenSSHD(tmp_path / "sshd", "AcceptEnv *") as sshd:
            host = SSHHost(sshd.settings(config=config))
            connection = await host.connection()
            done = await connection.run("env; tty", check=False)
            await host.close()
    said = str(done.stdout)
    assert "PATH=" in said
    assert "not a tty" in said
    for given in ("s3cret", "SQUEUE_FORMAT", "SSH_AUTH_SOCK", "DISPLAY"):
        assert given not in said


@BY_ASYNCSSH
@pytest.mark.parametrize(
    "line", ["Ciphers 3des-cbc", "KexAlgorithms diffie-hellman-group1-sha1", "MACs hmac-md5"]
)
async def test_no_line_of_an_ssh_config_weakens_the_cryptography(
    configured: Callable[..., SSHHost], line: str
) -> None:
    connection = await configured(line).connection()
    assert connection.get_extra_info("send_cipher") == "aes128-gcm@openssh.com"


async def test_a_proxy_command_is_run_without_the_services_secrets(
    configured: Callable[..., SSHHost],
    peer: SSHPeer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HPCBRIDGE_STORE__URL", "s3cret")
    pipe = tmp_path / "pipe.py"
    pipe.write_text(PIPE)
    command = f"env > {tmp_path}/seen; exec {sys.executable} {pipe} %h %p"
    host = configured(f"ProxyCommand sh -c '{command}'")
    await host.connection()
    seen = (tmp_path / "seen").read_text()
    assert "PATH=" in seen
    assert "s3cret" not in seen


PIPE = """
import os, socket, sys, threading
line = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def back():
    while data := line.recv(65536):
        os.write(1, data)
    os._exit(0)
threading.Thread(target=back, daemon=True).start()
while data := os.read(0, 65536):
    line.sendall(data)
"""


async def test_a_jump_host_is_checked_as_every_host_is(
    configured: Callable[..., SSHHost], peer: SSHPeer, tmp_path: Path
) -> None:
    """Of the jump host, asyncssh would only ask what ssh_config says."""
    (tmp_path / "far").mkdir()
    with SSHPeer(tmp_path / "far") as far:
        far.authorized_key, far.user = peer.authorized_key, peer.user
        far.trust_host_key()
        both = peer.known_hosts.read_text() + far.known_hosts.read_text()
        peer.known_hosts.write_text(both)
        lines = ("Host far", f"HostName {far.host}", f"Port {far.port}", "ProxyJump peer")
        common = {"user": far.user, "identity_files": [peer.client_key]}
        host = configured(*lines, host="far", known_hosts=peer.known_hosts, **common)
        await host.connection()
        assert (peer.connections, far.connections) == (1, 1)
        await host.close()
        peer.rotate_host_key()
        lines = (*lines, "Host *", "UserKnownHostsFile none", OFF)
        host = configured(*lines, host="far", known_hosts=peer.known_hosts, **common)
        assert "The SSH host peer did not show a host key" in await refusal(host)
        assert far.connections == 1


async def test_jump_hosts_that_lead_in_a_circle_are_told(
    configured: Callable[..., SSHHost], peer: SSHPeer
) -> None:
    lines = ("Host a", "ProxyJump a", "Host b", "ProxyJump c,b")
    for name in ("a", "b"):
        host = configured(*lines, host=name, known_hosts=peer.known_hosts)
        assert "in a circle" in await refusal(host)


async def test_an_ssh_config_that_is_none_is_told(configured: Callable[..., SSHHost]) -> None:
    assert "cannot be understood" in await refusal(configured("Port many"))
    assert "'@:1'" in await refusal(configured("ProxyJump @:1"))


def test_an_ssh_config_says_which_keys_of_which_agent_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    key = asyncssh.generate_private_key("ssh-ed25519")
    public = tmp_path / "id.pub"
    public.write_bytes(key.export_public_key())
    config = tmp_path / "config"

    def entry(*lines: str) -> Entry:
        config.write_text("\n".join(lines))
        config.chmod(0o600)
        return entry_of(SSHSettings(host="h", config=config, known_hosts=config), "h", None)

    assert (entry("").agent, entry("").agent_keys) == ("", None)
    assert entry("IdentityAgent none").agent is None
    assert entry("IdentityAgent /run/agent").agent == "/run/agent"
    assert entry("IdentitiesOnly yes").agent is None  # there are no keys
    some = entry("IdentitiesOnly yes", f"IdentityFile {public}")
    assert some.agent == ""
    assert [each.public_data for each in some.agent_keys or []] == [key.public_data]
    assert some.identity_files == []
