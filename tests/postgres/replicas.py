"""Two services as processes on one database and one (fake) Slurm."""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx
import tomli_w

from testbed.postgresql import PostgreSQL
from tests.fakescheduler import FakeSlurm
from tests.programs import PYTHON
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]

# Listens on the port it is given, says so, greets whoever connects with its directory's name.
PROGRAM = f"""#!{PYTHON} -SE
import os, socket, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
server = socket.create_server((options["--host"], int(options["--port"])))
os.write(1, b"wslink: Starting factory")
while True:
    connection, _ = server.accept()
    try:
        connection.sendall(os.path.basename(os.environ["HPCBRIDGE_DIRECTORY"]).encode())
        STAY
    except OSError:
        pass  # it has gone: the launcher looks whether anybody answers
    connection.close()
"""

# The same as a WebSocket.
WEB_PROGRAM = f"""#!{PYTHON} -SE
import os, sys
sys.path[:] = {[str(ROOT), *sys.path]!r}
from aiohttp import web
from tests.frontends.session_app import SessionApp
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
app = SessionApp(os.path.basename(os.environ["HPCBRIDGE_DIRECTORY"])).application()
ready = lambda *_: os.write(1, b"wslink: Starting factory")
web.run_app(app, host=options["--host"], port=int(options["--port"]), print=ready)
"""


def greeting(session: dict[str, Any], **options: Any) -> bool:
    """Whether the session's own application greets a WebSocket that comes by its address."""

    async def visit() -> str:
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(session["sessionURL"], **options) as socket,
        ):
            return await socket.receive_str(timeout=60)

    return digest(session["id"]) in asyncio.run(visit())


def events(client: httpx.Client, session_id: str) -> Iterator[dict[str, Any]]:
    """The server-sent events of a session, for as long as somebody wants them."""
    with client.stream("GET", f"/paraview/{session_id}/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def digest(session_id: str) -> str:
    """By which a session is known in its job's name."""
    return hashlib.sha256(session_id.encode()).hexdigest()[:24]


class Replica:
    """One service; its files are in ``folder``."""

    def __init__(self, folder: Path, config: dict[str, Any], path: str) -> None:
        self.folder = folder
        folder.mkdir()
        self._config = folder / "hpcbridge.toml"
        self._config.write_text(tomli_w.dumps(config))
        self._environment = dict(os.environ, PATH=path, PYTHONPATH=str(ROOT))
        self.client = httpx.Client(timeout=90)

    def start(self, *, wait: bool = True) -> "Replica":
        command = [sys.executable, "-m", "tests.postgres.service", "serve", str(self._config)]
        with (self.folder / "log").open("ab") as log, (self.folder / "out").open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=log, env=self._environment)
        return self.ready() if wait else self

    def ready(self) -> "Replica":
        def said() -> re.Match[str] | None:
            assert self.process.poll() is None, self.log
            said = (self.folder / "out").read_text()
            return re.match(r"hpcbridge ready on (\S+/)\n", said)

        self.client.base_url = httpx.URL(wait_until(said, "its readiness")[1])
        return self

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        return self.process.wait(60)

    def launch(self, application: str = "cone", **headers: str) -> dict[str, Any]:
        reply = self.client.post("/paraview", json={"application": application}, headers=headers)
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    def begin(self, application: str = "cone") -> str:
        reply = self.client.post(
            "/paraview", json={"application": application}, headers={"Prefer": "respond-async"}
        )
        assert reply.status_code == 202, reply.text
        return str(reply.json()["id"])

    def told(self, session_id: str) -> dict[str, Any]:
        reply = self.client.get(f"/paraview/{session_id}")
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    def events(self, session_id: str) -> Iterator[dict[str, Any]]:
        """What is told of a session as it happens, until it has ended."""
        return events(self.client, session_id)

    def becomes(self, session_id: str, state: str) -> dict[str, Any]:
        wait_until(lambda: self.told(session_id)["state"] == state, f"the state {state}")
        return self.told(session_id)

    def end_of(self, session_id: str) -> tuple[str, int] | None:
        """The local end of this replica's own tunnel."""
        url = self.told(session_id).get("sessionURL")
        place = urlsplit(url or "")
        known = url and place.hostname and place.port
        return (str(place.hostname), int(place.port or 0)) if known else None

    def reaches(self, session_id: str) -> bool:
        """Whether the session's own application answers through this replica's tunnel."""
        end = self.end_of(session_id)
        with contextlib.suppress(OSError):
            if end is not None:
                with socket.create_connection(end, 5) as connection:
                    return digest(session_id) in connection.recv(100).decode()
        return False

    def stop(self, session_id: str) -> None:
        reply = self.client.delete(f"/paraview/{session_id}")
        assert reply.status_code == 200, reply.text


class Site:
    """A database, a Slurm, and what its replicas are made from."""

    def __init__(self, root: Path, postgresql: PostgreSQL, database: str, slurm: FakeSlurm) -> None:
        self.root = root
        self.postgresql = postgresql
        self.database = database
        self.slurm = slurm
        self.replicas: list[Replica] = []
        program = root / "server"
        program.write_text(PROGRAM.replace("STAY", ""))
        program.chmod(0o755)
        application = {
            "cluster": "here",
            "template": "command.sh",
            "wait": 30,
            "properties": {"program": str(program)},
        }
        self.config: dict[str, Any] = {
            "server": {"port": 0, "session_url": "tcp://${host}:${port}/?id=${id}"},
            "store": {"url": postgresql.url(database)},
            "clusters": {
                "here": {
                    "scheduler": "slurm",
                    "session_root": str(root / "sessions"),
                    "command_timeout": 2,
                    "grace": 1.0,
                    "python": sys.executable,
                }
            },
            "applications": {"cone": application},
        }

    def replica(self, **applications: dict[str, Any]) -> Replica:
        number = len(self.replicas)
        folder = self.root / f"replica-{number}"
        config = json.loads(json.dumps(self.config))
        config["server"]["state_dir"] = str(folder / "state")
        for name, changes in applications.items():
            config["applications"][name] = config["applications"]["cone"] | changes
        made = Replica(folder, config, f"{self.slurm.bin}:{os.environ['PATH']}")
        self.replicas.append(made)
        return made

    def behind_proxies(self) -> None:
        """Sessions are WebSockets, reached through the services' own front ends."""
        program = self.root / "web"
        program.write_text(WEB_PROGRAM)
        program.chmod(0o755)
        self.config["applications"]["cone"] |= {"properties": {"program": str(program)}, "wait": 90}
        self.config["server"] = {"port": 0, "trusted_proxies": ["127.0.0.1"]}

    def staying(self) -> dict[str, str]:
        """Properties of an application that stays connected for as long as its client does."""
        program = self.root / "staying"
        program.write_text(PROGRAM.replace("STAY", "connection.recv(1)"))
        program.chmod(0o755)
        return {"program": str(program)}

    def ask(self, query: str) -> list[str]:
        return self.postgresql.ask(self.database, query)

    @property
    def leader(self) -> Replica:
        """Who leads, as the logs tell."""

        def leads(replica: Replica) -> bool:
            words = re.findall(r"this replica leads(, term| no more)", replica.log)
            return bool(words) and words[-1] == ", term"

        def found() -> Replica | None:
            leading = [each for each in self.replicas if each.process.poll() is None]
            leading = [each for each in leading if leads(each)]
            return leading[0] if len(leading) == 1 else None

        return wait_until(found, "a leader")  # type: ignore[no-any-return]

    @property
    def follower(self) -> Replica:
        leader = self.leader
        return next(each for each in self.replicas if each is not leader)

    def close(self) -> None:
        for each in self.replicas:
            each.end(signal.SIGKILL)
            each.client.close()
        self.slurm.close()
