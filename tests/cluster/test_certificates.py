"""Certificates as a real sshd takes them: what lets in, for how long, and for what."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncssh
import pytest

from hpcbridge.config.clusters import SSHSettings
from hpcbridge.errors import ClusterUnreachable
from hpcbridge.identity.logins import Authority, Logins, of_authority
from hpcbridge.transports.connection import Login, SSHHost
from hpcbridge.transports.ssh import SSHTransport
from testbed.handle import Testbed


@pytest.fixture
def authority(site: Testbed) -> Authority:
    return Authority(asyncssh.read_private_key(site.layout.user_ca), lifetime=60)


@pytest.fixture
async def hosts(site: Testbed) -> AsyncIterator[list[SSHHost]]:
    made: list[SSHHost] = []
    yield made
    for each in made:
        await each.close()


@pytest.fixture
def login(site: Testbed, hosts: list[SSHHost]):
    """Makes a connection to the head with a login, or to a node through it."""

    def made(login: Login, node: str | None = None, through: SSHHost | None = None) -> SSHHost:
        settings = SSHSettings(host=site.head, config=site.ssh_config, connect_timeout=5)
        port = 22 if node else None
        host = SSHHost(settings, host=node, port=port, through=through, login=login)
        hosts.append(host)
        return host

    return made


def logins(authority: Authority, least_uid: int = 1000) -> Logins:
    return of_authority(authority, least_uid)


async def refusal(host: SSHHost) -> str:
    with pytest.raises(ClusterUnreachable) as caught:
        await host.connection()
    assert caught.value.lasting
    return str(caught.value)


async def test_a_certificate_lets_its_account_in(authority: Authority, login) -> None:
    transport = SSHTransport(login(logins(authority).to_commands("bob")))
    assert (await transport.run(["id", "-un"], timeout=10)).out == "bob\n"
    assert await transport.home() == "/home/bob"


@pytest.mark.parametrize("shift", [-3600, 3600], ids=["after its time", "before its time"])
async def test_a_certificate_out_of_its_time_is_refused(
    authority: Authority, login, shift: float
) -> None:
    late = replace(authority, clock=lambda: time.time() + shift)
    said = await refusal(login(logins(late).to_commands("bob")))
    assert "refused the login of 'bob'" in said
    assert "the clocks must agree" in said


async def test_a_certificate_for_another_account_is_refused(authority: Authority, login) -> None:
    bobs = logins(authority).to_commands("bob")
    said = await refusal(login(replace(bobs, account="alice")))
    assert "refused the login of 'alice'" in said


async def test_a_certificate_of_another_ca_is_refused_with_our_ca_s_fingerprint(
    authority: Authority, login
) -> None:
    other = replace(authority, key=asyncssh.generate_private_key("ssh-ed25519"))
    said = await refusal(login(logins(other).to_commands("bob")))
    assert f"TrustedUserCAKeys with the key {other.fingerprint}" in said


async def test_a_certificate_is_good_only_from_where_it_says(authority: Authority, login) -> None:
    elsewhere = replace(authority, source_addresses=("192.0.2.0/24",))
    assert "refused the login" in await refusal(login(logins(elsewhere).to_commands("bob")))
    here = replace(authority, source_addresses=("10.177.3.0/24",))
    assert await login(logins(here).to_commands("bob")).connection()


async def test_a_certificate_gives_no_terminal(authority: Authority, login) -> None:
    connection = await login(logins(authority).to_commands("bob")).connection()
    with pytest.raises(asyncssh.ChannelOpenError, match="PTY"):
        await connection.run("tty", term_type="xterm", check=False)


async def test_a_certificate_for_nodes_forwards_ports_and_runs_nothing(
    authority: Authority, login, site: Testbed
) -> None:
    both = logins(authority)
    head = login(both.to_commands("bob"))
    node = login(both.to_nodes("bob"), site.nodes[0], head)
    connection = await node.connection()
    done = await connection.run("id; touch /tmp/hpcb-never", input="echoed", check=False)
    assert done.stdout == "echoed"
    reader, writer = await connection.open_connection("127.0.0.1", 22)
    assert (await reader.readline()).startswith(b"SSH-2.0")
    writer.close()


async def test_an_account_with_a_small_number_on_the_cluster_is_not_used(
    authority: Authority, login
) -> None:
    said = await refusal(login(logins(authority, least_uid=60_000).to_commands("bob")))
    assert "The account 'bob' is not used" in said


async def test_a_connection_that_is_kept_outlives_its_certificate_and_the_next_has_a_new_one(
    authority: Authority, login, site: Testbed
) -> None:
    ends = time.time() + 8  # for the login, on a slow machine too
    clock = [ends - authority.lifetime]
    host = login(logins(replace(authority, clock=lambda: clock[0])).to_commands("bob"))
    transport = SSHTransport(host)
    await transport.run(["true"], timeout=10)
    clock[0] = time.time() - 3600
    await asyncio.sleep(ends + 1 - time.time())
    assert (await transport.run(["id", "-un"], timeout=10)).out == "bob\n"
    site.drop_ssh("head")
    await (await host.connection()).wait_closed() if host.connected else None
    assert "refused the login" in await refusal(host)
    clock[0] = time.time()
    assert (await transport.run(["id", "-un"], timeout=10)).out == "bob\n"
