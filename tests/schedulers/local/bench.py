"""A directory of jobs, runners on it, and how a test waits for them."""

import json
import os
import textwrap
from pathlib import Path

from hpcbridge.schedulers.base import JobInfo, JobRequest, JobState
from hpcbridge.schedulers.local import LocalScheduler, processes
from tests.waiting import until

STUBBORN = """
trap '' TERM
setsid bash -c 'trap "" TERM HUP; echo $$ > child; while :; do sleep 0.1; done' &
while :; do sleep 0.1; done
"""
"""A job of two process sessions that heed no SIGTERM."""


class Bench:
    """A directory of jobs, and runners on it that end with the test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names: list[str] = []
        self.runners: list[LocalScheduler] = []

    def runner(self, *, slots: int = 2, queue: int = 8) -> LocalScheduler:
        runner = LocalScheduler(self.root / "runner", slots=slots, queue=queue)
        self.runners.append(runner)
        return runner

    def request(self, script: str, *, walltime: int | None = None) -> JobRequest:
        name = f"hpcb-test-{os.getpid()}-{id(self)}-{len(self.names)}"
        self.names.append(name)
        directory = self.root / name
        directory.mkdir()
        path = directory / "job.sh"
        path.write_text("#!/bin/bash\n" + textwrap.dedent(script))
        path.chmod(0o700)
        return JobRequest(name, str(directory), str(path), walltime)

    def alive(self) -> list[int]:
        return [pid for name in self.names for pid in processes.with_cookie(name)]

    def record(self, job_id: str) -> dict:
        return json.loads((self.root / "runner" / f"{job_id}.json").read_text())

    def change_record(self, job_id: str, **changes: object) -> None:
        path = self.root / "runner" / f"{job_id}.json"
        path.write_text(json.dumps(self.record(job_id) | changes))


async def until_state(
    runner: LocalScheduler, job_id: str, state: JobState = JobState.ENDED
) -> JobInfo:
    async def there() -> JobInfo | None:
        job = (await runner.list_jobs()).jobs[job_id]
        return job if job.state == state else None

    found: JobInfo = await until(there, f"job {job_id} {state}")
    return found


async def cancel(runner: LocalScheduler, *job_ids: str) -> None:
    """As the service does, by ids and names."""
    jobs = (await runner.list_jobs()).jobs
    await runner.cancel({each: jobs[each].name if each in jobs else "" for each in job_ids})


async def cancel_all(runner: LocalScheduler) -> None:
    jobs = (await runner.list_jobs()).jobs
    await cancel(runner, *jobs)
    for job_id in jobs:
        await until_state(runner, job_id)
