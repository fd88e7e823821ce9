"""Two machines without a batch system, services that use them, and jobs that tests can steer."""

import contextlib
import json
import os
import secrets
import signal
import textwrap
from pathlib import Path
from typing import Any, cast

from hpcbridge.clusters.cluster import Cluster, build
from hpcbridge.schedulers.base import JobInfo, JobRequest, JobState
from hpcbridge.schedulers.hosts import HostsScheduler
from hpcbridge.schedulers.hosts.far.processes import living
from tests.machines import Machines
from tests.waiting import until

A, B = "127.0.6.1", "127.0.6.2"


class Lab:
    """The machines, and the services on them that end with the test."""

    def __init__(self, machines: Machines) -> None:
        self.machines = machines
        self.state = machines.root / ".hosts" / "lab"
        self.clusters: list[Cluster] = []
        #: The names of its jobs.
        self.names: dict[str, str] = {}

    def service(self, **more: Any) -> HostsScheduler:
        """A new one, which knows nothing yet."""
        self.clusters.append(build("lab", self.machines.settings(**more), Path("/nowhere")))
        return cast(HostsScheduler, self.clusters[-1].scheduler)

    def request(self, script: str, *, walltime: int | None = None) -> JobRequest:
        name = f"hpcb-{secrets.token_hex(4)}"
        directory = self.machines.root / name
        directory.mkdir(parents=True)
        path = directory / "job.sh"
        path.write_text("#!/bin/bash\n" + textwrap.dedent(script))
        path.chmod(0o700)
        return JobRequest(name, str(directory), str(path), walltime)

    async def submitted(self, service: HostsScheduler, script: str, **more: Any) -> str:
        request = self.request(script, **more)
        job_id = await service.submit(request)
        self.names[job_id] = request.name
        return job_id

    async def cancel(self, service: HostsScheduler, *job_ids: str) -> None:
        await service.cancel({each: self.names[each] for each in job_ids})

    def begun(self, job_id: str) -> dict[str, Any]:
        (path,) = self.state.glob(f"taken/*/{job_id}.begun")
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def change_begun(self, job_id: str, **changes: Any) -> None:
        (path,) = self.state.glob(f"taken/*/{job_id}.begun")
        path.write_text(json.dumps(self.begun(job_id) | changes))

    def kill(self, job_id: str) -> None:
        """SIGKILL to all of a job."""
        while pids := living(job_id):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def kill_supervisor(self, job_id: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.begun(job_id)["pid"], signal.SIGKILL)

    async def close(self) -> None:
        for each in self.clusters:
            await each.close()
        for path in self.state.glob("taken/*/*.begun"):
            if not path.with_suffix(".end").exists():
                self.kill_supervisor(path.stem)
            self.kill(path.stem)


async def seen(service: HostsScheduler, job_id: str, state: JobState = JobState.ENDED) -> JobInfo:
    async def there() -> JobInfo | None:
        job = (await service.list_jobs()).jobs.get(job_id)
        return job if job and job.state == state else None

    found: JobInfo = await until(there, f"job {job_id} {state}", 100)
    return found
