"""``resources``: the hosts and ports that applications might have, and what they are here.

A port was a place for a session. Here each job takes a free port by itself, so the number of ports
is the number of sessions at once. The launcher started all programs on its own machine, whatever
the host was called; here they start on the host that has the port, by SSH.
"""

import socket
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from hpcbridge.config.hosts import HERE, HostSettings
from hpcbridge.config.launcherjson.findings import Findings
from hpcbridge.config.launcherjson.parse import Node
from hpcbridge.config.launcherjson.tokens import Place

SECTION = "clusters.here"
ELSEWHERE = (
    "is another machine, which gets its share of the sessions, by SSH and without a script of "
    "yours: the account of this service must be let in there by key, with the same number and the "
    "same files below session_root (its home by default), the folder of this file and the programs "
    "at the same place. ParaViewWeb's launcher started programs on its own machine only; if a cmd "
    "is a script that goes on by ssh, name the program instead. 'hpcbridge doctor' tells what is "
    "missing"
)
ENVIRONMENT = [
    *("DISPLAY", "XAUTHORITY", "LD_LIBRARY_PATH", "PYTHONPATH", "PV_PLUGIN_PATH"),
    *("CUDA_VISIBLE_DEVICES", "VGL_DISPLAY", "MESA_GL_VERSION_OVERRIDE"),
]
"""What applications took from the launcher's environment; they got all of it."""


def cluster(node: Node | None, root: Node, findings: Findings) -> tuple[dict[str, Any], int]:
    """The settings of the cluster that the resources are, and its slots: as many as ports."""
    ports = _ports_by_host(node, root, findings)
    slots = {host: len(found) for host, found in ports.items()}
    if set(slots) <= {HERE}:
        here = slots.get(HERE, 1)
        own = {"scheduler": "local", "slots": here, "queue": 0, "environment": ENVIRONMENT}
        return own, here
    hosts = [{"name": name, "slots": each} for name, each in slots.items()]
    found: dict[str, Any] = {"scheduler": "hosts", "hosts": hosts, "queue": 0}
    if HERE in slots:
        found["inherit"] = ENVIRONMENT
    findings.note(
        SECTION,
        (node or root).at,
        "resources",
        f"programs on other machines get nothing of this service's environment "
        f"({', '.join(ENVIRONMENT[:2])}, ...): what they need goes into environment, such as "
        '{ DISPLAY = ":0" }.',
    )
    return found, sum(slots.values())


def _ports_by_host(node: Node | None, root: Node, findings: Findings) -> dict[str, set[int]]:
    if node is None:
        findings.wrong(
            root.at,
            "resources",
            'is required, such as [{ "host": "localhost", "port_range": [9001, 9100] }].',
        )
        return {}
    ports: dict[str, set[int]] = {}
    example = '[{ "host": "localhost", "port_range": [9001, 9100] }]'
    items = findings.items(node, "resources", example)
    for number, item in enumerate(items):
        key = f"resources[{number}]"
        members = findings.members(item, key)
        host = _host(members.get("host"), key, item.at, findings)
        found = _ports(members.get("port_range"), key, item.at, findings)
        if host is not None:
            if host != HERE and host not in ports:
                findings.note(SECTION, item.at, f"{key}.host", f"'{host}' {ELSEWHERE}.")
            ports.setdefault(host, set()).update(found)
        for name, each in members.items():
            if name not in ("host", "port_range"):
                findings.note(SECTION, each.key_at, f"{key}.{name}", "has no effect.")
    if isinstance(node.value, list) and not items:
        findings.wrong(node.at, "resources", f"is empty; write {example}.")
    return ports


def _host(node: Node | None, key: str, at: Place, findings: Findings) -> str | None:
    """The host's name, ``HERE`` for this machine; None where an error was found."""
    if node is None:
        findings.wrong(at, f"{key}.host", 'is required, such as "localhost".')
        return None
    host = findings.text(node, f"{key}.host", "localhost")
    if host is None:
        return None
    try:
        if _is_here(host):
            return HERE
        HostSettings(name=host)
    except socket.gaierror as error:
        if error.errno not in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None)):
            reason = f"'{host}' could not be looked up now ({error.strerror}). Start again later."
        else:
            reason = f"there is no host '{host}'. Write \"localhost\" for this machine."
        findings.wrong(node.at, f"{key}.host", reason)
        return None
    except (UnicodeError, ValidationError):
        findings.wrong(node.at, f"{key}.host", f"'{host}' is no host name.")
        return None
    return host.lower()


def _is_here(host: str) -> bool:
    """Whether a name leads to this machine. Raises what getaddrinfo(3) does."""
    if host in ("localhost", socket.gethostname()):
        return True
    return any(_is_own(family, address) for family, address in _addresses(host))


def _addresses(host: str) -> Iterator[tuple[int, str]]:
    for family, _, _, _, address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
        yield family, str(address[0])


def _is_own(family: int, address: str) -> bool:
    """An address that can be bound is this machine's."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _ports(node: Node | None, key: str, at: Place, findings: Findings) -> set[int]:
    if node is None:
        findings.wrong(at, f"{key}.port_range", "is required, such as [9001, 9100].")
        return set()
    plain = node.plain
    whole = (
        isinstance(plain, list)
        and len(plain) == 2
        and all(isinstance(each, int) and not isinstance(each, bool) for each in plain)
    )
    if not whole or not 1 <= plain[0] <= plain[1] <= 65535:
        findings.wrong(
            node.at,
            f"{key}.port_range",
            "must be the first and the last port, such as [9001, 9100].",
        )
        return set()
    return set(range(plain[0], plain[1] + 1))
