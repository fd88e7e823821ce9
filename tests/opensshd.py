"""A private sshd of OpenSSH on loopback, for what a stand-in would only imitate (Linux, root).

with OpenSSHD(tmp_path, "MaxSessions 2") as sshd:
    SSHHost(sshd.settings())
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncssh

from hpcbridge.config.clusters import SSHSettings
from tests.waiting import wait_until

CONFIG = """
ListenAddress {address}:{port}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
"""
SFTP = "Subsystem sftp internal-sftp"


class OpenSSHD:
    """The server; who runs the test logs in. ``lines`` go into its sshd_config(5)."""

    def __init__(
        self, directory: Path, *lines: str, address: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.directory = directory
        self.address = address
        self._lines = lines if any("sftp" in each for each in lines) else (*lines, SFTP)
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.key_file = directory / "id_client"
        self.known_hosts = directory / "known_hosts"
        key = asyncssh.generate_private_key("ssh-ed25519")
        self._write("host_key", self.host_key.export_private_key().decode())
        self._write("id_client", key.export_private_key().decode())
        self._write("authorized_keys", key.export_public_key().decode())

    def _write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)
        (self.directory / name).chmod(0o600)

    def __enter__(self) -> Self:
        if not self.port:
            with socket.create_server((self.address, 0)) as free:
                self.port = free.getsockname()[1]
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd's own, where it locks itself up
        given = {"address": self.address, "port": self.port, "directory": self.directory}
        config = self.directory / "sshd_config"
        config.write_text("\n".join(self._lines) + CONFIG.format(**given))
        program = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
        assert program, "these tests need OpenSSH's sshd"
        log = f"{self.directory}/sshd.log"
        self._process = subprocess.Popen([program, "-D", "-f", str(config), "-E", log])
        wait_until(self._listens, "sshd")
        self.trust()
        return self

    def trust(self, name: str = "") -> None:
        """Write its key into ``known_hosts``, also under another name."""
        key = self.host_key.export_public_key().decode().strip()
        names = f"[{self.address}]:{self.port}" + (f",[{name}]:{self.port}" if name else "")
        self._write("known_hosts", f"{names} {key}\n")

    def settings(self, **changes: Any) -> SSHSettings:
        """What a client needs."""
        given = {
            "host": self.address,
            "port": self.port,
            "user": pwd.getpwuid(os.geteuid()).pw_name,
            "known_hosts": self.known_hosts,
            "identity_files": [self.key_file],
            "connect_timeout": 30,
        }
        return SSHSettings(**{**given, **changes})

    def _listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex((self.address, self.port)) == 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
