"""What only a real Grid Engine tells: jobs without hope, places in the queue, whole sessions."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from hpcbridge.config.batchsystems import GridEngineCluster
from hpcbridge.conformance import Job
from hpcbridge.errors import ClusterUnreachable, JobRejected
from hpcbridge.schedulers.base import JobRequest, JobState
from hpcbridge.schedulers.gridengine import GridEngineScheduler
from testbed.gridengine import GridEngine
from tests.gridengine.test_conformance import GridEngineBench
from tests.serviceprocess import ServiceProcess
from tests.waiting import until

SERVER = """#!/usr/bin/python3
import os, socket, sys, time
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
server = socket.create_server((options["--host"], int(options["--port"])))
os.write(1, b"wslink: Starting factory")
while True:
    server.accept()[0].close()
"""


@pytest_asyncio.fixture
async def bench(ge: GridEngine) -> AsyncIterator[GridEngineBench]:
    bench = GridEngineBench(ge)
    yield bench
    await bench.close()


async def hopeless(job: Job) -> str:
    async def look() -> str:
        info = await job.listed()
        return info.hopeless if info else ""

    return str(await job.until(look, "a job without hope"))


async def test_a_job_whose_directory_the_node_lacks_is_hopeless(bench: GridEngineBench) -> None:
    job = await Job.staged(bench, bench.connect())
    request = JobRequest("hpcb-1", "/no/such/directory", job.request.script, text="#!/bin/sh\n")
    job.job_id = await job.scheduler.submit(request)
    assert "can't chdir to /no/such/directory" in await hopeless(job)
    await job.scheduler.cancel({job.job_id: request.name})
    await job.over()


async def test_a_job_that_tells_grid_engine_of_an_error_is_hopeless(
    bench: GridEngineBench,
) -> None:
    job = await Job.submitted(bench, bench.connect())
    await job.end(100)
    assert "exit_status of job start = 100" in await hopeless(job)


@pytest.mark.parametrize("asked", ["-pe smp 50", "-l num_proc=640"])
async def test_what_no_queue_could_ever_take_is_refused_at_once(
    bench: GridEngineBench, asked: str
) -> None:
    job = await Job.staged(bench, bench.connect(), directives=f"#$ {asked}")
    with pytest.raises(JobRejected, match="no suitable queues"):
        await job.scheduler.submit(job.request)


async def test_without_verifying_the_same_job_waits(bench: GridEngineBench) -> None:
    settings = GridEngineCluster(scheduler="gridengine", verify=False)
    scheduler = GridEngineScheduler(bench.transport, settings)  # type: ignore[arg-type]
    job = await Job.submitted(bench, scheduler, directives="#$ -pe smp 50")
    assert (await job.seen(JobState.QUEUED)).detail == "waiting for its turn (qw)"


async def test_waiting_jobs_have_their_place_and_their_reason(bench: GridEngineBench) -> None:
    scheduler = bench.connect()
    async with bench.full():
        jobs = [await Job.submitted(bench, scheduler, directives="#$ -q viz.q") for _ in range(3)]
        ids = [job.job_id for job in jobs]

        async def told() -> bool:
            outlook = await scheduler.outlook(ids)
            return all(outlook[each].waits_for for each in ids if each in outlook)

        await jobs[0].until(told, "reasons")
        outlook = await scheduler.outlook(ids)
        assert [outlook[each].ahead for each in ids] == [0, 1, 2]
        assert {(each.queue, each.waits_for) for each in outlook.values()} == {
            ("viz.q", "a free slot")
        }


async def test_a_master_that_accepts_and_never_answers_is_an_outage(
    bench: GridEngineBench, ge: GridEngine
) -> None:
    settings = GridEngineCluster(scheduler="gridengine", command_timeout=1)
    impatient = GridEngineScheduler(bench.transport, settings)  # type: ignore[arg-type]
    job = await Job.submitted(bench, bench.connect())
    await job.seen(JobState.RUNNING)
    with ge.frozen():
        with pytest.raises(ClusterUnreachable):
            await impatient.list_jobs()
        with pytest.raises(ClusterUnreachable):
            await impatient.cancel({job.job_id: job.request.name})
    await job.cancel()
    await job.over()


def test_root_is_refused_in_grid_engines_words(ge: GridEngine) -> None:
    done = ge.run("root", ["qsub", "-b", "y", "true"])
    assert done.returncode == 1
    assert "lower than minimum user id" in done.stderr


@pytest.fixture
def service(ge: GridEngine, tmp_path: Path) -> Iterator[ServiceProcess]:
    place = ge.home() / "server.py"
    place.write_text(SERVER)
    place.chmod(0o755)
    config: dict[str, Any] = {
        "server": {"port": 0, "state_dir": str(tmp_path / "state"), "fields": ["host", "job_id"]},
        "clusters": {
            "grid": {
                "scheduler": "gridengine",
                "options": {"queue": ge.queue, "pe": "smp", "cpus": 1},
                "ssh": {"host": ge.host, "config": str(ge.ssh_config)},
                "tunnel": {"node_pattern": "hpcb-ge"},
            }
        },
        "applications": {
            "server": {
                "cluster": "grid",
                "template": "command.sh",
                "walltime": 600,
                "wait": 60,
                "properties": {"program": "/home/alice/server.py"},
            }
        },
    }
    with ServiceProcess(tmp_path, config, "--end-sessions") as process:
        yield process


async def test_a_session_runs_as_a_job_and_is_stopped(
    service: ServiceProcess, ge: GridEngine
) -> None:
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        reply = await client.post("/paraview", json={"application": "server"})
        assert reply.status_code == 200, reply.text + service.log
        session = reply.json()
        assert session["host"] == "hpcb-ge"
        listed = await asyncio.to_thread(ge.run, "alice", ["qstat", "-j", session["job_id"]])
        assert "hard resource_list:         h_rt=600" in listed.stdout
        assert "hard_queue_list:            viz.q" in listed.stdout
        assert "parallel environment:  smp range: 1" in listed.stdout
        assert (await client.delete(f"/paraview/{session['id']}")).status_code == 200
    await until(lambda: not ge.run("alice", ["qstat"]).stdout, "the job's end")
