"""A launcher file that works, to be changed in one place."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcbridge.config.launcherjson import Translation, read
from hpcbridge.errors import ConfigError

WORKS: dict[str, Any] = {
    "configuration": {
        "host": "localhost",
        "port": 9000,
        "endpoint": "paraview",
        "proxy_file": "proxy.txt",
        "sessionURL": "ws://viz.example.org/proxy?sessionId=${id}&path=ws",
        "timeout": 25,
        "log_dir": "/tmp",
        "fields": ["file"],
    },
    "resources": [{"host": "localhost", "port_range": [9001, 9003]}],
    "properties": {"python": "/opt/pv/bin/pvpython", "dataDir": "/srv/data"},
    "apps": {
        "viewer": {
            "cmd": ["${python}", "-dr", "viewer.py", "--port", "${port}"],
            "ready_line": "Starting factory",
        }
    },
}

Change = Callable[[dict[str, Any]], Any]


def put(*path: Any) -> Change:
    """A change: the last of ``path`` is put where the others lead to."""

    def change(config: dict[str, Any]) -> None:
        inner: Any = config
        for key in path[:-2]:
            inner = inner[key]
        inner[path[-2]] = path[-1]

    return change


def without(*path: Any) -> Change:
    """A change: a key is gone."""

    def change(config: dict[str, Any]) -> None:
        inner: Any = config
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]

    return change


def written(folder: Path, *changes: Change) -> Path:
    """The file with these changes."""
    config = copy.deepcopy(WORKS)
    for change in changes:
        change(config)
    path = folder / "launcher.json"
    path.write_text(json.dumps(config, indent=2))
    return path


def translated(folder: Path, *changes: Change) -> Translation:
    return read(written(folder, *changes))


def refused(folder: Path, *changes: Change) -> str:
    """What is said of the file with these changes."""
    with pytest.raises(ConfigError) as caught:
        read(written(folder, *changes))
    return str(caught.value)


def cmd(*words: Any) -> Change:
    """A change: the application's command line."""
    return put("apps", "viewer", "cmd", list(words))
