"""The service as a process that can be killed at any moment and started again at once."""

import contextlib
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import tomli_w

from benchmarks.figures import Unavailable
from benchmarks.reference import accepts, free_port
from benchmarks.resilience.asking import route
from benchmarks.waiting import until


class Victim:
    """One state directory and one port for all its lives; use it in a ``with`` block.

    At the end of the block it is killed, and what it runs on the cluster is left to whoever
    provided the cluster.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.port = folder, free_port()
        self.database = folder / "state/hpcbridge.sqlite"
        server = {"port": self.port, "state_dir": str(folder / "state")}
        self._config = folder / "hpcbridge.toml"
        self._config.write_text(tomli_w.dumps(config | {"server": server}))
        self._log = folder / "service.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._names: dict[str, str] = {}

    def __enter__(self) -> "Victim":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def spawn(self) -> None:
        """Start it, and do not wait."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hpcbridge", "serve", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def start(self) -> float:
        """Start it and wait until it accepts requests; the seconds that took."""
        began = time.monotonic()
        self.spawn()
        until(self.up, f"the service starts; it said: {self.said(500)}", limit=60)
        return time.monotonic() - began

    def up(self) -> bool:
        """Whether it accepts requests. Raises Unavailable when it has ended by itself."""
        if self._process is None or self._process.poll() is not None:
            raise Unavailable(f"the service ended by itself: {self.said(500)}")
        # It listens from the first moment on, and answers when it has started.
        if not accepts(self.port):
            return False
        with socket.create_connection(("127.0.0.1", self.port), 5) as probe:
            probe.settimeout(0.5)
            with contextlib.suppress(TimeoutError, ConnectionError):
                probe.sendall(b"GET /paraview/none HTTP/1.0\r\n\r\n")
                return probe.recv(12).startswith(b"HTTP/1.")
        return False

    def ended(self) -> bool:
        """Whether it has ended without being killed."""
        return self._process is not None and self._process.poll() is not None

    def kill(self) -> None:
        """``kill -9``."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def rows(self, columns: str, where: str = "1", *values: str) -> list[tuple[Any, ...]]:
        """What its database holds, read beside it."""
        with contextlib.closing(
            sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=10)
        ) as database:
            query = f"SELECT {columns} FROM sessions WHERE {where}"
            found: list[tuple[Any, ...]] = database.execute(query, values).fetchall()
            return found

    def name(self, session_id: str) -> str:
        """A session's job name, which is what its application answers."""
        if session_id not in self._names:
            found = self.rows("job_name, attempt", "id = ?", session_id)
            name, attempt = found[0] if found else ("(no such session)", 0)
            self._names[session_id] = f"{name}-{attempt}" if attempt else name
        return self._names[session_id]

    async def answers(self, session_id: str, *, limit: float = 15) -> bool:
        """Whether the session's own application answers at its route."""
        return await route(self.port, session_id, limit=limit) == self.name(session_id)

    def said(self, size: int) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-size:] if self._log.exists() else ""
