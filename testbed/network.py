"""The network: a namespace for each machine, a bridge in the head, a cable from here to it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path

from testbed.layout import (
    HEAD,
    HEAD_ADDRESS,
    HEAD_INNER_ADDRESS,
    MACHINES,
    NODE_ADDRESSES,
    NODE_SUBNET,
    NODES,
    OUTER_ADDRESS,
    OUTER_LINK,
    TestbedError,
)

_NAMESPACES = Path("/run/netns")


def namespace_file(machine: str) -> Path:
    """The file that stands for the machine's network namespace."""
    return _NAMESPACES / machine


def up(owner: Path) -> None:
    """Bring the network up, or complete what is there. `owner` is the state directory."""
    check_owner(owner)
    # First of all: without it, traffic for the nodes would leave by this machine's default route.
    _ip("route", "replace", "unreachable", NODE_SUBNET)
    for machine in MACHINES:
        if not is_namespace(machine):
            namespace_file(machine).unlink(missing_ok=True)
            _ip("netns", "add", machine)
        _ip_in(machine, "link", "set", "lo", "up")
    _head_up(owner)
    for node in NODES:
        _node_up(node)


def down() -> None:
    """Remove namespaces, cables and the route. Processes inside must be gone already."""
    for machine in MACHINES:
        if namespace_file(machine).exists():
            _ip("netns", "del", machine)
    if _links().get(OUTER_LINK) is not None:
        # The end of the head's namespace takes the cable along, a moment later.
        with contextlib.suppress(TestbedError):
            _ip("link", "del", OUTER_LINK)
    if any(route.get("type") == "unreachable" for route in _routes()):
        _ip("route", "del", "unreachable", NODE_SUBNET)
    mounted = f" {_NAMESPACES} " in Path("/proc/mounts").read_text()
    if mounted and not any(_NAMESPACES.iterdir()):
        # `ip netns add` has mounted it on itself; a chroot could not be removed with it.
        _call("umount", str(_NAMESPACES))


def is_up() -> bool:
    """Are the namespaces, the cable and the route there?"""
    return (
        all(is_namespace(machine) for machine in MACHINES)
        and OUTER_LINK in _links()
        and any(route.get("type") == "unreachable" for route in _routes())
    )


def is_namespace(machine: str) -> bool:
    """Is the namespace there and alive? (After a reboot or a crash an empty file may remain.)"""
    file = namespace_file(machine)
    return file.exists() and file.stat().st_dev != _NAMESPACES.stat().st_dev


def check_owner(owner: Path) -> None:
    """Refuse to touch a cluster that was brought up from another state directory."""
    link = _links().get(OUTER_LINK)
    if link is not None and link.get("ifalias") != str(owner):
        other = link.get("ifalias") or "an unknown state directory"
        raise TestbedError(
            f"A test cluster of {other} is up on this machine, and there can be only one: "
            f"take it down first (python3 -m testbed down --state {other})."
        )


def processes(machine: str) -> list[int]:
    """The processes that live in the machine's network namespace: daemons, jobs, SSH sessions."""
    if not is_namespace(machine):
        return []
    wanted = namespace_file(machine).stat()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # ended meanwhile, or a zombie
                if os.path.samestat((entry / "ns/net").stat(), wanted):
                    found.append(int(entry.name))
    return found


def set_plugged(machine: str, plugged: bool) -> None:
    """Plug or pull a cable: the head's is the one from outside, a node's the one to the head."""
    # Always the far end: with this machine's own end down, the route would go as well, and packets
    # for the head would leave by the default route.
    port = "outer" if machine == HEAD else _port(machine)
    _ip_in(HEAD, "link", "set", port, "up" if plugged else "down")


def _head_up(owner: Path) -> None:
    _cable(None, OUTER_LINK, HEAD, "outer")
    _ip("link", "set", OUTER_LINK, "alias", str(owner))
    _ip("addr", "replace", f"{OUTER_ADDRESS}/30", "dev", OUTER_LINK)
    _ip("link", "set", OUTER_LINK, "up")
    _ip_in(HEAD, "addr", "replace", f"{HEAD_ADDRESS}/30", "dev", "outer")
    _ip_in(HEAD, "link", "set", "outer", "up")
    if "inner" not in _links(HEAD):
        _ip_in(HEAD, "link", "add", "inner", "type", "bridge")
    _ip_in(HEAD, "addr", "replace", f"{HEAD_INNER_ADDRESS}/24", "dev", "inner")
    _ip_in(HEAD, "link", "set", "inner", "up")


def _node_up(node: str) -> None:
    _cable(node, "eth0", HEAD, _port(node))
    _ip_in(HEAD, "link", "set", _port(node), "master", "inner", "up")
    _ip_in(node, "addr", "replace", f"{NODE_ADDRESSES[node]}/24", "dev", "eth0")
    _ip_in(node, "link", "set", "eth0", "up")


def _cable(machine: str | None, name: str, far_machine: str, far_name: str) -> None:
    """Lay a cable unless both its ends are there; of a broken one, the rest goes first."""
    near, far = name in _links(machine), far_name in _links(far_machine)
    if near and far:
        return
    if near:
        _ip_at(machine, "link", "del", name)
    if far:
        _ip_at(far_machine, "link", "del", far_name)
    peer = ("type", "veth", "peer", "name", far_name, "netns", far_machine)
    _ip_at(machine, "link", "add", name, *peer)


def _port(node: str) -> str:
    return f"to-{node.removeprefix('hpcb-')}"


def _links(machine: str | None = None) -> dict[str, dict[str, str]]:
    # -details, because plain output leaves the alias out.
    answer = _ip_at(machine, "-details", "-json", "link", "show")
    return {link["ifname"]: link for link in json.loads(answer or "[]")}


def _routes() -> list[dict[str, str]]:
    return list(json.loads(_ip("-json", "route", "show", NODE_SUBNET) or "[]"))


def _ip_at(machine: str | None, *arguments: str) -> str:
    return _ip_in(machine, *arguments) if machine else _ip(*arguments)


def _ip_in(machine: str, *arguments: str) -> str:
    # Not `ip -n`: it changes mounts as well, and fails in a chroot.
    return _call("nsenter", f"--net={namespace_file(machine)}", "ip", *arguments)


def _ip(*arguments: str) -> str:
    return _call("ip", *arguments)


def _call(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if result.returncode:
        raise TestbedError(f"{' '.join(command)}: {result.stderr.strip()}")
    return result.stdout
