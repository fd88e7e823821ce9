"""Both transports: the same tests run over each of them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import paramiko
import pytest

from hpcbridge.config import SSHSettings
from hpcbridge.ssh import SSHHost
from hpcbridge.transports.base import Transport
from hpcbridge.transports.local import LocalTransport
from hpcbridge.transports.ssh import SSHTransport
from tests.sshpeer import SSHPeer


@pytest.fixture
def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SSHPeer]:
    keep_channels(monkeypatch)
    directory = tmp_path / "peer"
    directory.mkdir()
    with SSHPeer(directory) as peer:
        yield peer


def keep_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """paramiko closes a channel that nobody refers to, even one whose command is on its way."""
    accept, kept = paramiko.Transport.accept, []

    def keeping(self: paramiko.Transport, timeout: float | None = None) -> paramiko.Channel | None:
        channel = accept(self, timeout)
        kept.append(channel)
        return channel

    monkeypatch.setattr(paramiko.Transport, "accept", keeping)


@pytest.fixture
def settings(peer: SSHPeer) -> SSHSettings:
    return SSHSettings(
        host=peer.host,
        port=peer.port,
        user=peer.user,
        known_hosts=peer.known_hosts,
        identity_files=[peer.client_key],
        connect_timeout=2,
    )


@pytest.fixture
async def host(settings: SSHSettings) -> AsyncIterator[SSHHost]:
    host = SSHHost(settings)
    yield host
    await host.close()


@pytest.fixture
async def ssh(host: SSHHost) -> AsyncIterator[SSHTransport]:
    transport = SSHTransport(host)
    yield transport
    await transport.close()


@pytest.fixture(params=["local", "ssh"])
def transport(request: pytest.FixtureRequest) -> Transport:
    if request.param == "local":
        return LocalTransport()
    found: Transport = request.getfixturevalue("ssh")
    return found
