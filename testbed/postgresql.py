"""A PostgreSQL of its own: a new cluster in a temporary directory, on a free port of 127.0.0.1.

initdb(1) and postgres(1) refuse to run as root; there they run as Debian's account ``postgres``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from testbed.layout import TestbedError

ACCOUNT = "postgres"
START_LIMIT = 60.0
"""Seconds that the server may take to accept connections."""


def programs() -> Path:
    """The directory of the newest server's programs; Debian keeps them out of PATH."""
    places = list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if places:
        return max(places, key=lambda path: int(path.parent.parent.name)).parent
    found = shutil.which("initdb")
    if found is None:
        raise TestbedError("PostgreSQL is not installed. Run: python3 -m testbed install")
    return Path(found).resolve().parent


class PostgreSQL:
    """Made and started at once; :meth:`close` leaves nothing of it."""

    def __init__(self) -> None:
        self._bin = programs()
        self._process: subprocess.Popen[bytes] | None = None
        self.password = secrets.token_hex(12)
        self._account: dict[str, Any] = {}
        self.root = Path(tempfile.mkdtemp(prefix="hpcb-pg"))
        if os.geteuid() == 0:
            self._account = {"user": ACCOUNT, "group": ACCOUNT, "extra_groups": []}
            shutil.chown(self.root, ACCOUNT, ACCOUNT)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        try:
            self._initialize()
            self.start()
        except BaseException:
            self.close()
            raise

    def _initialize(self) -> None:
        password = self.root / "password"
        password.write_text(self.password)
        options = ("--username=bridge", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync",
                   "--encoding=UTF8", "--locale=C", "--pgdata=data")  # fmt: skip
        done = subprocess.run(
            [str(self._bin / "initdb"), *options],
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
            **self._account,
        )
        if done.returncode:
            raise TestbedError(f"initdb failed: {done.stderr[-1000:]}")

    def start(self) -> None:
        """Return when it accepts connections."""
        settings = (f"port={self.port}", "listen_addresses=127.0.0.1", "fsync=off",
                    f"unix_socket_directories={self.root}", "max_connections=200")  # fmt: skip
        options = [each for setting in settings for each in ("-c", setting)]
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._bin / "postgres"), "-D", "data", *options],
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the program that uses it
                **self._account,
            )
        deadline = time.monotonic() + START_LIMIT
        ready = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise TestbedError(f"PostgreSQL does not start: {(self.root / 'log').read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it as a crash would: SIGQUIT is an immediate shutdown."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)

    def url(self, database: str) -> str:
        """For SQLAlchemy."""
        return f"postgresql+asyncpg://bridge:{self.password}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """A new, empty database; its URL."""
        self.ask("postgres", f'CREATE DATABASE "{database}"')
        return self.url(database)

    def ask(self, database: str, query: str) -> list[str]:
        """The lines of the answer, columns separated by ``|``."""
        command, given = self._command(database)
        done = subprocess.run(
            [*command, "-c", query], env=given, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise TestbedError(f"psql: {done.stderr[-500:]}")
        return done.stdout.splitlines()

    @contextlib.contextmanager
    def transaction(self, database: str, queries: str) -> Iterator[None]:
        """A client that begins with these and then does nothing, inside the ``with`` block."""
        command, given = self._command(database)
        client = subprocess.Popen(command, env=given, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert client.stdin is not None
        assert client.stdout is not None
        try:
            client.stdin.write(f"{queries}\n".encode())
            client.stdin.flush()
            client.stdout.readline()
            yield
        finally:
            client.kill()
            client.communicate()

    def _command(self, database: str) -> tuple[list[str], dict[str, str]]:
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "bridge", "-d", database]
        given = {**os.environ, "PGPASSWORD": self.password}
        return [str(self._bin / "psql"), "-qAtX", *where], given

    def close(self) -> None:
        """Leave nothing."""
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)
