"""The PBS that the suite drives: the fake one of tests/fakepbs, or a site's real one.

=================================  =============================================================
HPCBRIDGE_TEST_PBS                 ``local``, or ``ssh://user@host[:port]``; nothing for the fake
HPCBRIDGE_TEST_PBS_USER            with ``local`` as root: whose jobs they are (PBS refuses root's);
                                   the user who called sudo otherwise
HPCBRIDGE_TEST_PBS_COMMANDS        directory of qsub, such as /opt/pbs/bin
HPCBRIDGE_TEST_PBS_QUEUE           queue of the jobs; the server's default otherwise
HPCBRIDGE_TEST_PBS_DIRECTORY       directory that the nodes share; the home directory otherwise
HPCBRIDGE_TEST_PBS_KNOWN_HOSTS     known_hosts file; ~/.ssh/known_hosts otherwise
HPCBRIDGE_TEST_PBS_IDENTITY        private key; what ssh would take otherwise
=================================  =============================================================
"""

import asyncio
import json
import os
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from hpcbridge.clustersettings import SSHSettings
from hpcbridge.ssh import SSHHost
from hpcbridge.transports.base import Completed, Slice, StagedFile, Transport
from hpcbridge.transports.local import LocalTransport
from hpcbridge.transports.ssh import STAGE_SCRIPT, SSHTransport, _archive

# The tests' fixtures hide these variables from the code under test, so they are read here.
GIVEN = {
    key.removeprefix("HPCBRIDGE_TEST_PBS").strip("_").lower(): value
    for key, value in os.environ.items()
    if key.startswith("HPCBRIDGE_TEST_PBS") and value
}
PLACE = GIVEN.get("", "")


class AsUser(LocalTransport):
    """This machine, under another account: what root needs to be able to submit."""

    def __init__(self, user: str) -> None:
        account = pwd.getpwnam(user)
        self._home = account.pw_dir
        # Away from a directory of root's, in which qsub could not be.
        self._prefix = ["runuser", "-u", user, "--", "env", "-C", "/", f"HOME={account.pw_dir}"]
        self._prefix += [f"USER={user}", f"LOGNAME={user}"]

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float) -> Completed:
        return await super().run([*self._prefix, *argv], stdin=stdin, timeout=timeout)

    async def home(self) -> str:
        return self._home

    async def stage(self, directory: str, files: Mapping[str, StagedFile]) -> None:
        argv = ["/bin/sh", "-c", STAGE_SCRIPT, "stage", directory]
        done = await self.run(argv, stdin=_archive(files), timeout=20)
        assert done.exit_status == 0, done.err

    async def read(self, wanted: Sequence[Slice]) -> list[bytes | None]:
        return [await self._read(each) for each in wanted]

    async def _read(self, wanted: Slice) -> bytes | None:
        script = 'tail -c "+$2" -- "$1" | head -c "$3"'
        sizes = [str(wanted.offset + 1), str(wanted.limit)]
        argv = ["/bin/sh", "-c", script, "read", wanted.path, *sizes]
        done = await self.run(argv, timeout=20)
        return done.stdout if not done.stderr else None

    async def remove(self, directory: str) -> None:
        await self.run(["rm", "-rf", "--", directory], timeout=20)


def connect() -> tuple[Transport, SSHHost | None]:
    """The way to the commands of the real PBS that is configured, and what to close after it."""
    if PLACE == "local":
        user = GIVEN.get("user") or (os.environ.get("SUDO_USER") if os.geteuid() == 0 else None)
        return (AsUser(user) if user else LocalTransport()), None
    place = urlsplit(PLACE)
    if place.scheme != "ssh" or not place.hostname:
        raise ValueError(f"HPCBRIDGE_TEST_PBS={PLACE!r}: give local or ssh://user@host[:port]")
    identity = GIVEN.get("identity")
    host = SSHHost(
        SSHSettings(
            host=place.hostname,
            port=place.port,
            user=place.username,
            known_hosts=Path(GIVEN["known_hosts"]) if "known_hosts" in GIVEN else None,
            identity_files=[Path(identity)] if identity else [],
        )
    )
    return SSHTransport(host), host


def command(name: str) -> str:
    """One of the real PBS's commands."""
    return f"{GIVEN['commands']}/{name}" if "commands" in GIVEN else name


@dataclass(frozen=True)
class Facts:
    """What the real server says of itself."""

    history: bool
    hosts: frozenset[str]


async def ask() -> Facts:
    """Ask the real server whether it keeps a history, and for its nodes."""
    transport, login = connect()
    try:
        server = await transport.run([command("qstat"), "-B", "-f", "-F", "json"], timeout=20)
        if server.exit_status != 0:
            raise RuntimeError(f"the PBS of HPCBRIDGE_TEST_PBS does not answer: {server.err}")
        whoami = await transport.run(["id", "-u"], timeout=20)
        if whoami.out.strip() == "0" and "acl_roots" not in server.out:
            raise RuntimeError(
                "PBS refuses root's jobs; set HPCBRIDGE_TEST_PBS_USER to whose jobs they shall be"
            )
        nodes = await transport.run([command("pbsnodes"), "-a", "-F", "json"], timeout=20)
    finally:
        await transport.close()
        if login is not None:
            await login.close()
    about = next(iter(json.loads(server.out)["Server"].values()))
    hosts = set()
    for name, node in json.loads(nodes.out).get("nodes", {}).items():
        full = str(node.get("Mom", name))
        hosts |= {name, full, full.partition(".")[0]}
    return Facts(str(about.get("job_history_enable")) == "True", frozenset(hosts))


FACTS = asyncio.run(ask()) if PLACE else None
"""None for the fake server."""
