"""The service as its users run it: a process, a configuration file, a port."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx
import tomli_w

READY = re.compile(r"^hpcbridge ready on (\S+?)/?$")


class ServiceProcess:
    """``hpcbridge serve`` with a given configuration; use it in a ``with`` block.

    ``url`` is where it listens, without a slash at its end; ``http`` is a client of it for tests
    that wait for each answer, and :meth:`client` makes one for those that do not.
    """

    program = ("-m", "hpcbridge")
    """Python's arguments for the command ``hpcbridge``."""

    def __init__(
        self, folder: Path, config: dict[str, Any] | Path, *arguments: str, **environment: str
    ) -> None:
        self.folder = folder
        self.url = ""
        self.http = httpx.Client(timeout=90)
        self._arguments = arguments
        self._environment = environment
        if isinstance(config, Path):
            self.config = config
        else:
            self.config = folder / "hpcbridge.toml"
            self.config.write_text(tomli_w.dumps(config))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return when it accepts requests; what it says goes to ``service.log``."""
        command = [sys.executable, *self.program, "serve", str(self.config), *self._arguments]
        with (self.folder / "service.log").open("a") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | self._environment,
                start_new_session=True,  # as a service, without a terminal
            )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := READY.match(line.rstrip("\n")):
                self.url = found[1]
                self.http.base_url = httpx.URL(self.url)
                break
        else:
            self.wait()
            raise RuntimeError(f"the service did not start: {self.log}")
        # Whatever else it prints must not fill the pipe.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    @property
    def log(self) -> str:
        """All that it and its predecessors in this folder logged."""
        return (self.folder / "service.log").read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal; its exit status."""
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Its exit status, when it has ended; after a minute it is killed."""
        try:
            return self.process.wait(60)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()

    def post(self, body: Any, **more: Any) -> httpx.Response:
        """The answer to a launch."""
        return self.http.post("/paraview", json=body, **more)

    def state(self, session_id: str) -> str:
        """What the service tells of a session's state."""
        return str(self.http.get(f"/paraview/{session_id}").json()["state"])

    def client(self, timeout: float = 90) -> httpx.AsyncClient:
        """An HTTP client for it."""
        return httpx.AsyncClient(base_url=self.url, timeout=timeout)


Start = Callable[..., ServiceProcess]
"""Starts services with a configuration; they end with the test."""
