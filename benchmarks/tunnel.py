"""Bytes and messages through a tunnel of either back end, beside ``ssh -N -L``."""

import contextlib
import json
import shutil
import socket
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.figures import Run, Unavailable, interleave, spread
from benchmarks.table import Row, Section
from tests.opensshd import OpenSSHD
from tests.waiting import wait_until

NAME = "tunnel"
HOW = (
    "from an application on loopback through one sshd, aes128-gcm on all sides, in turn. The "
    "peer is `ssh -N -L`. 'a GB' is the time for 1 GB (of 100 MB sent), over 1 and over 20 "
    "connections, with the speed as a share of the peer's; 'processor' is the processor time "
    "of the client's side for 1 GB (the service, and its ssh), as a multiple of the peer's. "
    "'echo' is a message of 1 kB that the application answers in two parts; its 99th "
    "percentile in each run. The bytes pass the tunnel's local end as they do after a "
    "WebSocket's handshake."
)
PEER = "ssh -N -L"
CIPHER = "aes128-gcm@openssh.com"
BLOCK = 65536
BLOCKS = 1600
MESSAGES = 300

SPEED_AIMS = {"asyncssh": 0.85, "openssh": 0.97}
PROCESSOR_AIMS = {"asyncssh": 1.8, "openssh": 1.05}


class End:
    """A tunnel in a process of its own, with a client for it."""

    def __init__(self, process: subprocess.Popen[str], client: subprocess.Popen[str]) -> None:
        self._process = process
        self._client = client

    def ask(self, question: str) -> list[float]:
        """What the client measures."""
        assert self._client.stdin
        self._client.stdin.write(f"{question}\n")
        self._client.stdin.flush()
        return [float(each) for each in _said(self._client)]

    def bulk(self, streams: int) -> Run:
        """Seconds for 1 GB; the part is processor time."""
        before = self._processor()
        (seconds,) = self.ask(f"bulk {streams} {BLOCKS}")
        used = self._processor() - before
        size = BLOCKS // streams * streams * BLOCK / 1e9
        return Run(seconds / size, {"processor": used / size})

    def echo(self) -> Run:
        """The 99th percentile of one run; the part is the median."""
        times = self.ask(f"echo {MESSAGES}")
        return Run(statistics.quantiles(times, n=100)[-1], {"median": statistics.median(times)})

    def _processor(self) -> float:
        """Seconds that the process and those it started have run."""
        return sum(map(processor, family(self._process.pid)))


def measure(runs: int, folder: Path) -> Section:
    """Both back ends and the peer, side by side."""
    if not shutil.which("sshd", path="/usr/sbin:/usr/local/sbin"):
        raise Unavailable("there is no sshd")
    (folder / "sshd").mkdir()
    with OpenSSHD(folder / "sshd") as sshd, contextlib.ExitStack() as stack:
        port = str(_said(stack.enter_context(_started("target"))))
        ends = {
            name: stack.enter_context(_end("hold", name, sshd.settings().model_dump_json(), port))
            for name in SPEED_AIMS
        }
        ends[PEER] = stack.enter_context(_peer(sshd, port))
        rows = []
        for streams in (1, 20):
            rows += _bulk(ends, streams, runs)
        rows += _echo(ends, runs)
    return Section(NAME, HOW, runs, rows)


def _bulk(ends: dict[str, End], streams: int, runs: int) -> list[Row]:
    sources: dict[str, Callable[[], Run]] = {
        name: lambda end=end: end.bulk(streams)  # type: ignore[misc]
        for name, end in ends.items()
    }
    found, rows = interleave(runs, sources), []
    for name, measured in found.items():
        of_peer = list(zip(measured, found[PEER], strict=True))
        ours = name != PEER
        speed = spread([theirs.total / our.total for our, theirs in of_peer]) if ours else None
        cost = spread(
            [our.parts["processor"] / theirs.parts["processor"] for our, theirs in of_peer]
        )
        rate = 1000 / statistics.median(each.total for each in measured)
        what = f"{name}, {streams} at once: a GB ({rate:.0f} MB/s)"
        rows.append(Row(what, spread([e.total for e in measured]), speed, SPEED_AIMS.get(name)))
        used = spread([each.parts["processor"] for each in measured])
        aim = PROCESSOR_AIMS.get(name)
        rows.append(Row("processor", used, cost if ours else None, aim, indent=True))
    return rows


def _echo(ends: dict[str, End], runs: int) -> list[Row]:
    found, rows = interleave(runs, {name: end.echo for name, end in ends.items()}), []
    for name, measured in found.items():
        rows.append(Row(f"{name}: echo, 99th percentile", spread([e.total for e in measured])))
        median = spread([each.parts["median"] for each in measured])
        rows.append(Row("median", median, indent=True))
    return rows


@contextlib.contextmanager
def _end(*part: str) -> Iterator[End]:
    with _started(*part) as process, _started("load", str(_said(process))) as client:
        yield End(process, client)


@contextlib.contextmanager
def _peer(sshd: OpenSSHD, port: str) -> Iterator[End]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        local = free.getsockname()[1]
    options = {
        "UserKnownHostsFile": sshd.known_hosts,
        "IdentityFile": sshd.key_file,
        "Ciphers": CIPHER,
        "ExitOnForwardFailure": "yes",
    }
    command = ["ssh", "-F", "none", "-N", "-L", f"127.0.0.1:{local}:127.0.0.1:{port}"]
    for name, value in options.items():
        command += ["-o", f"{name}={value}"]
    command += ["-p", str(sshd.port), sshd.address]
    with _running(subprocess.Popen(command, text=True)) as process:
        wait_until(lambda: _listens(local), PEER)
        with _started("load", str(local)) as client:
            yield End(process, client)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _started(*part: str) -> contextlib.AbstractContextManager["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "benchmarks.tunnelends", *part]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return _running(subprocess.Popen(command, text=True, **pipes))


@contextlib.contextmanager
def _running(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    with process:
        try:
            yield process
        finally:
            process.terminate()


def _said(process: "subprocess.Popen[str]") -> list[float]:
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise Unavailable("a part of it ended at once")
    found: list[float] = json.loads(line)
    return found


def processor(pid: int) -> float:
    """Seconds that a process has run; see schedstat in proc(5)."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in tasks) / 1e9


def family(pid: int) -> list[int]:
    """The process and all that it has started."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{each}/task/{each}/children").read_text()
            found += map(int, children.split())
    return found
