"""A private Kerberos realm of MIT's on loopback, for an sshd and an account that runs the tests.

with Realm(tmp_path) as realm:
    realm.environment      # for sshd, and for who has the ticket
    realm.log_in("root")   # as kinit(1) does; realm.log_out()
"""

import os
import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.waiting import wait_until

NAME = "EXAMPLE.TEST"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

CONFIG = """
[libdefaults]
  default_realm = {realm}
  dns_lookup_kdc = false
  dns_lookup_realm = false
  dns_canonicalize_hostname = false
  rdns = false
  udp_preference_limit = 1
[realms]
  {realm} = {{
    kdc = 127.0.0.1:{port}
    kdc_listen = 127.0.0.1:{port}
    kdc_tcp_listen = 127.0.0.1:{port}
    database_name = {directory}/principal
    key_stash_file = {directory}/stash
    admin_keytab = {directory}/admin.keytab
    acl_file = {directory}/acl
  }}
[domain_realm]
  localhost = {realm}
"""


class Realm:
    """The key distribution centre. ``environment`` names a keytab that has ``host/localhost``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.environment = {
            "KRB5_CONFIG": f"{directory}/krb5.conf",
            "KRB5_KDC_PROFILE": f"{directory}/krb5.conf",
            "KRB5_KTNAME": f"{directory}/host.keytab",
            "KRB5CCNAME": f"FILE:{directory}/tickets",
        }

    def __enter__(self) -> Self:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        text = CONFIG.format(realm=NAME, port=self._port, directory=self.directory)
        (self.directory / "krb5.conf").write_text(text)
        self._run("kdb5_util", "create", "-s", "-P", "master", "-r", NAME)
        self._admin("addprinc -randkey host/localhost")
        self._admin(f"ktadd -k {self.directory}/host.keytab host/localhost")
        program = shutil.which("krb5kdc", path=PATH)
        assert program, "these tests need MIT's krb5kdc"
        pid = f"{self.directory}/pid"
        self._process = subprocess.Popen([program, "-n", "-P", pid], env=self._environment)
        wait_until(self._listens, "krb5kdc")
        return self

    def log_in(self, name: str) -> None:
        """Have a ticket of this name."""
        keytab = f"{self.directory}/{name}.keytab"
        self._admin(f"addprinc -randkey {name}")
        self._admin(f"ktadd -k {keytab} {name}")
        self._run("kinit", "-k", "-t", keytab, name)

    def log_out(self) -> None:
        """Have none."""
        self._run("kdestroy")

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment}

    def _admin(self, command: str) -> None:
        self._run("kadmin.local", "-r", NAME, "-q", command)

    def _run(self, name: str, *arguments: str) -> None:
        program = shutil.which(name, path=PATH)
        assert program, f"these tests need MIT's {name}"
        command = [program, *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def _listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self._port)) == 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(60)
