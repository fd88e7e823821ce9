"""Commands that stall on the login host, as an ordinary account of a real sshd has them."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from hpcbridge.config.clusters import SSHSettings
from hpcbridge.errors import OutcomeUnknown
from hpcbridge.transports import sessions as manager_module
from hpcbridge.transports.base import Slice, StagedFile
from hpcbridge.transports.connection import SSHHost
from hpcbridge.transports.pipes import opener_on
from hpcbridge.transports.ssh import SSHTransport
from testbed.handle import Testbed
from tests.processes import marked
from tests.waiting import until


@pytest.fixture
async def ssh(site: Testbed) -> AsyncIterator[SSHTransport]:
    host = SSHHost(SSHSettings(host=site.head, config=site.ssh_config, connect_timeout=5))
    transport = SSHTransport(host)
    yield transport
    await transport.close()
    await host.close()


async def test_a_stalled_command_is_killed_at_once_and_leaves_room(
    ssh: SSHTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By sshd's signals; timeout(1) on the host would come later."""
    monkeypatch.setattr(manager_module, "LATE", 600.0)
    first = await ssh._host.connection()
    mark = f"HPCB_STALLED={os.getpid()}"
    argv = ["env", mark, "sh", "-c", "trap '' TERM HUP INT; sleep 900 & exec sleep 900"]
    for _ in range(4):
        asked = (ssh.run(argv, timeout=2) for _ in range(4))
        for each in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(each, OutcomeUnknown)
    pipe = await opener_on(ssh._host)(argv)
    running = asyncio.create_task(ssh.run(argv, timeout=600))
    await until(lambda: len(marked(mark)) >= 4, "the last two of them")
    running.cancel()
    await pipe.close()
    await until(lambda: not marked(mark), "the end of all of them")
    assert (await ssh.run(["echo", "1"], timeout=8)).out == "1\n"
    assert await ssh._host.connection() is first


async def test_a_file_of_two_names_is_not_read(ssh: SSHTransport) -> None:
    directory = f"{await ssh.home()}/hpcb-links"
    await ssh.stage(directory, {"output.log": StagedFile(b"mine"), "other": StagedFile(b"theirs")})
    await ssh.run(["ln", f"{directory}/other", f"{directory}/status"], timeout=8)
    wanted = [Slice(f"{directory}/{name}", 0, 9) for name in ("output.log", "status")]
    assert await ssh.read(wanted) == [b"mine", None]
    await ssh.remove(directory)
