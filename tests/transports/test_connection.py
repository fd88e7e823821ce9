"""SSH connections: kept, shared, refused for a reason, and through a login host."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from hpcbridge.errors import ClusterUnreachable
from hpcbridge.transports import connection as connection_module
from hpcbridge.transports.connection import SSHHost
from tests.sshpeer import SSHPeer


@pytest.fixture
async def connect(peer: SSHPeer) -> AsyncIterator[Callable[..., SSHHost]]:
    """Makes hosts with these settings changed, and closes them."""
    made: list[SSHHost] = []

    def make(**changes: Any) -> SSHHost:
        made.append(SSHHost(peer.settings(**changes)))
        return made[-1]

    yield make
    for host in made:
        await host.close()


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
    assert host.home == str(peer.home)
    assert peer.connections == 1


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


async def test_a_fast_cipher_is_agreed_on(
    connect: Callable[..., SSHHost], peer: SSHPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await connect().connection()
    assert connection.get_extra_info("send_cipher") == "aes128-gcm@openssh.com"


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
