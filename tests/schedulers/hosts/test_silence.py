"""A machine that cannot be asked keeps its jobs, and keeps nobody else waiting."""

import contextlib

import asyncssh
import pytest

from hpcbridge.errors import ClusterUnreachable
from hpcbridge.schedulers.base import EndReason, JobState
from hpcbridge.schedulers.hosts import HostsScheduler
from tests.schedulers.hosts.lab import A, B, Lab, seen
from tests.waiting import until

pytestmark = pytest.mark.timeout(400)


async def one_on_each(lab: Lab, service: HostsScheduler) -> dict[str, str]:
    """A job on each machine, by its name."""
    found = {}
    for _ in (A, B):
        job_id = await lab.submitted(service, "sleep 1000")
        found[str((await seen(service, job_id, JobState.RUNNING)).host)] = job_id
    assert set(found) == {A, B}
    return found


async def untold(service: HostsScheduler, job_id: str) -> None:
    async def missing() -> bool:
        listing = await service.list_jobs()
        assert job_id in listing.jobs or job_id in listing.untold
        return job_id in listing.untold

    await until(missing, f"nothing told of {job_id}", 100)


async def test_a_frozen_machine_stops_nobody_and_loses_nothing(lab: Lab) -> None:
    service = lab.service(slots=2, command_timeout=10)
    jobs = await one_on_each(lab, service)
    lab.machines[A].freeze()
    try:
        await untold(service, jobs[A])
        listing = await service.list_jobs()
        assert listing.jobs[jobs[B]].state == JobState.RUNNING
        third = await lab.submitted(service, "sleep 1000")
        assert (await seen(service, third, JobState.RUNNING)).host == B
        fourth = await lab.submitted(service, "sleep 1000")
        waits = (await seen(service, fourth, JobState.QUEUED)).detail
        assert waits == f"waiting for a free slot; {A} cannot be asked"
        assert await service.find("no such") is None
        with pytest.raises(ClusterUnreachable):
            await service.describe_end(jobs[A])
        with pytest.raises(ClusterUnreachable):
            await lab.cancel(service, jobs[A], jobs[B])
        assert (await seen(service, jobs[B])).reason == EndReason.CANCELLED
    finally:
        lab.machines[A].thaw()

    async def asked() -> bool:
        with contextlib.suppress(ClusterUnreachable):
            await lab.cancel(service, jobs[A])
            return True
        return False

    await until(asked, "the machine", 100)
    assert (await seen(service, jobs[A])).reason == EndReason.CANCELLED


async def test_a_machine_off_the_network_goes_on_and_is_found_again(lab: Lab) -> None:
    service = lab.service()
    jobs = await one_on_each(lab, service)
    lab.machines[B].stop()
    await untold(service, jobs[B])
    fresh = lab.service()  # one that starts while the machine is away
    assert await fresh.find("no such") is None
    await untold(fresh, jobs[B])
    lab.machines[B].start()
    for each in (service, fresh):
        assert (await seen(each, jobs[B], JobState.RUNNING)).host == B


async def test_a_machine_with_another_host_key_is_not_asked(lab: Lab) -> None:
    service = lab.service()
    jobs = await one_on_each(lab, service)
    machine, good = lab.machines[A], lab.machines[A].host_key
    machine.stop()
    known = machine.known_hosts.read_text()
    machine.host_key = asyncssh.generate_private_key("ssh-ed25519")
    machine._write("host_key", machine.host_key.export_private_key().decode())
    machine.start()
    machine.known_hosts.write_text(known)
    await untold(service, jobs[A])
    with pytest.raises(ClusterUnreachable, match="did not show a host key that known_hosts has"):
        await lab.cancel(service, jobs[A])
    assert (await service.list_jobs()).jobs[jobs[B]].state == JobState.RUNNING
    machine.stop()
    machine._write("host_key", good.export_private_key().decode())
    machine.start()
    await seen(service, jobs[A], JobState.RUNNING)


async def test_a_machine_that_sees_other_files_is_told_and_gets_no_job(lab: Lab) -> None:
    service = lab.service()
    await service.list_jobs()
    wrapper = lab.machines.directory / "python"
    wrapper.write_text(
        wrapper.read_text().replace(
            "#!/bin/sh\n",
            f"#!/bin/sh\ncase $SSH_CONNECTION in *' {A} '*) exec sed -n '$s/.*/"
            '{"hpcbridge": 1, "token": "another"}/p\';; esac\n',
        )
    )
    with pytest.raises(ClusterUnreachable, match=r"does not see .* a file system that all hosts"):
        await service._fleet[A].look(str(lab.state), service._token)
    for _ in range(2):
        job_id = await lab.submitted(service, "sleep 1000")
        assert (await seen(service, job_id, JobState.RUNNING)).host == B
