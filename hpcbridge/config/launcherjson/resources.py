"""``resources``: the hosts and ports that applications might have, and what they are here.

A port was a place for a session. Here each job takes a free port by itself, so the number of ports
is the number of sessions at once. The launcher started all programs on its own machine, whatever
the host was called.
"""

import socket
from collections.abc import Iterator

from hpcbridge.config.launcherjson.findings import Findings
from hpcbridge.config.launcherjson.parse import Node
from hpcbridge.config.launcherjson.tokens import Place

ELSEWHERE = (
    "is another machine. ParaViewWeb's launcher started programs on its own machine only, and a "
    "script of the site's went on from there by SSH. Here a batch system does: describe it as "
    "[clusters.NAME] in the TOML that 'hpcbridge import' prints (Slurm, PBS, Torque or Grid Engine)"
)


def slots(node: Node | None, root: Node, findings: Findings) -> int:
    """How many sessions this machine may run at once: as many as it has ports in the file."""
    if node is None:
        findings.wrong(
            root.at,
            "resources",
            'is required, such as [{ "host": "localhost", "port_range": [9001, 9100] }].',
        )
        return 1
    ports: set[int] = set()
    others: list[tuple[Place, str, str]] = []
    example = '[{ "host": "localhost", "port_range": [9001, 9100] }]'
    items = findings.items(node, "resources", example)
    before = len(findings.errors)
    for number, item in enumerate(items):
        key = f"resources[{number}]"
        members = findings.members(item, key)
        here = _host(members.get("host"), key, item.at, findings, others)
        found = _ports(members.get("port_range"), key, item.at, findings)
        if here:
            ports |= found
        for name, each in members.items():
            if name not in ("host", "port_range"):
                findings.note("clusters.here", each.key_at, f"{key}.{name}", "has no effect.")
    for at, key, host in others:
        if ports:
            findings.note("clusters.here", at, key, f"'{host}' {ELSEWHERE}. It is left out.")
        elif len(findings.errors) == before:
            findings.wrong(at, key, f"'{host}' {ELSEWHERE}.")
    if isinstance(node.value, list) and not items:
        findings.wrong(node.at, "resources", f"is empty; write {example}.")
    return max(1, len(ports))


def _host(
    node: Node | None,
    key: str,
    at: Place,
    findings: Findings,
    others: list[tuple[Place, str, str]],
) -> bool:
    """Whether the host is this machine; another one is added to ``others``."""
    if node is None:
        findings.wrong(at, f"{key}.host", 'is required, such as "localhost".')
        return False
    host = findings.text(node, f"{key}.host", "localhost")
    if host is None:
        return False
    try:
        if _is_here(host):
            return True
    except socket.gaierror as error:
        if error.errno not in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None)):
            reason = f"'{host}' could not be looked up now ({error.strerror}). Start again later."
        else:
            reason = f"there is no host '{host}'. Write \"localhost\" for this machine."
        findings.wrong(node.at, f"{key}.host", reason)
        return False
    except UnicodeError:
        findings.wrong(node.at, f"{key}.host", f"'{host}' is no host name.")
        return False
    others.append((node.at, f"{key}.host", host))
    return False


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
