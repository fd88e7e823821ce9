"""The first configuration as text, with a comment for whoever goes on from there."""

import json
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from hpcbridge.plain import one_line
from hpcbridge.setup.survey import Survey

PAGE = Path(__file__).parent / "templates/hello.sh"
"""The job template of the page that shows that the way to a node is whole."""


@dataclass(frozen=True)
class Wanted:
    """What was chosen. ``login`` is the login host, "" for this machine."""

    name: str
    scheduler: str
    login: str = ""
    partition: str = ""
    account: str = ""
    port: int = 8080


def draft(wanted: Wanted, found: Survey) -> str:
    """The configuration. What nobody said for certain is marked with ``GUESS``."""
    where = f"the login host {one_line(wanted.login)}" if wanted.login else "this machine"
    told = f"; it says {one_line(found.version)}" if found.version else ""
    parts = [
        f"# Written by 'hpcbridge init' on {time.strftime('%Y-%m-%d')}, from what {where} told"
        f"{told}.\n"
        "# Lines with GUESS are not certain: look at them. Then:\n"
        "#   hpcbridge doctor FILE     is everything in order?\n"
        "#   hpcbridge serve FILE      the service, with a page\n"
        "#   hpcbridge config explain KEY    what a setting means\n\n"
        'template_dirs = ["templates"]\n',
        f'[server]\nport = {wanted.port}\nstate_dir = "state"{" " * 20}'
        "# what the service keeps; /var/lib/hpcbridge for a lasting one\n",
        _cluster(wanted, found),
        _hello(wanted),
        _paraview(wanted, found),
        _users(),
    ]
    return "\n".join(filter(None, parts))


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _cluster(wanted: Wanted, found: Survey) -> str:
    lines = [f"[clusters.{_key(wanted.name)}]", f"scheduler = {_text(wanted.scheduler)}"]
    if wanted.scheduler == "local":
        lines.append("slots = 4                            # GUESS: sessions at the same time")
        return "\n".join(lines) + "\n"
    key = "partition" if wanted.scheduler == "slurm" else "queue"
    options = {key: wanted.partition, "account": wanted.account}
    words = ", ".join(f"{name} = {_text(value)}" for name, value in options.items() if value)
    if found.partitions:
        lines.append(f"# {key.capitalize()}s: {one_line('; '.join(map(str, found.partitions)))}.")
    if found.accounts:
        lines.append(f"# Your accounts: {one_line(', '.join(found.accounts))}.")
    if found.qos:
        lines.append(f"# QOS: {one_line(', '.join(found.qos))}; choose one by options.qos.")
    if found.environments:
        lines.append(
            f"# Parallel environments: {one_line(', '.join(found.environments))} (options.pe)."
        )
    if words:
        lines.append(f"options = {{ {words} }}")
    if python := found.programs.get("python3"):
        version = f" ({one_line(found.python)})" if found.python else ""
        lines.append(f"python = {_text(python)}  # GUESS: the nodes have it, too{version}")
    shared = found.filesystem and found.filesystem in _LOCAL
    if found.home and shared:
        lines.append(
            f"# GUESS: the nodes see {one_line(found.home)}/.hpcbridge, though it is on "
            f"{one_line(found.filesystem)}; if not, name a folder that they share:\n"
            '# session_root = "/scratch/hpcbridge"'
        )
    if wanted.login:
        user, _, host = wanted.login.rpartition("@")
        lines += ["", f"[clusters.{_key(wanted.name)}.ssh]", f"host = {_text(host)}"]
        if user:
            lines.append(f"user = {_text(user)}")
    lines += [
        "",
        f"[clusters.{_key(wanted.name)}.tunnel]",
        "# GUESS: SSH to a node is allowed while a job runs there; else 'login', which goes from",
        "# the login host to the node's address.",
        'via = "node"',
    ]
    return "\n".join(lines) + "\n"


_LOCAL = frozenset(("ext3", "ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay"))


def _key(name: str) -> str:
    plain = name.replace("-", "").replace("_", "")
    return name if plain.isascii() and plain.isalnum() else _text(name)


def _hello(wanted: Wanted) -> str:
    return f"""\
# A page that the node itself serves: the quickest proof that the way to it is whole.
[applications.hello]
title = "A page from a node"
description = "Shows which node your job got, and closes the way from batch system to browser."
cluster = {_text(wanted.name)}
template = "hello.sh"
viewer = "page"
ready_port = true
walltime = 600                       # seconds
wait = 600                           # seconds that a launch may take, queue included
idle = 300                           # seconds without a viewer
"""


def _paraview(wanted: Wanted, found: Survey) -> str:
    program = found.programs.get("pvpython")
    module = next((each for each in found.modules if each.lower().startswith("paraview")), "")
    if not program and not module:
        return (
            "# No ParaView was found, neither on the PATH nor among the modules. For applications\n"
            "# of your own 'hpcbridge template list FILE' has templates, examples/ the settings.\n"
        )
    options = []
    if module:
        options.append(f"modules = {_text(module)}")
    if found.with_gpus:
        options.append("gpus = 1")
    lines = [
        "# GUESS: a trame or ParaViewWeb application of yours, on the ParaView that was found.",
        "# Name its script, and take the # away.",
        "# [applications.paraview]",
        '# title = "ParaView"',
        f"# cluster = {_text(wanted.name)}",
        '# template = "paraview.sh"',
        "# walltime = 7200",
        "# idle = 1800",
        f"# options = {{ {', '.join(options)} }}" if options else "",
        f'# properties = {{ pvpython = {_text(program or "pvpython")}, script = "/path/to/app.py", '
        "trame = true }",
    ]
    return "\n".join(filter(None, lines)) + "\n"


def _users() -> str:
    return """\
# Without [auth], everybody who reaches the port may launch: it listens on 127.0.0.1 alone. To let
# people in, see docs/operations.md (users by the web server's login, or tokens) and
# 'hpcbridge frontend --help'.
"""


def command(file: Path) -> str:
    """How the service is started with ``file``."""
    return f"hpcbridge serve {shlex.quote(str(file))}"
