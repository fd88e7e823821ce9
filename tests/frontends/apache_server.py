"""Runs the machine's own Apache with a given virtual host, apart from any other Apache."""

import grp
import os
import secrets
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

MODULES = [
    *("mpm_event", "authn_core", "authz_core", "dir", "headers", "rewrite"),
    *("proxy", "proxy_http", "proxy_wstunnel"),
    *("slotmem_shm", "proxy_balancer", "lbmethod_byrequests"),
]
_PROGRAMS = ("apache2", "httpd")
_MODULE_DIRECTORIES = ("/usr/lib/apache2/modules", "/usr/lib64/httpd/modules")


def free_port() -> int:
    """A loopback port that is free, and that nobody gets who asks the kernel for any port.

    It is below the kernel's own range and below that of jobs: a test that runs beside this one and
    listens on port 0 cannot be given it before the caller uses it.
    """
    while True:
        port = secrets.randbelow(9000) + 10000
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class ApacheServer:
    """One Apache in the foreground, with its files in ``directory`` and one virtual host.

    ``group`` is the group of its workers: give it the map and the socket directory. As root the
    workers are www-data (or apache), otherwise they are whoever runs the tests.
    """

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._user = _worker_account() if os.getuid() == 0 else None
        self.group = grp.getgrnam(self._user).gr_gid if self._user else os.getgid()

    @property
    def error_log(self) -> str:
        return (self.directory / "error.log").read_text(errors="replace")

    def write(self, virtual_host: str) -> Path:
        """Write a main configuration with the virtual host in it; return its path."""
        modules = next(path for path in map(Path, _MODULE_DIRECTORIES) if path.is_dir())
        (self.directory / "empty").mkdir(exist_ok=True)
        lines = [
            f'ServerRoot "{self.directory}"',
            "ServerName localhost",
            f'PidFile "{self.directory}/apache.pid"',
            f'Mutex "file:{self.directory}" default',
            f'ErrorLog "{self.directory}/error.log"',
            "LogLevel warn",
            f"Listen 127.0.0.1:{self.port}",
            *(f"LoadModule {name}_module {modules}/mod_{name}.so" for name in MODULES),
            *([f"User {self._user}", f"Group {self._user}"] if self._user else []),
            "StartServers 1\nServerLimit 4\nThreadsPerChild 25\nMaxRequestWorkers 100",
            f'DocumentRoot "{self.directory}/empty"',
            '<Directory "/">\n    AllowOverride None\n    Require all denied\n</Directory>',
        ]
        config = self.directory / "apache.conf"
        config.write_text("\n".join(lines) + "\n" + virtual_host)
        return config

    def check(self, virtual_host: str) -> "subprocess.CompletedProcess[str]":
        """What ``apache2 -t`` says."""
        command = [_program(), "-t", "-f", str(self.write(virtual_host))]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def start(self, virtual_host: str, *, within: float = 60.0) -> None:
        """Start, and return when the port accepts connections (at most ``within`` seconds)."""
        command = [_program(), "-f", str(self.write(virtual_host)), "-DFOREGROUND"]
        with (self.directory / "output.log").open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + within
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (self.directory / "output.log").read_text(errors="replace")
                self.stop()
                raise RuntimeError(f"Apache did not start: {said}")

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                return True
        # Nothing tells when Apache listens; a refused connection costs nothing to try again.
        time.sleep(0.02)
        return False

    def stop(self) -> None:
        """End Apache and its workers."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None


def _program() -> str:
    for name in _PROGRAMS:
        found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if found:
            return found
    raise RuntimeError("Apache is not installed; on Debian: apt-get install apache2")


def _worker_account() -> str:
    names = {entry.gr_name for entry in grp.getgrall()}
    return next(name for name in ("www-data", "apache") if name in names)
