"""The PBS that the suite drives: the fake one of tests/fakepbs, or a site's real one.

=================================  =============================================================
HPCBRIDGE_TEST_PBS                 ``local``, or ``ssh://user@host[:port]``; nothing for the fake
HPCBRIDGE_TEST_PBS_USER            with ``local`` as root: whose jobs they are (PBS refuses root's);
                                   the user who called sudo otherwise
HPCBRIDGE_TEST_PBS_COMMANDS        directory of qsub; otherwise the PATH, then PBS_EXEC of
                                   /etc/pbs.conf, then /opt/pbs/bin
HPCBRIDGE_TEST_PBS_QUEUE           queue of the jobs; the server's default otherwise
HPCBRIDGE_TEST_PBS_OPTIONS         what else qsub has to be told, such as ``-A viz``
HPCBRIDGE_TEST_PBS_DIRECTORY       directory that the nodes share; the home directory otherwise
HPCBRIDGE_TEST_PBS_PATIENCE        seconds in which any job starts, and any ends (300)
HPCBRIDGE_TEST_PBS_INTERVAL        seconds between two commands (0.5): with fewer, the host may run
                                   out of privileged ports, of which each takes two for a minute
HPCBRIDGE_TEST_PBS_CROWD           ``no`` leaves out the test that has a thousand jobs wait
HPCBRIDGE_TEST_PBS_KNOWN_HOSTS     known_hosts file; ~/.ssh/known_hosts otherwise
HPCBRIDGE_TEST_PBS_IDENTITY        private key; what ssh would take otherwise
=================================  =============================================================
"""

import asyncio
import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from hpcbridge.config.clusters import SSHSettings
from hpcbridge.errors import BridgeError
from hpcbridge.schedulers.pbs.commands import Commands
from hpcbridge.schedulers.pbs.readers import read_section
from hpcbridge.transports.base import Completed, Transport
from hpcbridge.transports.connection import SSHHost
from hpcbridge.transports.local import LocalTransport
from hpcbridge.transports.ssh import SSHTransport
from tests.pbs.asuser import AsUser

# The tests' fixtures hide these variables from the code under test, so they are read here.
GIVEN = {
    key.removeprefix("HPCBRIDGE_TEST_PBS").strip("_").lower(): value
    for key, value in os.environ.items()
    if key.startswith("HPCBRIDGE_TEST_PBS") and value
}
PLACE = GIVEN.get("", "")
PATIENCE, INTERVAL = float(GIVEN.get("patience", 300)), float(GIVEN.get("interval", 0.5))
LIMIT = 6 * PATIENCE if PLACE else 600
"""Seconds that one test may take: some wait for two jobs, and all for the end of what they left."""

CROWD = 1100
"""Jobs of one account that wait in the test of a crowd, and some to spare."""

FIND = """
if command -v qsub >/dev/null; then echo PATH; exit; fi
if [ -r /etc/pbs.conf ]; then . /etc/pbs.conf; fi
PATH="$PBS_EXEC/bin:/opt/pbs/bin"
command -v qsub
"""

Attributes = dict[str, str]


class Unusable(Exception):
    """Why no suite can run on this PBS, and what to do."""


@dataclass(frozen=True)
class Facts:
    """What the real server says of itself; ``commands`` is None where they are in the PATH."""

    commands: str | None
    directives: str
    history: bool
    roomy: bool
    hosts: frozenset[str]
    cpus: int
    summary: str


@functools.cache
def facts() -> Facts | None:
    """None for the fake server. Raises :class:`Unusable` before anything was submitted."""
    return asyncio.run(_ask()) if PLACE else None


def connect() -> tuple[Transport, SSHHost | None]:
    """The way to the commands of the real PBS that is configured, and what to close after it."""
    if PLACE == "local":
        user = GIVEN.get("user") or (os.environ.get("SUDO_USER") if os.geteuid() == 0 else None)
        try:
            return (AsUser(user) if user else LocalTransport()), None
        except KeyError as error:
            raise Unusable(f"There is no account {user!r}: see HPCBRIDGE_TEST_PBS_USER.") from error
    place = urlsplit(PLACE)
    if place.scheme != "ssh" or not place.hostname:
        raise Unusable(f"HPCBRIDGE_TEST_PBS={PLACE!r}: give local or ssh://user@host[:port].")
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


async def _ask() -> Facts:
    transport, login = connect()
    try:
        return await _facts(transport)
    except BridgeError as error:
        raise Unusable(str(error)) from error
    finally:
        await transport.close()
        if login is not None:
            await login.close()


async def _facts(transport: Transport) -> Facts:
    commands = GIVEN.get("commands") or await _find(transport)

    async def told(section: str, *argv: str) -> dict[str, Attributes]:
        return await _told(transport, section, Commands(commands).argv(*argv, "-F", "json"))

    ((server, about),) = (await told("Server", "qstat", "-B", "-f")).items()
    queues = await told("Queue", "qstat", "-Q", "-f")
    nodes = _up(await told("nodes", "pbsnodes", "-av"))
    _check_account(await transport.run(["id", "-u"], timeout=60), about)
    queue = _queue(queues, about)
    cpus = sum(int(each.get("resources_available.ncpus", 0)) for each in nodes.values())
    history = about.get("job_history_enable") == "True"
    given = [f"-q {GIVEN['queue']}"] if "queue" in GIVEN else []
    given += [GIVEN["options"]] if "options" in GIVEN else []
    return Facts(
        commands,
        "\n".join(f"#PBS {each}" for each in given),
        history,
        GIVEN.get("crowd") != "no" and _roomy(about) and _roomy(queues[queue]),
        _hosts(nodes),
        cpus,
        f"PBS {about.get('pbs_version', 'of no version')}, server {server}: queue {queue}; "
        f"nodes that are up: {len(nodes)}, with {cpus} CPUs in all; "
        f"job_history_enable = {history}.",
    )


async def _told(transport: Transport, section: str, argv: list[str]) -> dict[str, Attributes]:
    """What a command tells of the server, its queues or its nodes, by their names."""
    done = await transport.run(argv, timeout=60)
    answer = read_section(done.out, section) if done.exit_status == 0 else None
    if not answer:
        words = " ".join((done.err.strip() or done.out.strip() or "nothing").split())
        command = " ".join(argv)
        raise Unusable(f"{command} told no {section} ({done.exit_status}): {words[-500:]}")
    return answer


async def _find(transport: Transport) -> str | None:
    """The commands' directory; None where the PATH leads to them."""
    done = await transport.run(["/bin/sh", "-c", FIND], timeout=60)
    found = done.out.strip().rpartition("\n")[2]
    if done.exit_status != 0:
        raise Unusable(
            "qsub is neither in the PATH of a login without a terminal, nor where /etc/pbs.conf "
            "has PBS_EXEC, nor in /opt/pbs/bin. Set HPCBRIDGE_TEST_PBS_COMMANDS to its directory."
        )
    return None if found == "PATH" else found.rpartition("/")[0]


def _check_account(done: Completed, server: Attributes) -> None:
    if done.out.split()[-1:] == ["0"] and "acl_roots" not in server:
        raise Unusable(
            "PBS takes no jobs of root's. Set HPCBRIDGE_TEST_PBS_USER to whose jobs they shall be, "
            "or name another user in ssh://user@host."
        )


def _queue(queues: dict[str, Attributes], server: Attributes) -> str:
    """The queue that the jobs get into, where it takes and starts jobs."""
    name = GIVEN.get("queue") or server.get("default_queue", "")
    if name not in queues:
        what = f"There is no queue {name!r}" if name else "The server has no default queue"
        raise Unusable(f"{what}. Set HPCBRIDGE_TEST_PBS_QUEUE to one of: {', '.join(queues)}.")
    for attribute, cure in (("enabled", "qenable"), ("started", "qstart")):
        if queues[name].get(attribute) != "True":
            raise Unusable(f"The queue {name} is not {attribute}: {cure} {name}, or name another.")
    if server.get("scheduling") == "False":
        raise Unusable("The server starts no jobs: qmgr -c 'set server scheduling = True'.")
    return name


def _up(nodes: dict[str, Attributes]) -> dict[str, Attributes]:
    """The nodes that run jobs, now or when others have ended."""
    states = {name: each.get("state", "").split(",") for name, each in nodes.items()}
    good = {"free", "busy", "job-busy", "job-exclusive", "resv-exclusive"}
    up = {name: nodes[name] for name, each in states.items() if set(each) <= good}
    if not up:
        told = ", ".join(f"{name} is {' and '.join(each)}" for name, each in states.items())
        raise Unusable(f"No node is up: {told[:500]}. Start pbs_mom there, or pbsnodes -r NODE.")
    return up


def _hosts(nodes: dict[str, Attributes]) -> frozenset[str]:
    """Names that exec_host may have for them: a node's own, its host's, whole or short."""
    names = set(nodes)
    for each in nodes.values():
        names |= {each[key] for key in ("Mom", "resources_available.host") if key in each}
    return frozenset(names | {name.partition(".")[0] for name in names})


def _roomy(limits: Attributes) -> bool:
    """Whether no limit of pbs_server_attributes(7B) keeps a crowd of one account from waiting."""
    told = [
        value
        for name, value in limits.items()
        if re.fullmatch(r"max_queu(ed|able)|queued_jobs_threshold", name)
    ]
    # Such as 5000, or [o:PBS_ALL=5000],[u:PBS_GENERIC=200].
    return all(int(each) >= CROWD for each in re.findall(r"(?:^|=)(\d+)", "\n".join(told), re.M))
