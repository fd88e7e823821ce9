"""What PBS lets a job expect that nobody submits: the fake server's word, as it was recorded."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcbridge.errors import ClusterUnreachable
from hpcbridge.schedulers.base import Forecast, JobRequest
from hpcbridge.schedulers.pbs import PBSScheduler, TorqueScheduler
from hpcbridge.schedulers.pbs.commands import Commands
from hpcbridge.transports.local import LocalTransport
from tests.fakepbs import FakePBS


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakePBS]:
    server = FakePBS(tmp_path / "pbs")
    yield server
    server.close()


def adapter(fake: FakePBS, kind: type[PBSScheduler] = PBSScheduler) -> PBSScheduler:
    return kind(LocalTransport(), timeout=60, commands=Commands(str(fake.bin)))


def sample(directives: str) -> JobRequest:
    return JobRequest("n", "/none", "/none/job.sh", 60, f"#!/bin/sh\n#PBS {directives}\ntrue\n")


FOUR = sample("-l select=1:ncpus=4")


async def test_an_empty_server_starts_a_job_at_once_and_keeps_nothing_of_it(fake: FakePBS) -> None:
    assert await adapter(fake).forecast(FOUR) == Forecast(0.0, 2)
    assert (await adapter(fake).list_jobs()).jobs == {}


async def test_a_full_server_tells_no_start(fake: FakePBS) -> None:
    fake.hold()
    assert await adapter(fake).forecast(FOUR) == Forecast(None, 0)
    fake.hold(False)
    assert await adapter(fake).forecast(FOUR) == Forecast(0.0, 2)


async def test_only_jobs_that_wait_for_their_turn_are_ahead(fake: FakePBS) -> None:
    fake.add_all(["held"], hold="u")
    assert await adapter(fake).forecast(FOUR) == Forecast(0.0, 2)
    fake.add_all(["too-large"], hold="")
    with fake.state() as state:
        list(state["jobs"].values())[-1]["ncpus"] = 99
    assert await adapter(fake).forecast(FOUR) == Forecast(None, 2)


@pytest.mark.parametrize("kind", [PBSScheduler, TorqueScheduler])
@pytest.mark.parametrize("queue", ["disabledq", "stoppedq"])
async def test_a_closed_queue_is_told_by_both(
    tmp_path: Path, kind: type[PBSScheduler], queue: str
) -> None:
    flavour = "torque" if kind is TorqueScheduler else "pbs"
    fake = FakePBS(tmp_path / "pbs", flavour=flavour)
    assert queue in (await adapter(fake, kind).forecast(sample(f"-q {queue}"))).closed
    assert not (await adapter(fake, kind).forecast(sample("-q workq"))).closed


async def test_a_server_that_is_down_is_told_as_that(fake: FakePBS) -> None:
    fake.set(down=True)
    with pytest.raises(ClusterUnreachable):
        await adapter(fake).forecast(FOUR)
