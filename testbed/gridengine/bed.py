"""Grid Engine from outside: bring it up, run commands in it, stop its master."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template

from testbed import accounts, cluster, packages, services
from testbed.daemons import PATH
from testbed.layout import HERE, USERS, Layout, TestbedError

HOST = "hpcb-ge"
ADDRESS, OUTER_ADDRESS = "10.177.5.2", "10.177.5.1"
#: Where Debian's programs look for their own libraries; the packages are not installed.
LIBRARY = Path("/usr/lib/gridengine")

_SSH_CONFIG = """\
Host $host
  HostName $address
Host *
  User $user
  IdentityFile "$state/id_$user"
  IdentitiesOnly yes
  UserKnownHostsFile "$state/known_hosts"
  StrictHostKeyChecking yes
  BatchMode yes
  ConnectTimeout 5
"""


class GridEngine:
    """A Grid Engine that is up, with one queue, ``viz.q``, of ``slots`` slots."""

    host = HOST
    queue = "viz.q"
    slots = 3
    user = USERS[0]

    def __init__(self, layout: Layout, process: subprocess.Popen[str]) -> None:
        self.layout = layout
        self._process = process
        self._wait_for("begin")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        self._first = children.read_text().split()[0]

    @property
    def ssh_config(self) -> Path:
        return self.layout.ssh_config

    def home(self, user: str = USERS[0]) -> Path:
        """The user's home as seen from outside."""
        return self.layout.home(user)

    def exec_args(self, user: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` on the machine as the user, in the user's home."""
        home = pwd.getpwnam(user).pw_dir
        variables = {"HOME": home, "USER": user, "LOGNAME": user, **environment(self.layout)}
        enter = ["nsenter", f"--target={self._first}", "--net", "--uts", "--mount", "--pid"]
        clean = ["env", "-i", f"--chdir={home}", *(f"{k}={v}" for k, v in variables.items())]
        return [*enter, *services.as_user(user), *clean, *argv]

    def run(
        self, user: str, argv: Sequence[str], *, text: str = "", timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` on the machine to its end. Never raises on a bad exit status."""
        return subprocess.run(
            self.exec_args(user, argv),
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def call(self, *argv: str, text: str = "") -> str:
        """Run a command as root, who is Grid Engine's manager; its output, or TestbedError."""
        done = self.run("root", argv, text=text)
        if done.returncode:
            raise TestbedError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """The master is down inside the `with` block; jobs go on."""
        self._tell("stop")
        try:
            yield
        finally:
            self._tell("start")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The master accepts inside the `with` block, and never answers."""
        self._tell("freeze")
        try:
            yield
        finally:
            self._tell("thaw")

    def delete_all(self) -> None:
        """End everybody's jobs, without waiting for the node."""
        self.run("root", ["qdel", "-f", "-u", "*"])

    def _tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        self._wait_for(word)

    def _wait_for(self, word: str) -> None:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if answer != "done\n":
            raise TestbedError(f"Grid Engine did not {word}: {answer}{_log(self.layout)}")


@contextlib.contextmanager
def running(state: Path) -> Iterator[GridEngine]:
    """Bring Grid Engine up in an empty directory that other users can enter; down afterwards."""
    cluster.check_root()
    layout = Layout(state)
    _prepare(layout)
    made = not LIBRARY.exists()
    LIBRARY.mkdir(exist_ok=True)  # what the packages' directory is mounted on, in there only
    unshare = ["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--kill-child"]
    command = [*unshare, "--propagation=unchanged", sys.executable, "-m"]
    with (
        (layout.log / "machine.log").open("w") as log,
        subprocess.Popen(
            [*command, "testbed.gridengine.machine", str(state)],
            cwd=HERE.parent,
            env={**environment(layout), "PYTHONPATH": str(HERE.parent)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            ge = GridEngine(layout, process)
            _cable(ge)
            ge._tell("start")
            yield ge
        finally:
            assert process.stdin is not None
            process.stdin.close()  # which the first process takes for the end
            process.wait(20)
            if made:
                LIBRARY.rmdir()


def environment(layout: Layout) -> dict[str, str]:
    """What Grid Engine's programs need; most sites have it set by settings.sh."""
    return {
        "PATH": f"{LIBRARY}:{PATH}",
        "SGE_ROOT": str(layout.state / "sge"),
        "SGE_CELL": "default",
        "LD_LIBRARY_PATH": str(LIBRARY),
    }


def _prepare(layout: Layout) -> None:
    for folder in (layout.state, layout.log, layout.state / "ssh"):
        accounts.directory(folder)
    accounts.prepare(layout)
    packages.unpack(layout.state / "unpacked", packages.GRIDENGINE)
    values = {"host": HOST, "node": HOST, "address": ADDRESS, "user": USERS[0]}
    values |= {"state": str(layout.state), "users": " ".join(USERS)}
    key = accounts.make_key(layout.state / f"ssh/host_{HOST}", HOST)
    # Like a site whose administrators put settings.sh where logins without a terminal read it.
    pairs = " ".join(f"{name}={value}" for name, value in environment(layout).items())
    sshd = Template((HERE / "conf" / "sshd_config").read_text()).substitute(values)
    (layout.state / f"ssh/sshd_{HOST}").write_text(f"SetEnv {pairs}\n{sshd}")
    layout.known_hosts.write_text(f"{HOST},{ADDRESS} {key}\n")
    layout.ssh_config.write_text(Template(_SSH_CONFIG).substitute(values))
    if "SUDO_UID" in os.environ:
        shutil.chown(layout.client_key(USERS[0]), int(os.environ["SUDO_UID"]))


def _cable(ge: GridEngine) -> None:
    """A cable from here to the machine; it goes with the machine's namespace."""
    _ip("link", "add", HOST, "type", "veth", "peer", "name", "eth0", "netns", ge._first)
    _ip("addr", "add", f"{OUTER_ADDRESS}/30", "dev", HOST)
    _ip("link", "set", HOST, "up")
    ge.call("ip", "addr", "add", f"{ADDRESS}/30", "dev", "eth0")
    ge.call("ip", "link", "set", "eth0", "up")


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise TestbedError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def _log(layout: Layout) -> str:
    return (layout.log / "machine.log").read_text(errors="replace")[-2000:]
