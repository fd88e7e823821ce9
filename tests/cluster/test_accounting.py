"""Slurm with accounting: how jobs ended, told by sacct alone, and what limits do to launches."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from hpcbridge.config.clusters import SSHSettings
from hpcbridge.errors import JobRejected
from hpcbridge.schedulers.base import EndReason, JobInfo, JobRequest, JobState
from hpcbridge.schedulers.slurm import SlurmScheduler
from hpcbridge.transports.connection import SSHHost
from hpcbridge.transports.ssh import SSHTransport
from testbed import cluster, daemons
from testbed.handle import Testbed
from tests.serviceprocess import Start

SLEEP = "sleep 600"


@pytest.fixture(scope="module")
def site(site: Testbed) -> Iterator[Testbed]:
    """The cluster, with accounting while these tests run."""
    cluster.up(with_accounting=True)
    yield site
    cluster.up()


@pytest.fixture(autouse=True)
def nothing_left(site: Testbed) -> Iterator[None]:
    """After each test its jobs are gone; the one in the partition "short" has its time to wait."""
    yield
    site.call("scancel", "--user=alice", "--partition=viz")


@pytest_asyncio.fixture
async def slurm(site: Testbed) -> AsyncIterator[SlurmScheduler]:
    """The adapter, as alice."""
    host = SSHHost(SSHSettings(host=site.head, config=site.ssh_config))
    transport = SSHTransport(host)
    yield SlurmScheduler(transport, timeout=20)
    await transport.close()
    await host.close()


def submit(site: Testbed, script: str, *options: str, user: str = "alice") -> str:
    """The id of a job of the user."""
    argv = ["sbatch", "--parsable", "--no-requeue", *options]
    done = site.run("head", user, argv, text=f"#!/bin/bash\n{script}\n")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def state(site: Testbed, job_id: str) -> str:
    """What the controller says of a job: nothing when it has forgotten it."""
    done = site.run("head", "root", ["scontrol", "--oneliner", "show", "job", job_id])
    found = re.search(r"JobState=(\w+)", done.stdout)
    assert found or "Invalid job id" in done.stderr, done.stderr
    return found[1] if found else ""


def wait_for(site: Testbed, job_id: str, wanted: str, timeout: float = 90) -> None:
    """Wait until the controller says so; "" is that it has forgotten the job."""
    daemons.wait_until(
        lambda: state(site, job_id) == wanted,
        timeout,
        lambda: f"job {job_id} is {state(site, job_id)!r} and not {wanted!r}",
    )


@pytest.fixture(scope="module")
def jobs(site: Testbed) -> dict[str, str]:
    """Jobs that ended in all kinds of ways, by kind; the controller has forgotten all but one."""
    late = submit(site, SLEEP, "--partition=short")
    ids = {
        "finished": submit(site, "true"),
        "failed": submit(site, "exit 3"),
        "killed": submit(site, "kill -9 $$"),
        "odd name": submit(site, "true", "--job-name=hpcb-1|FAILED|1:0|x"),
        "held": submit(site, "true", "--hold"),
        "cancelled": submit(site, SLEEP),
        "cancelled by root": submit(site, SLEEP),
        "node failed": submit(site, SLEEP, "--nodelist=hpcb-n4"),
        "preempted": submit(site, SLEEP, "--qos=scavenger", "--nodelist=hpcb-n3", "--exclusive"),
    }
    for kind in ("cancelled", "cancelled by root", "node failed", "preempted"):
        wait_for(site, ids[kind], "RUNNING")
    wait_for(site, late, "RUNNING")
    # A time that is over when the controller reads it is refused.
    site.call("scontrol", "update", f"jobid={late}", "EndTime=now+5")
    site.run("head", "alice", ["scancel", ids["cancelled"], ids["held"]])
    site.call("scancel", ids["cancelled by root"])
    site.call("scontrol", "update", "nodename=hpcb-n4", "state=down", "reason=test")
    urgent = submit(site, "true", "--nodelist=hpcb-n3", "--exclusive", user="bob")
    for job_id in (*ids.values(), urgent):
        wait_for(site, job_id, "")
    site.settle()
    return ids | {"timed out": late}


@pytest.mark.parametrize(
    ("kind", "reason", "status"),
    [
        ("finished", EndReason.FINISHED, 0),
        ("failed", EndReason.FAILED, 3),
        ("killed", EndReason.FAILED, -9),
        ("odd name", EndReason.FINISHED, 0),
        ("held", EndReason.CANCELLED, 0),
        ("cancelled", EndReason.CANCELLED, 0),
        ("cancelled by root", EndReason.CANCELLED, 0),
        ("node failed", EndReason.NODE_FAILED, 0),
        ("preempted", EndReason.PREEMPTED, 0),
    ],
)
async def test_accounting_tells_how_a_job_ended_that_the_controller_forgot(
    site: Testbed,
    jobs: dict[str, str],
    slurm: SlurmScheduler,
    kind: str,
    reason: EndReason,
    status: int,
) -> None:
    info = await slurm.describe_end(jobs[kind])
    assert info is not None
    assert (info.state, info.reason) == (JobState.ENDED, reason)
    # Of a job whose node failed, 26.05 tells 1, and earlier versions nothing of how it went.
    assert info.exit_status in ((0, 1) if kind == "node failed" else (status,))
    if kind == "odd name":
        assert info.name == "hpcb-1|FAILED|1:0|x"
    if kind == "cancelled by root":
        assert info.detail == "CANCELLED by 0"


async def test_without_slurmdbd_nobody_knows_how_a_forgotten_job_ended(
    site: Testbed, jobs: dict[str, str], slurm: SlurmScheduler
) -> None:
    with site.down("slurmdbd"):
        assert await slurm.describe_end(jobs["failed"]) is None
    info = await slurm.describe_end(jobs["failed"])
    assert info is not None
    assert info.exit_status == 3


async def test_a_job_that_never_was_has_no_end(slurm: SlurmScheduler) -> None:
    assert await slurm.describe_end("99999999") is None


@pytest.mark.parametrize(
    ("directives", "said", "advice"),
    [
        ("--account=nosuch", "Invalid account", "The option 'account' must be one"),
        ("--qos=nosuch", "Invalid qos specification", "The option 'qos' must be one"),
        ("--qos=brief", "QOSMaxWallDurationPerJobLimit", "ask for less (walltime"),
        ("--account=tiny --qos=brief", "Invalid qos specification", "must be one that the account"),
    ],
)
async def test_a_job_against_the_rules_is_refused_in_slurms_words_with_advice(
    site: Testbed, slurm: SlurmScheduler, directives: str, said: str, advice: str
) -> None:
    script = site.home() / "refused.sh"
    script.write_text(f"#!/bin/bash\n#SBATCH {directives}\ntrue\n")
    request = JobRequest("hpcb-1-2", "/home/alice", "/home/alice/refused.sh", walltime=1200)
    with pytest.raises(JobRejected) as refusal:
        await slurm.submit(request)
    assert said in str(refusal.value)
    assert advice in str(refusal.value)


async def test_a_launch_on_an_account_that_is_not_there_says_so(
    start: Start, configuration: dict[str, Any]
) -> None:
    configuration["applications"]["flow"]["options"] = {"account": "nosuch"}
    async with start(configuration).client() as client:
        reply = await client.post("/paraview", json={"application": "flow"})
    assert reply.status_code == 502
    assert "Invalid account" in reply.json()["error"]
    assert "The option 'account'" in reply.json()["error"]


@pytest.mark.parametrize(
    ("options", "running", "words", "code"),
    [
        ({"qos": "single"}, "--qos=single", "limit of running jobs", "QOSMaxJobsPerUserLimit"),
        ({"account": "tiny"}, "--account=tiny", "limit of CPUs", "AssocGrpCpuLimit"),
    ],
    ids=["QOS", "account"],
)
async def test_a_user_sees_that_a_limit_makes_a_session_wait(
    start: Start,
    configuration: dict[str, Any],
    site: Testbed,
    options: dict[str, str],
    running: str,
    words: str,
    code: str,
) -> None:
    wait_for(site, submit(site, SLEEP, running), "RUNNING")
    configuration["applications"]["flow"] |= {"options": options, "wait": 5}
    async with start(configuration).client() as client:
        reply = await client.post("/paraview", json={"application": "flow"})
    assert reply.status_code == 504
    assert f"{words} is reached ({code})" in reply.json()["error"]


@pytest.fixture
def reservation(site: Testbed) -> Iterator[str]:
    """A reservation of one node for alice."""
    words = "ReservationName=course Users=alice Nodes=hpcb-n4 StartTime=now Duration=10"
    site.call("scontrol", "create", *words.split())
    yield "course"
    site.cancel_all()
    site.call("scontrol", "delete", "ReservationName=course")


async def test_slurm_grants_what_the_options_ask_for_and_the_epilogue_outlives_scancel(
    start: Start, configuration: dict[str, Any], site: Testbed, reservation: str
) -> None:
    epilogue = site.home() / "epilogue.sh"
    epilogue.write_text("#!/bin/sh\necho $1 $CUDA_VISIBLE_DEVICES >/home/alice/epilogue.said\n")
    epilogue.chmod(0o755)
    said = site.home() / "epilogue.said"
    configuration["applications"]["flow"]["options"] = {
        "account": "science", "qos": "brief", "reservation": reservation, "nodes": 1, "tasks": 1,
        "cpus": 2, "memory": "512M", "gpus": "h100:1", "exclusive": True,
        "epilogue": "/home/alice/epilogue.sh",
    }  # fmt: skip
    async with start(configuration).client() as client:
        reply = await client.post("/paraview", json={"application": "flow"})
        assert reply.status_code == 200, reply.text
        (job_id,) = site.jobs()
        told = site.call("scontrol", "--oneliner", "show", "job", job_id)
        for word in (
            "Account=science", "QOS=brief", "Reservation=course", "NumNodes=1", "CPUs/Task=2",
            "MinMemoryNode=512M", "BatchHost=hpcb-n4", "OverSubscribe=NO", "gpu:h100:1",
        ):  # fmt: skip
            assert word in told
        await client.delete(f"/paraview/{reply.json()['id']}")
    await asyncio.to_thread(daemons.wait_until, said.exists, 20, lambda: "no epilogue ran")
    await asyncio.to_thread(daemons.wait_until, lambda: said.read_text(), 5, lambda: "it was mute")
    assert said.read_text().split()[0] == "143"


async def test_accounting_tells_that_the_walltime_was_over(
    site: Testbed, jobs: dict[str, str], slurm: SlurmScheduler
) -> None:
    """The last test: Slurm looks at walltimes every half a minute."""
    await asyncio.to_thread(wait_for, site, jobs["timed out"], "")
    info: JobInfo | None = await slurm.describe_end(jobs["timed out"])
    assert info is not None
    assert info.reason == EndReason.TIMED_OUT
