"""The reference launcher, ``python -m wslink.launcher``, as its users run it."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from benchmarks.figures import Run, Unavailable
from benchmarks.waiting import until


class Reference:
    """wslink's launcher with one application; use it in a ``with`` block."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        folder.mkdir(parents=True)
        first = free_port()
        self._port = free_port()
        self._config = folder / "config.json"
        config = {
            "configuration": {
                "host": "127.0.0.1",
                "port": self._port,
                "endpoint": "paraview",
                "content": "",
                "proxy_file": str(folder / "proxy.txt"),
                "sessionURL": "ws://${host}:${port}/ws",
                "timeout": 25,
                "log_dir": str(folder),
                "fields": ["host", "port"],
            },
            "resources": [{"host": "127.0.0.1", "port_range": [first, first]}],
            "properties": {},
            "apps": {
                "instant": {
                    "cmd": [*command, "--host", "${host}", "--port", "${port}"],
                    "ready_line": "Starting factory",
                }
            },
        }
        self._config.write_text(json.dumps(config))

    def __enter__(self) -> "Reference":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "wslink.launcher", str(self._config)],
            cwd=self._config.parent,
            env=os.environ | {"WSLINK_LAUNCHER_GET": "1", "WSLINK_LAUNCHER_DELETE": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until(lambda: accepts(self._port), "the reference launcher listens")
        except Unavailable:
            self._stop()
            raise
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=90)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._stop()

    def _stop(self) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()

    def measure(self) -> Run:
        """Launch, and end the session."""
        began = time.perf_counter()
        reply = self._client.post("/paraview/", json={"application": "instant"})
        total = time.perf_counter() - began
        if reply.status_code != 200:
            raise Unavailable(f"the reference launcher: {reply.text}")
        session = reply.json()
        self._client.delete(f"/paraview/{session['id']}")
        until(lambda: not accepts(session["port"]), "the application has ended")
        return Run(total)


def free_port() -> int:
    """A port of 127.0.0.1 that nothing uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def accepts(port: int) -> bool:
    """Whether something accepts connections on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
