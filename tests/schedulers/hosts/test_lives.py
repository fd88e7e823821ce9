"""Jobs on machines outlive the service, and end whole, with a reason."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from hpcbridge.errors import NoCapacity
from hpcbridge.schedulers.base import EndReason, JobState
from hpcbridge.schedulers.hosts.far.processes import living
from tests.schedulers.hosts.lab import A, B, Lab, seen
from tests.schedulers.local.bench import STUBBORN
from tests.waiting import until

pytestmark = pytest.mark.timeout(400)

WAITS = "while [ ! -e end ]; do sleep 0.05; done; exit 7"


def end(lab: Lab, job_id: str) -> None:
    """Have a job that waits for it end."""
    (path,) = lab.state.glob(f"*/**/{job_id}.json")
    lab.machines.root.joinpath(
        path.read_text().split('"directory": "')[1].split('"')[0], "end"
    ).touch()


async def test_a_job_goes_on_without_a_service_and_its_end_is_known_afterwards(lab: Lab) -> None:
    first = lab.service(slots=1)
    ended = await lab.submitted(first, WAITS)
    await seen(first, ended, JobState.RUNNING)
    await first.close()
    end(lab, ended)
    await until(lambda: not living(ended), "the end of the job")
    job = await seen(lab.service(slots=1), ended)
    assert (job.reason, job.exit_status) == (EndReason.FAILED, 7)


async def test_a_machine_keeps_the_walltime_without_a_service(lab: Lab) -> None:
    first = lab.service()
    job_id = await lab.submitted(first, STUBBORN, walltime=1)
    await first.close()
    (path,) = await until(lambda: list(lab.state.glob(f"taken/*/{job_id}.end")), "the end", 100)
    assert living(job_id) == []
    job = await seen(lab.service(), job_id)
    assert (job.reason, job.host) == (EndReason.TIMED_OUT, path.parent.name)


async def test_cancelling_ends_all_that_a_job_started(lab: Lab) -> None:
    service = lab.service()
    job_id = await lab.submitted(service, STUBBORN)
    await until(lambda: len(living(job_id)) >= 3, "a job of two sessions")
    await lab.cancel(lab.service(), job_id)  # another service's
    assert (await seen(service, job_id)).reason == EndReason.CANCELLED
    assert living(job_id) == []


async def test_a_job_whose_supervisor_was_killed_ends_whole(lab: Lab) -> None:
    service = lab.service()
    job_id = await lab.submitted(service, STUBBORN)
    await until(lambda: len(living(job_id)) >= 3, "a job of two sessions")
    lab.kill_supervisor(job_id)
    job = await seen(service, job_id)
    assert (job.reason, job.detail) == (EndReason.FAILED, "its supervisor was killed")
    assert living(job_id) == []


async def test_a_job_of_a_machine_that_was_restarted_has_ended_with_that_reason(lab: Lab) -> None:
    service = lab.service()
    job_id = await lab.submitted(service, "sleep 1000")
    host = (await seen(service, job_id, JobState.RUNNING)).host
    lab.kill_supervisor(job_id)
    lab.change_begun(job_id, boot="another")
    lab.kill(job_id)
    job = await seen(service, job_id)
    assert (job.reason, job.detail) == (EndReason.NODE_FAILED, f"{host} was restarted")


async def test_a_script_that_cannot_be_run_is_told(lab: Lab) -> None:
    service = lab.service()
    request = lab.request("exit")
    Path(request.script).chmod(0o600)
    job = await seen(service, await service.submit(request))
    assert (job.reason, job.detail) == (
        EndReason.FAILED,
        "it did not start: Permission denied",
    )


async def test_jobs_get_the_clusters_environment_and_their_own_process_group(lab: Lab) -> None:
    service = lab.service(environment={"DISPLAY": ":0"})
    script = 'echo "$DISPLAY $(ps -o pgid= -p $$ | tr -d " ") $$ $SSH_CLIENT" >out'
    request = lab.request(script)
    await seen(service, await service.submit(request))
    display, group, pid = Path(request.directory, "out").read_text().split()
    assert (display, group) == (":0", pid)


async def test_a_full_cluster_queues_in_order_and_says_so(lab: Lab) -> None:
    service = lab.service(slots=1, queue=2)
    running = [await lab.submitted(service, WAITS, walltime=3600) for _ in range(2)]
    waiting = [await lab.submitted(service, WAITS) for _ in range(2)]
    jobs = (await service.list_jobs()).jobs
    assert {jobs[each].host for each in running} == {A, B}
    assert [jobs[each].detail for each in waiting] == [
        "waiting for a free slot",
        "waiting for a free slot, 1 ahead",
    ]
    outlook = await service.outlook(waiting)
    assert [outlook[each].ahead for each in waiting] == [0, 1]
    assert all(outlook[each].start for each in waiting)
    forecast = await service.forecast(lab.request("exit"))
    assert forecast.closed == "all its slots and places in the queue are taken"
    with pytest.raises(NoCapacity, match=r"All slots \(2\) and places in the queue \(2\)"):
        await service.submit(turned_away := lab.request("exit"))
    assert await service.find(turned_away.name) is None
    end(lab, running[0])
    await seen(service, running[0])
    first = await seen(service, waiting[0], JobState.RUNNING)
    assert first.host == jobs[running[0]].host
    assert (await service.list_jobs()).jobs[waiting[1]].state == JobState.QUEUED


async def test_two_services_at_once_start_each_job_once(lab: Lab) -> None:
    services = [lab.service(slots=4), lab.service(slots=4)]
    requests = [lab.request("echo run >>runs; sleep 1000") for _ in range(6)]
    for number, each in enumerate(requests):
        lab.names[await services[number % 2].submit(each)] = each.name
    found = await asyncio.gather(*(each.list_jobs() for each in services * 2))
    for job_id in lab.names:
        await seen(services[0], job_id, JobState.RUNNING)
    assert all(set(each.jobs) >= set(lab.names) for each in found)
    hosts = Counter(path.parent.name for path in lab.state.glob("taken/*/*.begun"))
    assert sum(hosts.values()) == 6
    assert max(hosts.values()) <= 4
    runs = [Path(each.directory, "runs") for each in requests]
    await until(lambda: all(each.exists() for each in runs), "all jobs")
    assert [each.read_text() for each in runs] == ["run\n"] * 6


async def test_the_same_submission_again_is_the_same_job(lab: Lab) -> None:
    service, request = lab.service(), lab.request("sleep 1000")
    assert await service.submit(request) == await lab.service().submit(request)


async def test_a_machine_with_no_slots_finishes_what_it_has(lab: Lab) -> None:
    service = lab.service()
    job_id = await lab.submitted(service, WAITS)
    host = (await seen(service, job_id, JobState.RUNNING)).host
    hosts = [{"name": each, "slots": 0 if each == host else 1} for each in (A, B)]
    drained = lab.service(hosts=hosts)
    other = await lab.submitted(drained, "sleep 1000")
    assert (await seen(drained, other, JobState.RUNNING)).host in {A, B} - {host}
    end(lab, job_id)
    assert (await seen(drained, job_id)).exit_status == 7


async def test_a_machine_that_is_not_configured_any_more_has_ended_its_jobs(lab: Lab) -> None:
    service = lab.service()
    job_id = await lab.submitted(service, "sleep 1000")
    host = (await seen(service, job_id, JobState.RUNNING)).host
    left = lab.service(hosts=[{"name": each} for each in (A, B) if each != host])
    job = await seen(left, job_id)
    assert (job.reason, job.detail) == (
        EndReason.NODE_FAILED,
        f"{host} is not among the cluster's hosts any more",
    )
    await lab.cancel(left, job_id)
