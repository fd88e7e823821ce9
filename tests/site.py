"""A site in a directory: tiny real applications, a configuration that offers them, a service."""

import contextlib
import copy
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import tomli_w

from hpcbridge import service
from hpcbridge.api import create_app
from hpcbridge.config import file as configfile
from hpcbridge.config.settings import Settings
from hpcbridge.sessions.manager import Sessions
from hpcbridge.store import SessionRow
from tests.processes import marked
from tests.programs import PYTHON
from tests.serviceprocess import ServiceProcess

# Listens on the port it is given, says so without a newline (as wslink does), stays for ever.
SERVER = f"""#!{PYTHON} -SE
import os, socket, sys, time
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
server = socket.create_server((options["--host"], int(options["--port"])))
print("arguments", sys.argv[1:], flush=True)
os.write(1, b"wslink: Starting factory")
while True:
    connection, _ = server.accept()
    connection.close()
"""


PROGRAMS = {
    "server": SERVER,
    "crash": "#!/bin/sh\necho 'cannot open display: mist'\nexit 7\n",
    "mute": "#!/bin/sh\necho 'still loading the data'\nexec sleep 1000\n",
    "late": f"#!{PYTHON} -SE\nimport time\ntime.sleep(1000)\n",
}


@dataclass
class Site:
    """A configuration as a dict, the file it is written to, and what is left on this machine."""

    root: Path
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.root / "hpcbridge.toml"

    @property
    def state_dir(self) -> Path:
        return self.root / "state"

    @property
    def session_root(self) -> Path:
        return self.root / "sessions"

    def write(self, **sections: Any) -> Path:
        """Write the file, with these keys put into (or on top of) the configuration."""
        config = merged(self.config, sections)
        self.path.write_text(tomli_w.dumps(config))
        return self.path

    def settings(self, **sections: Any) -> Settings:
        return configfile.load(self.write(**sections))

    def program(self, name: str, text: str) -> str:
        path = self.root / name
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    def processes(self) -> list[int]:
        """Live processes of the site's jobs: their environment names a session directory."""
        return marked(f"HPCBRIDGE_DIRECTORY={self.session_root}/")

    def logs(self) -> str:
        """What the living sessions printed."""
        paths = self.session_root.glob("*/output.log")
        return "\n".join(path.read_text(errors="replace") for path in paths)

    def directories(self) -> list[Path]:
        return list(self.session_root.iterdir()) if self.session_root.exists() else []

    def end_processes(self) -> None:
        """SIGKILL to whatever a test left; only processes of this site's sessions."""
        deadline = time.monotonic() + 60
        while (left := self.processes()) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            time.sleep(0.02)


def merged(into: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A deep merge; a value None removes the key."""
    result = copy.deepcopy(into)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def make_site(root: Path) -> Site:
    """The site of most tests: one local cluster, and an application for each way to go wrong."""
    site = Site(root)
    programs = {name: site.program(name, text) for name, text in PROGRAMS.items()}
    programs["missing"] = "/no/such/program"

    def application(program: str, **more: Any) -> dict[str, Any]:
        given = {"cluster": "here", "template": "command.sh", "wait": 60}
        return given | {"properties": {"program": programs[program]}} | more

    site.config = {
        "server": {"port": 0, "state_dir": "state", "host_names": ["portal.example.org"]},
        "clusters": {"here": {"scheduler": "local", "session_root": str(site.session_root)}},
        "applications": {
            "cone": application("server"),
            "crash": application("crash"),
            "mute": application("mute", wait=3),
            "missing": application("missing"),
            "late": application("late"),
            "tuned": application(
                "server",
                parameters={
                    "file": {"type": "str", "default": "a.vtu", "max_length": 40},
                    "level": {"type": "int", "default": 3, "min": 1, "max": 9},
                },
            ),
        },
    }
    return site


@dataclass
class Launcher:
    """The API in this process over sessions that really run."""

    client: httpx.AsyncClient
    sessions: Sessions
    settings: Settings

    async def post(self, body: Any, **more: Any) -> httpx.Response:
        return await self.client.post(self.settings.server.endpoint, json=body, **more)

    async def row(self, session_id: str) -> SessionRow:
        return await self.sessions.get(session_id)


@contextlib.asynccontextmanager
async def start_launcher(site: Site, **sections: Any) -> AsyncIterator[Launcher]:
    """``async with start_launcher(site, server={...}) as api``; its sessions end with it."""
    settings = site.settings(**sections)
    async with service.running(settings, end_sessions=True) as (sessions, _):
        transport = httpx.ASGITransport(create_app(settings, sessions))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://portal.example.org", timeout=90
        ) as client:
            yield Launcher(client, sessions, settings)


Launch = Callable[..., contextlib.AbstractAsyncContextManager[Launcher]]


class Service(ServiceProcess):
    """``hpcbridge serve`` on a test's site."""

    def __init__(self, site: Site, *arguments: str, **environment: str) -> None:
        super().__init__(site.root, site.path, *arguments, **environment)
        self.site = site
