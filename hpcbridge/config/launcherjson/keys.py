"""The keys of ``configuration`` that are one setting each."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcbridge.config.launcherjson.findings import Findings
from hpcbridge.config.launcherjson.parse import Node

Read = Callable[[Node, str, Findings], Any]


def _address(node: Node, key: str, findings: Findings) -> str | None:
    text = findings.text(node, key, "localhost")
    if text is not None and re.fullmatch(r"[A-Za-z0-9_.:-]+", text) is None:
        findings.wrong(node.at, key, f'\'{text}\' is no address; write "localhost" or "0.0.0.0".')
        return None
    return text


def _number(node: Node, key: str, findings: Findings, most: int) -> int | None:
    value = node.value
    if isinstance(value, str) and re.fullmatch(r" *[0-9]{1,9} *", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most:
        return value
    findings.wrong(node.at, key, f"must be a whole number from 1 to {most}.")
    return None


def _port(node: Node, key: str, findings: Findings) -> int | None:
    return _number(node, key, findings, 65535)


def _seconds(node: Node, key: str, findings: Findings) -> int | None:
    return _number(node, key, findings, 86400)


def _endpoint(node: Node, key: str, findings: Findings) -> str | None:
    text = findings.text(node, key, "paraview")
    if text is None:
        return None
    path = text.strip("/")
    if re.fullmatch(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*", path) is None:
        findings.wrong(node.at, key, f"'{text}' must have letters, digits, _ and - only.")
        return None
    return f"/{path}"


def _path(node: Node, key: str, findings: Findings) -> str | None:
    if node.value in ("", None):
        return None
    text = findings.text(node, key, "/srv/...")
    return (
        None if text is None else str((findings.path.parent / Path(text).expanduser()).absolute())
    )


def _log_directory(node: Node, key: str, findings: Findings) -> str | None:
    """A folder in it: ours is closed to others, and what is old in it is removed."""
    path = _path(node, key, findings)
    return None if path is None else str(Path(path) / "hpcbridge")


def _upload_directory(node: Node, key: str, findings: Findings) -> str | None:
    path = _path(node, key, findings)
    if path is not None:
        said = "files are sent by PUT to the endpoint's /uploads/NAME, and no longer to /upload."
        findings.note("uploads", node.key_at, key, said)
    return path


@dataclass(frozen=True)
class Key:
    """A key of ``configuration``. ``setting`` is ours: section and name."""

    read: Read
    setting: tuple[str, str]


KEYS: Mapping[str, Key] = {
    "host": Key(_address, ("server", "host")),
    "port": Key(_port, ("server", "port")),
    "endpoint": Key(_endpoint, ("server", "endpoint")),
    "content": Key(_path, ("server", "content")),
    "proxy_file": Key(_path, ("frontend", "map_file")),
    "timeout": Key(_seconds, ("applications", "wait")),
    "log_dir": Key(_log_directory, ("logs", "directory")),
    "upload_dir": Key(_upload_directory, ("uploads", "directory")),
}
