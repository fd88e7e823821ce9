"""A login host of one account: a real sshd on loopback, whose logins find the commands given."""

import contextlib
import os
import pwd
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from testbed.accounts import make_key
from testbed.daemons import program
from tests.waiting import wait_until

HOST = "127.0.0.1"

# As where administrators set the PATH for logins without a terminal, and a shell start-up file
# prints: bash reads BASH_ENV then.
CONFIG = """\
ListenAddress {host}:{port}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/identity.pub
PidFile none
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
StrictModes no
SetEnv PATH={commands}:/usr/bin:/bin BASH_ENV={directory}/start-up
Subsystem sftp internal-sftp
"""


@contextlib.contextmanager
def running(directory: Path, commands: Path) -> Iterator[dict[str, str]]:
    """While it runs: the variables of tests/pbs/site.py that lead to it."""
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    (directory / "start-up").write_text("echo Welcome; echo no module of your list: {1..99} >&2\n")
    make_key(directory / "identity", "the suite")
    key = make_key(directory / "host_key", HOST)
    (directory / "known_hosts").write_text(f"[{HOST}]:{port} {key}\n")
    config = directory / "sshd_config"
    values = {"host": HOST, "port": port, "directory": directory, "commands": commands}
    config.write_text(CONFIG.format(**values))
    with contextlib.suppress(PermissionError):
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd's own, where root's locks itself up
    user, log = pwd.getpwuid(os.geteuid()).pw_name, directory / "sshd.log"
    with subprocess.Popen([program("sshd"), "-D", "-f", config, "-E", log]) as process:
        try:
            wait_until(lambda: _accepts(port), "sshd")
            yield {
                "HPCBRIDGE_TEST_PBS": f"ssh://{user}@{HOST}:{port}",
                "HPCBRIDGE_TEST_PBS_KNOWN_HOSTS": str(directory / "known_hosts"),
                "HPCBRIDGE_TEST_PBS_IDENTITY": str(directory / "identity"),
                "HPCBRIDGE_TEST_PBS_DIRECTORY": str(directory),
            }
        finally:
            process.terminate()


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
        return True
    return False
