"""Write everything that the daemons and the clients read: configuration, keys, fake devices."""

from __future__ import annotations

import json
import os
import pwd
import re
import secrets
import stat
import subprocess
from pathlib import Path
from string import Template

from testbed import accounts
from testbed.daemons import program
from testbed.layout import (
    GPU_NODES,
    HEAD,
    HEAD_ADDRESS,
    HEAD_INNER_ADDRESS,
    HERE,
    MACHINES,
    NODE_ADDRESSES,
    NODES,
    REST_PORT,
    REST_USER,
    USERS,
    Layout,
    TestbedError,
)

_GPUS = 2


def prepare(layout: Layout) -> bool:
    """Write what is missing or different; True when a daemon's configuration has changed."""
    _directories(layout)
    ca = accounts.make_key(layout.user_ca, "user CA")
    _write(layout.state / "ssh/user_ca.pub", f"{ca}\n")
    _secret(layout.state / "munge/munge.key", "munge", 128)
    _secret(layout.state / "ctld/jwt_hs256.key", "slurm", 32)
    for number in range(_GPUS):
        _fake_gpu(layout.state / f"gpu/gpu{number}")
    changed = [_write(path, text) for path, text in _daemon_files(layout).items()]
    if layout.accounting:
        accounts.give(layout.state / "slurm/slurmdbd.conf", "slurm", 0o600)  # it insists
    host_keys = {
        machine: accounts.make_key(layout.state / f"ssh/host_{machine}", machine)
        for machine in MACHINES
    }
    _write(layout.known_hosts, _known_hosts(host_keys))
    _write(layout.ssh_config, _render("ssh_config", _values(layout)))
    _write(layout.description, json.dumps(_description(layout), indent=2) + "\n")
    return any(changed)


def slurm_version(layout: Layout) -> tuple[int, int]:
    """The Slurm that the cluster runs, such as (22, 5)."""
    entry = ("chroot", str(layout.root)) if layout.root else ()
    text = subprocess.run(
        [*entry, program("slurmctld"), "-V"], capture_output=True, text=True, timeout=10, check=True
    ).stdout
    if (found := re.search(r"(\d+)\.(\d+)", text)) is None:
        raise TestbedError(f"slurmctld -V says {text!r}, which is no version.")
    return int(found[1]), int(found[2])


def rest_plugins(version: tuple[int, int]) -> str:
    """What slurmrestd must load; it ends at once when it loads accounting without slurmdbd."""
    return "v0.0.36,v0.0.37,v0.0.38" if version < (23, 11) else "slurmctld"


def _directories(layout: Layout) -> None:
    if not (hosts := Path("/etc/hosts")).exists():
        # A bare Debian has none, and then there is nothing to mount the cluster's own over.
        hosts.write_text("127.0.0.1 localhost\n")
    accounts.directory(layout.state)
    for name, owner, mode in (
        ("run", "root", 0o755),
        ("log", "slurm", 0o755),
        ("slurm", "root", 0o755),
        ("ssh", "root", 0o755),
        ("sudoers.d", "root", 0o755),
        ("gpu", "root", 0o755),
        ("spool", "root", 0o755),
        ("ctld", "slurm", 0o700),
        ("munge", "munge", 0o755),
        ("rest", REST_USER, 0o755),
    ):
        accounts.directory(layout.state / name, owner, mode)
    for node in NODES:
        accounts.directory(layout.state / "spool" / node)


def _daemon_files(layout: Layout) -> dict[Path, str]:
    values = _values(layout)
    # 22.05 knows no way to go without cgroups; its v1 code merely starts and is then not used.
    plugin = "disabled" if slurm_version(layout) >= (23, 2) else "cgroup/v1"
    files = {
        layout.state / "slurm/slurm.conf": _render("slurm.conf", values),
        layout.state / "slurm/gres.conf": _render("gres.conf", values),
        layout.state / "slurm/cgroup.conf": f"CgroupPlugin={plugin}\n",
        layout.state / "slurm/hosts": _hosts(),
    }
    if layout.accounting:
        files[layout.state / "slurm/slurm.conf"] += _render("accounting.conf", values)
        files[layout.state / "slurm/slurmdbd.conf"] = _render("slurmdbd.conf", values)
    for machine in MACHINES:
        files[layout.state / f"ssh/sshd_{machine}"] = _render(
            "sshd_config", values | {"node": machine}
        )
    return files


def _values(layout: Layout) -> dict[str, str]:
    return {
        "state": str(layout.state),
        "head": HEAD,
        "head_address": HEAD_ADDRESS,
        "head_inner_address": HEAD_INNER_ADDRESS,
        "first_node": NODES[0],
        "min_job_age": "2" if layout.accounting else "60",
        "gpu_nodes": ",".join(GPU_NODES),
        "nodes": "\n".join(map(_node_line, NODES)),
        "node_pattern": "hpcb-n*",
        "user": USERS[0],
        "users": " ".join(USERS),
    }


def _node_line(node: str) -> str:
    gpus = f" Gres=gpu:h100:{_GPUS}" if node in GPU_NODES else ""
    return f"NodeName={node} NodeAddr={NODE_ADDRESSES[node]} CPUs=8 RealMemory=8000{gpus}"


def _hosts() -> str:
    names = {"localhost": "127.0.0.1", HEAD: HEAD_INNER_ADDRESS, **NODE_ADDRESSES}
    return "".join(f"{address} {name}\n" for name, address in names.items())


def _known_hosts(keys: dict[str, str]) -> str:
    names = {HEAD: f"{HEAD},{HEAD_ADDRESS},{HEAD_INNER_ADDRESS}"}
    names |= {node: f"{node},{NODE_ADDRESSES[node]}" for node in NODES}
    return "".join(f"{names[machine]} {key}\n" for machine, key in keys.items())


def _description(layout: Layout) -> dict[str, object]:
    """testbed.json: for programs in other languages, and for people."""
    return {
        "state": str(layout.state),
        "head": {"name": HEAD, "address": HEAD_ADDRESS, "ssh_port": 22},
        "nodes": NODE_ADDRESSES,
        "gpu_nodes": list(GPU_NODES),
        "partitions": ["viz", "short", "closed"],
        "slurm_version": ".".join(f"{part:02}" for part in slurm_version(layout)),
        "user": USERS[0],
        "users": {
            user: {
                "key": str(layout.client_key(user)),
                "home": pwd.getpwnam(user).pw_dir,
                "home_seen_from_outside": str(layout.home(user)),
            }
            for user in USERS
        },
        "ssh_config": str(layout.ssh_config),
        "known_hosts": str(layout.known_hosts),
        "rest_url": f"http://{HEAD_ADDRESS}:{REST_PORT}",
        "rest_socket": str(layout.rest_socket),
        "logs": str(layout.log),
    }


def _render(name: str, values: dict[str, str]) -> str:
    return Template((HERE / "conf" / name).read_text()).substitute(values)


def _write(path: Path, text: str) -> bool:
    if path.exists() and path.read_text() == text:
        return False
    path.write_text(text)
    return True


def _secret(path: Path, owner: str, size: int) -> None:
    if not path.exists():
        path.touch(0o600)
        path.write_bytes(secrets.token_bytes(size))
    accounts.give(path, owner, 0o600)


def _fake_gpu(path: Path) -> None:
    if not path.exists():
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        path.chmod(0o666)
