"""Both transports: the same tests run over each of them."""

from collections.abc import AsyncIterator

import pytest

from hpcbridge.config.clusters import SSHSettings
from hpcbridge.transports.base import Transport
from hpcbridge.transports.connection import SSHHost
from hpcbridge.transports.local import LocalTransport
from hpcbridge.transports.ssh import SSHTransport
from tests.sshpeer import SSHPeer


@pytest.fixture
def settings(peer: SSHPeer) -> SSHSettings:
    return peer.settings()


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
