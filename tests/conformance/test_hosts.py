"""Machines over SSH pass the suite, on sshds of the loopback."""

import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from hpcbridge.clusters.cluster import Cluster, build
from hpcbridge.conformance import Ability, Bench, Conformance, CountingTransport, Job
from hpcbridge.schedulers.base import JobState, Site
from hpcbridge.schedulers.hosts import HostsScheduler
from hpcbridge.schedulers.hosts.far.processes import living
from hpcbridge.transports.ssh import SSHTransport
from tests.machines import Machines
from tests.waiting import until

LOGIN, *HOSTS = "127.0.7.1", "127.0.7.2"
SLOTS = 2


class HostsBench(Bench):
    """A machine, and another on which the queue is asked; jobs wait while slots are taken."""

    patience = 200
    hosts = frozenset(HOSTS)
    unknown_id = "1700000000000000-0000"

    def __init__(self, machines: Machines) -> None:
        self._machines = machines
        self.root = str(machines.root)
        self._settings = machines.settings(login=LOGIN, slots=SLOTS, queue=1100)
        self.cluster: Cluster = build("lab", self._settings, machines.directory / "state")
        self.transport = CountingTransport(self.cluster.transport)
        self._far = {
            name: CountingTransport(SSHTransport(host))
            for name, host in self.cluster.machines.items()
            if host
        }
        self._state = machines.root / ".hosts" / "lab"
        self._adapters: list[HostsScheduler] = []

    def connect(self) -> HostsScheduler:
        site = Site("lab", self._settings, self.transport, Path("/"), machines=self._far)
        self._adapters.append(HostsScheduler(site))
        return self._adapters[-1]

    def asked(self) -> int:
        return sum(each.commands for each in (self.transport, *self._far.values()))

    @contextlib.asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        scheduler = self.connect()
        others = [await Job.submitted(self, scheduler) for _ in range(SLOTS * len(HOSTS))]
        yield
        await scheduler.cancel({job.job_id: job.request.name for job in others})

    async def forget(self, job_id: str) -> None:
        for path in self._state.glob(f"taken/*/{job_id}.*"):
            if path.suffix == ".begun":
                os.kill(json.loads(path.read_text())["pid"], signal.SIGKILL)
        for path in self._state.glob(f"taken/*/{job_id}.*"):
            path.unlink()
        self._kill(job_id)

    @staticmethod
    def _kill(job_id: str) -> None:
        while pids := living(job_id):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    @contextlib.asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        for each in (LOGIN, *HOSTS):
            self._machines[each].stop()
        yield
        for each in (LOGIN, *HOSTS):
            self._machines[each].start()

    @contextlib.asynccontextmanager
    async def _python(self, fault: str) -> AsyncIterator[None]:
        flag = self._machines.directory / fault
        flag.touch()
        yield
        flag.unlink()

    def garbled(self) -> contextlib.AbstractAsyncContextManager[None]:
        return self._python("garbled")

    def lost_answer(self) -> contextlib.AbstractAsyncContextManager[None]:
        return self._python("lost")

    async def crowd(self, names: Sequence[str]) -> None:
        scheduler = self.connect()
        for _ in range(SLOTS * len(HOSTS)):
            await Job.submitted(self, scheduler)
        for number, name in enumerate(names):
            job_id = f"9{number:015d}-0000"  # behind all others
            job = {"id": job_id, "name": name, "directory": "/none", "script": "/none/job.sh"}
            (self._state / "queue" / f"{job_id}.json").write_text(json.dumps(job))

    async def close(self) -> None:
        scheduler = self.connect()

        async def over() -> bool:
            jobs = (await scheduler.told()).jobs.values()
            left = {each.job_id: each.name for each in jobs if each.state != JobState.ENDED}
            await scheduler.cancel(left)
            return not left

        await until(over, "the end of all jobs")
        for adapter in self._adapters:
            await adapter.close()
        await self.cluster.close()


@pytest.mark.timeout(400)
class TestHosts(
    Conformance,
    cannot={
        Ability.REFUSED: "hosts take any script and tell of its failure afterwards",
    },
):
    @pytest_asyncio.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[HostsBench]:
        with Machines(tmp_path / "machines", LOGIN, *HOSTS) as machines:
            bench = HostsBench(machines)
            yield bench
            await bench.close()
