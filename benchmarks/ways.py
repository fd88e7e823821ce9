"""The ways to a batch system that are measured: through an adapter, and bare."""

import asyncio
import contextlib
import functools
import json
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.figures import Run, Unavailable
from benchmarks.lab import lab
from hpcbridge.config.batchsystems import GridEngineCluster
from hpcbridge.config.clusters import SSHSettings
from hpcbridge.conformance import CountingTransport
from hpcbridge.schedulers.base import JobRequest, Scheduler, Site
from hpcbridge.schedulers.gridengine import GridEngineScheduler
from hpcbridge.schedulers.pbs import PBSScheduler
from hpcbridge.schedulers.pbs.commands import Commands
from hpcbridge.schedulers.slurm import SlurmScheduler
from hpcbridge.schedulers.slurmrest import KIND as SLURMREST
from hpcbridge.schedulers.slurmrest import SlurmRestCluster
from hpcbridge.transports.base import Completed, Transport
from hpcbridge.transports.connection import SSHHost
from hpcbridge.transports.local import LocalTransport
from hpcbridge.transports.ssh import SSHTransport
from testbed import daemons, services
from testbed import gridengine as ge_bed
from testbed.layout import TestbedError
from tests.fakepbs import FakePBS

OPERATIONS = ("submit", "query", "cancel")
CROWD = [f"hpcb-crowd-{number:04d}" for number in range(1000)]
NAMES = "".join(f"{name}\n" for name in CROWD)
Sent = Sequence[str] | httpx.Request


@dataclass(frozen=True)
class Asked:
    """A question that an adapter sent, when (monotonic seconds), and the size of the answer."""

    what: Sent
    began: float
    ended: float
    size: int


class Recorder(CountingTransport):
    """A transport that keeps the command lines."""

    def __init__(self, inner: Transport) -> None:
        super().__init__(inner)
        self.asked: list[Asked] = []

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float) -> Completed:
        began = time.perf_counter()
        done = await super().run(argv, stdin=stdin, timeout=timeout)
        self.asked.append(Asked(argv, began, time.perf_counter(), len(done.stdout)))
        return done


@dataclass
class Way:
    """One adapter. ``again`` repeats, without it, what it sent, and returns what was answered."""

    name: str
    scheduler: Scheduler
    asked: list[Asked]
    again: Callable[[Sent], str]
    request: JobRequest
    fill: Callable[[], object]
    close: Callable[[], Awaitable[object]]
    size: int = 0
    sent: dict[str, list[Sent]] = field(default_factory=dict)
    job_id: str = ""

    async def ours(self) -> Run:
        """Submit, query and cancel through the adapter."""
        parts = {}
        for operation in OPERATIONS:
            self.asked.clear()
            began = time.perf_counter()
            if operation == "submit":
                self.job_id = await self.scheduler.submit(self.request)
            elif operation == "query":
                await self.scheduler.list_jobs()
            else:
                await self.scheduler.cancel([self.job_id])
            parts[operation] = time.perf_counter() - began
            self.sent[operation] = [each.what for each in self.asked]
        return Run(sum(parts.values()), parts)

    async def bare(self) -> Run:
        """The same without it: as many questions, one after the other."""
        parts, job_id = {}, ""
        for operation in OPERATIONS:
            sent = [_of_job(each, self.job_id, job_id) for each in self.sent[operation]]
            began = time.perf_counter()
            answers = [await asyncio.to_thread(self.again, each) for each in sent]
            parts[operation] = time.perf_counter() - began
            job_id = job_id or _job_id(answers[-1])
        return Run(sum(parts.values()), parts)

    async def query(self) -> Run:
        """One listing."""
        self.asked.clear()
        began = time.perf_counter()
        await self.scheduler.list_jobs()
        total = time.perf_counter() - began
        self.size = sum(each.size for each in self.asked)
        asking = max(each.ended for each in self.asked) - min(each.began for each in self.asked)
        return Run(total, {"asking": asking, "reading it": total - asking})


def _of_job(sent: Sent, old: str, new: str) -> Sent:
    if isinstance(sent, httpx.Request):
        url = str(sent.url).replace(f"/job/{old}", f"/job/{new}")
        return httpx.Request(sent.method, url, headers=sent.headers, content=sent.content)
    return [new if word == old else word for word in sent]


def _job_id(answer: str) -> str:
    """The id that sbatch and qsub print last, and that slurmrestd names."""
    if answer.startswith("{"):
        return str(json.loads(answer)["job_id"])
    return answer.strip().splitlines()[-1].partition(";")[0]


def _run(argv: Sequence[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise Unavailable(f"{shlex.join(argv)}: {done.stderr.strip()}")
    return done.stdout


@contextlib.contextmanager
def _bare_ssh(folder: Path, config: Path, host: str) -> Iterator[Callable[[Sent], str]]:
    """``ssh HOST COMMAND`` over one open connection."""
    options = ("ControlMaster=auto", f"ControlPath={folder}/ssh", "ControlPersist=300")
    ssh = ["ssh", "-F", str(config), *(word for option in options for word in ("-o", option)), host]
    subprocess.run([*ssh, "true"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield lambda sent: _run([*ssh, shlex.join(sent)])
    finally:
        subprocess.run([*ssh, "-O", "exit"], capture_output=True)


@contextlib.contextmanager
def _commands(folder: Path, entered: dict[str, list[str]]) -> Iterator[None]:
    """Programs of these names, in the PATH, that enter the machine and run the real ones."""
    (folder / "bin").mkdir()
    for name, argv in entered.items():
        program = folder / "bin" / name
        program.write_text(f'#!/bin/sh\nexec {shlex.join(argv)} "$@"\n')
        program.chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}/bin:{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


def _over_ssh(config: Path, host: str) -> tuple[Recorder, Callable[[], Awaitable[object]]]:
    login = SSHHost(SSHSettings(host=host, config=config))
    transport = SSHTransport(login)

    async def close() -> None:
        await transport.close()
        await login.close()

    return Recorder(transport), close


def _request(home: Path, inside: str, directive: str) -> JobRequest:
    """A job that is held; its script is where the batch system's machines see it."""
    text = f"#!/bin/sh\n{directive}\nsleep 60\n"
    script = home / "held.sh"
    script.write_text(text)
    script.chmod(0o755)
    return JobRequest("hpcb-bench", inside, f"{inside}/held.sh", text=text)


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[list[Way]]:
    """The test cluster: commands here and over SSH, and slurmrestd."""
    with contextlib.ExitStack() as stack:
        site = stack.enter_context(lab()).site
        pid = daemons.running_pid(site.layout, "slurmctld")  # has the mounts that commands need
        enter = ["nsenter", f"--target={pid}", "--net", "--uts", "--mount"]
        alice = [*enter, *services.as_user("alice"), "env", "HOME=/home/alice"]
        names = ("sbatch", "squeue", "scancel")
        entered = {name: [*alice, daemons.program(name)] for name in names}
        stack.enter_context(_commands(folder, entered))
        request = _request(site.home(), "/home/alice", "#SBATCH --hold")
        loop = 'while read -r name; do sbatch -H -Q -J "$name" --wrap true; done'
        fill = functools.cache(
            lambda: site.run("head", "alice", ["sh", "-c", loop], text=NAMES, timeout=300)
        )
        near, (far, close) = Recorder(LocalTransport()), _over_ssh(site.ssh_config, site.head)
        bare = stack.enter_context(_bare_ssh(folder, site.ssh_config, site.head))
        ways = [
            Way("slurm, local", SlurmScheduler(near, timeout=60), near.asked, _run_it,
                request, fill, near.close),
            Way("slurm, SSH", SlurmScheduler(far, timeout=60), far.asked, bare,
                request, fill, close),
        ]  # fmt: skip
        (token := folder / "token").write_text(site.token())
        token.chmod(0o600)
        settings = SlurmRestCluster(
            scheduler="slurmrest", url=site.rest_url, user="alice", token_file=token,
            command_timeout=60,
        )  # fmt: skip
        rest = stack.enter_context(_recorded_http())
        adapter = SLURMREST.scheduler(Site("rest", settings, near, folder))
        client = stack.enter_context(httpx.Client(timeout=60))
        ways.append(
            Way("slurmrest", adapter, rest, lambda sent: client.send(sent).text,
                request, fill, adapter.close)
        )  # fmt: skip
        try:
            yield ways
        finally:
            site.cancel_all()
            (site.home() / "held.sh").unlink()


def _run_it(sent: Sent) -> str:
    return _run(list(sent))


@contextlib.contextmanager
def _recorded_http() -> Iterator[list[Asked]]:
    """What httpx sends and how long the whole answer takes."""
    asked: list[Asked] = []
    original = httpx.AsyncHTTPTransport.handle_async_request

    async def handle(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        began = time.perf_counter()
        response = await original(self, request)
        body = b"".join([piece async for piece in response.stream])
        await response.aclose()
        asked.append(Asked(request, began, time.perf_counter(), len(body)))
        stream = httpx.ByteStream(body)
        return httpx.Response(response.status_code, headers=response.headers, stream=stream)

    httpx.AsyncHTTPTransport.handle_async_request = handle
    try:
        yield asked
    finally:
        httpx.AsyncHTTPTransport.handle_async_request = original


@contextlib.contextmanager
def gridengine(folder: Path) -> Iterator[list[Way]]:
    """Debian's Grid Engine: commands here and over SSH."""
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
        place.chmod(0o755)
        try:
            ge = stack.enter_context(ge_bed.running(place))
        except TestbedError as error:
            raise Unavailable(str(error)) from error
        entered = {name: ge.exec_args("alice", [name]) for name in ("qsub", "qstat", "qdel")}
        stack.enter_context(_commands(folder, entered))
        request = _request(ge.home(), "/home/alice", "#$ -h")
        loop = 'while read -r name; do qsub -h -N "$name" -b y true; done'
        fill = functools.cache(lambda: ge.run("alice", ["sh", "-c", loop], text=NAMES, timeout=300))
        settings = GridEngineCluster(scheduler="gridengine", command_timeout=60)
        near, (far, close) = Recorder(LocalTransport()), _over_ssh(ge.ssh_config, ge.host)
        bare = stack.enter_context(_bare_ssh(folder, ge.ssh_config, ge.host))
        yield [
            Way("gridengine, local", GridEngineScheduler(near, settings), near.asked,
                _run_it, request, fill, near.close),
            Way("gridengine, SSH", GridEngineScheduler(far, settings), far.asked,
                bare, request, fill, close),
        ]  # fmt: skip


@contextlib.contextmanager
def pbs(folder: Path) -> Iterator[list[Way]]:
    """The fake PBS of the tests."""
    fake = FakePBS(folder / "pbs")
    fake.hold()
    near = Recorder(LocalTransport())
    scheduler = PBSScheduler(near, timeout=60, commands=Commands(str(fake.bin)))
    request = _request(folder, str(folder), "#PBS -h")
    try:
        yield [
            Way("pbs (fake), local", scheduler, near.asked, _run_it, request,
                lambda: fake.add_all(CROWD), near.close),
        ]  # fmt: skip
    finally:
        fake.close()
