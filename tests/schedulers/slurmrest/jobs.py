"""The job that the tests submit, and jobs as slurmrestd tells them."""

from typing import Any

import httpx

from hpcbridge.schedulers.base import JobInfo, JobRequest
from tests.schedulers.slurmrest.fakerest import Script, adapter, json

TEXT = "#!/bin/bash\n#SBATCH --partition=viz\necho\n"
REQUEST = JobRequest("hpcb-1", "/home/alice/s", "/home/alice/s/job.sh", walltime=61, text=TEXT)
NEW, OLD = "v0.0.42", "v0.0.38"


def job(**changes: Any) -> dict[str, Any]:
    """A job of alice as v0.0.42 tells it."""
    given: dict[str, Any] = {
        "job_id": 7,
        "name": "n",
        "user_name": "alice",
        "job_state": ["RUNNING"],
        "state_reason": "None",
        "batch_host": "n1",
        "partition": "viz",
        "priority": {"set": True, "infinite": False, "number": 10},
    }
    return given | changes


def listing(*jobs: dict[str, Any]) -> httpx.Response:
    return json(200, jobs=jobs, errors=[])


async def listed(*jobs: dict[str, Any]) -> dict[str, JobInfo]:
    return dict((await adapter(Script(get_jobs=listing(*jobs))).list_jobs()).jobs)
