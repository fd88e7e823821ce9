"""Grid Engine from inside: the first process of the machine, which starts and stops the others.

Reads words from its standard input (start, stop, freeze, thaw: the master) and answers "done". At
the end of its input it ends, and everything in its process namespace with it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from testbed.daemons import program
from testbed.gridengine.bed import ADDRESS, HOST, LIBRARY, GridEngine
from testbed.layout import USERS, Layout

_BOOTSTRAP = """\
admin_user              root
default_domain          none
ignore_fqdn             false
spooling_method         classic
spooling_lib            libspoolc
spooling_params         {common};{spool}/qmaster
binary_path             {library}
qmaster_spool_dir       {spool}/qmaster
security_mode           none
listener_threads        2
worker_threads          2
scheduler_threads       1
"""
_ENVIRONMENT = """\
pe_name            smp
slots              999
user_lists         NONE
xuser_lists        NONE
start_proc_args    NONE
stop_proc_args     NONE
allocation_rule    $pe_slots
control_slaves     FALSE
job_is_first_task  TRUE
urgency_slots      min
qsort_args         NONE
accounting_summary FALSE
"""
#: As sites have it, but quick: the scheduler looks each second, accounting is written at once.
_SCHEDULER = {"schedule_interval": "0:0:1", "flush_submit_sec": "1", "flush_finish_sec": "1"}
_QUEUE = {
    "qname": GridEngine.queue,
    "hostlist": HOST,
    "slots": str(GridEngine.slots),
    "load_thresholds": "NONE",
    "pe_list": "smp",
    "shell": "/bin/sh",
}


class Machine:
    """What runs here. Daemons are children of this process (SGE_ND keeps them from leaving)."""

    def __init__(self, state: Path) -> None:
        self.layout = Layout(state)
        self.share = state / "unpacked/usr/share/gridengine"
        self.spool = state / "spool"
        self.common = state / "sge/default/common"
        self.master: subprocess.Popen[bytes] | None = None
        self.others: list[subprocess.Popen[bytes]] = []

    def mount(self) -> None:
        """Its own host name, names of hosts, homes, processes and programs."""
        state = self.layout.state
        # In a chroot "/" need not be a mount point.
        subprocess.run(["mount", "--make-rprivate", "/"], check=False, stderr=subprocess.DEVNULL)
        (state / "hosts").write_text(f"127.0.0.1 localhost\n{ADDRESS} {HOST}\n")
        _call("hostname", HOST)
        _call("ip", "link", "set", "lo", "up")
        _call("mount", "-t", "proc", "proc", "/proc")
        _call("mount", "--bind", str(state / "hosts"), "/etc/hosts")
        _call("mount", "--bind", f"{state}/unpacked{LIBRARY}", str(LIBRARY))
        for user in USERS:
            _call("mount", "--bind", str(self.layout.home(user)), f"/home/{user}")

    def install(self) -> None:
        """What Debian's package does when it is installed, in this directory."""
        (self.common).mkdir(parents=True)
        (self.spool / "qmaster").mkdir(parents=True)
        (self.spool / "execd").mkdir()
        shutil.copytree(self.share / "util", self.layout.state / "sge/util")
        values = {"common": self.common, "spool": self.spool, "library": LIBRARY}
        (self.common / "bootstrap").write_text(_BOOTSTRAP.format(**values))
        (self.common / "act_qmaster").write_text(f"{HOST}\n")
        given = (self.share / "default-configuration").read_text()
        changes = {"execd_spool_dir": str(self.spool / "execd"), "mailer": "/bin/true"}
        changes["reporting_params"] = "accounting=true reporting=false flush_time=00:00:01"
        # After an outage of the master, the node is back with its next report.
        changes["load_report_time"] = "00:00:01"
        configuration = self._write("configuration", _changed(given, changes))
        resources = self.share / "util/resources"
        _call("spoolinit", "classic", "libspoolc", f"{self.common};{self.spool}/qmaster", "init")
        _call("spooldefaults.bin", "configuration", configuration)
        _call("spooldefaults.bin", "complexes", str(resources / "centry"))
        _call("spooldefaults.bin", "usersets", str(resources / "usersets"))
        _call("spooldefaults.bin", "managers", "root")

    def configure(self) -> None:
        """What an administrator does then: a node, a queue, a parallel environment."""
        _call("qconf", "-as", HOST)
        scheduler = _changed(_call("qconf", "-ssconf"), _SCHEDULER)
        _call("qconf", "-Msconf", self._write("scheduler", scheduler))
        _call("qconf", "-Ap", self._write("smp", _ENVIRONMENT))
        _call("qconf", "-Aq", self._write("queue", _changed(_call("qconf", "-sq"), _QUEUE)))

    def start(self) -> None:
        """The master; the first time, everything."""
        first = self.master is None
        if first:
            self.mount()
            self.install()
        self.master = self._spawn(f"{LIBRARY}/sge_qmaster")
        _until(lambda: _answers("qconf", "-sh"), "the master answers")
        if first:
            (self.spool / "execd" / HOST).mkdir()
            self.others.append(self._spawn(f"{LIBRARY}/sge_execd"))
            self.configure()
            Path("/run/sshd").mkdir(exist_ok=True)
            config = f"{self.layout.state}/ssh/sshd_{HOST}"
            sshd = (program("sshd"), "-D", "-f", config, "-E", f"{self.layout.log}/sshd.log")
            self.others.append(self._spawn(*sshd))
        _until(self._node_is_there, "the node reports to the master")

    def stop(self) -> None:
        """The master."""
        assert self.master is not None
        self.master.terminate()
        self.master.wait(30)

    def signal(self, number: signal.Signals) -> None:
        """Freeze or thaw the master."""
        assert self.master is not None
        self.master.send_signal(number)

    def _node_is_there(self) -> bool:
        line = _call("qstat", "-f", "-q", GridEngine.queue).splitlines()[2].split()
        return len(line) == 5  # a sixth word tells what is wrong with the node

    def _write(self, name: str, text: str) -> str:
        path = self.layout.state / name
        path.write_text(text)
        return str(path)

    def _spawn(self, *argv: str) -> subprocess.Popen[bytes]:
        log = self.layout.log / f"{Path(argv[0]).name}.out"
        with log.open("ab") as output:
            return subprocess.Popen(
                argv,
                env={**os.environ, "SGE_ND": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )


def _changed(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text, count = re.subn(rf"(?m)^{name}\s.*$", f"{name} {value}", text)
        assert count == 1, name
    return text


def _call(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}{done.stdout.strip()}")
    return done.stdout


def _answers(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


def _until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


def main() -> None:
    """The life of the machine."""
    machine = Machine(Path(sys.argv[1]))
    actions: dict[str, Callable[[], None]] = {
        "start": machine.start,
        "stop": machine.stop,
        "freeze": lambda: machine.signal(signal.SIGSTOP),
        "thaw": lambda: machine.signal(signal.SIGCONT),
    }
    print("done", flush=True)  # it exists: now it can get its cable
    for line in sys.stdin:
        actions[line.strip()]()
        print("done", flush=True)


if __name__ == "__main__":
    main()
