"""Real Slurm where a listing lacks the job or the login talks: nothing ends, and jobs are ended."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hpcbridge.clusters.watcher import Watcher
from hpcbridge.config.clusters import SSHSettings
from hpcbridge.schedulers.base import JobRequest, JobState
from hpcbridge.schedulers.slurm import SlurmScheduler
from hpcbridge.transports.base import StagedFile
from hpcbridge.transports.connection import SSHHost
from hpcbridge.transports.ssh import SSHTransport
from testbed.handle import Testbed
from tests.waiting import until

SCRIPT = "#!/bin/sh\n{lines}\nsleep 600\n"


@pytest_asyncio.fixture
async def ssh(site: Testbed) -> AsyncIterator[SSHTransport]:
    host = SSHHost(SSHSettings(host=site.head, config=site.ssh_config))
    transport = SSHTransport(host)
    yield transport
    await transport.close()
    await host.close()


async def submitted(ssh: SSHTransport, scheduler: SlurmScheduler, lines: str) -> JobRequest:
    directory = f"{await ssh.home()}/.hpcbridge/odd"
    script = SCRIPT.format(lines=lines)
    await ssh.stage(directory, {"job.sh": StagedFile(script.encode(), 0o700)})
    return JobRequest("hpcb-odd", directory, f"{directory}/job.sh", text=script)


@pytest.mark.parametrize(
    ("lines", "listed"),
    [
        ("#SBATCH --ntasks=1\n#SBATCH hetjob\n#SBATCH --ntasks=1", "+0"),
        ("#SBATCH --array=0-1", "_"),
    ],
)
async def test_a_job_that_is_listed_under_other_ids_lives_on_and_can_be_ended(
    site: Testbed, ssh: SSHTransport, lines: str, listed: str
) -> None:
    scheduler = SlurmScheduler(ssh, timeout=20)
    request = await submitted(ssh, scheduler, lines)
    job_id = await scheduler.submit(request)
    watcher = Watcher(scheduler)
    watch = watcher.watch(job_id, request.name, 0, lambda: None)
    await until(lambda: watch.job is not None and watch.job.state == JobState.RUNNING)
    jobs = (await scheduler.list_jobs()).jobs
    assert job_id not in jobs
    assert any(each.startswith(f"{job_id}{listed}") for each in jobs)
    watch.hurry()
    await until(lambda: watch.ours)
    assert not watch.ended
    await scheduler.cancel({job_id: f"{request.name}0"})  # another job's, by its name
    assert (await scheduler.list_jobs()).jobs.keys() == jobs.keys()
    await scheduler.cancel({job_id: request.name})
    await until(lambda: watch.ended)
    await watcher.close()
    await ssh.remove(request.directory)


async def test_a_login_that_talks_and_has_options_of_its_own_hides_no_job(
    site: Testbed, ssh: SSHTransport
) -> None:
    scheduler = SlurmScheduler(ssh, timeout=20)
    request = await submitted(ssh, scheduler, "")
    start_up = site.home() / ".bashrc"
    before = start_up.read_text() if start_up.exists() else None
    start_up.write_text(
        "export SQUEUE_PARTITION=short SQUEUE_STATES=PD SBATCH_HOLD=1 SLURM_CLUSTERS=all\n"
        "echo Welcome; date +%N; echo 'error: Connection refused, not responding' >&2\n"
        "trap 'echo bye; exit 3' EXIT\n"
    )
    try:
        job_id = await scheduler.submit(request)
        info = None
        while info is None or info.state != JobState.RUNNING:
            info = (await scheduler.list_jobs()).jobs[job_id]
            await asyncio.sleep(0.2)
        assert await scheduler.find(request.name) == job_id
        await scheduler.cancel({job_id: request.name})
        end = await scheduler.describe_end(job_id)
        assert end is not None
    finally:
        if before is None:
            start_up.unlink()
        else:
            start_up.write_text(before)
        await ssh.remove(request.directory)
