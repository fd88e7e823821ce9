"""One question for the jobs of all users: whose are asked for, and what is believed of the rest."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from hpcbridge.clusters import orphans
from hpcbridge.clusters.cluster import Cluster
from hpcbridge.clusters.orphans import Orphans
from hpcbridge.clusters.watcher import Watcher
from hpcbridge.config.installation import job_name
from hpcbridge.errors import ClusterUnreachable, UnexpectedReply
from hpcbridge.identity.views import Views
from hpcbridge.schedulers.base import EndReason, JobInfo, JobState, Listing
from hpcbridge.schedulers.slurm import commands as slurm
from hpcbridge.store import Store
from tests.fakes import FakeScheduler, FakeTransport, fake_cluster
from tests.schedulers.printed import printed
from tests.schedulers.slurm.test_scheduler import MARK
from tests.waiting import until

HEADER = ["JOBID", "STATE", "REASON", "PARTITION", "EXEC_HOST", "NAME", "USER"]
ALICES = ["7", "RUNNING", "None", "viz", "n1", "hpcb-a", "alice"]
BOBS = ["8", "PENDING", "Priority", "viz", "", "hpcb-b", "bob"]


def listing(*jobs: list[str]) -> str:
    return "".join(f"\x1f{MARK}".join(job) + f"\x1e{MARK}\n" for job in (HEADER, *jobs))


# -- Slurm


def test_all_accounts_are_asked_for_in_one_command_and_their_names_cannot_be_options() -> None:
    argv = slurm.squeue_argv(MARK, ["bob", "alice"])
    assert "--user=alice,bob" in argv
    assert "--me" not in argv
    assert argv[-1].endswith(f"%u\x1e{MARK}")
    assert "--me" in slurm.squeue_argv(MARK)


def test_a_listing_of_several_accounts_tells_whose_each_job_is() -> None:
    found = slurm.parse_squeue(printed(listing(ALICES, BOBS)), MARK)
    assert {job.job_id: job.account for job in found.jobs.values()} == {"7": "alice", "8": "bob"}
    assert not found.unknown


def test_an_account_that_slurm_does_not_know_hides_no_other_s_jobs() -> None:
    said = "squeue: error: Invalid user: gone\nsqueue: error: Invalid user: too\n\n"
    found = slurm.parse_squeue(printed(listing(ALICES), said), MARK)
    assert list(found.jobs) == ["7"]
    assert set(found.unknown) == {"gone", "too"}


def test_any_other_error_beside_it_is_could_not_ask() -> None:
    said = "squeue: error: Invalid user: gone\nsqueue: error: something else\n"
    with pytest.raises(UnexpectedReply):
        slurm.parse_squeue(printed(listing(ALICES), said), MARK)


# -- the watcher


class Asked(FakeScheduler):
    """Does not know the account ``gone`` any more."""

    async def list_jobs(self) -> Listing:
        found = await super().list_jobs()
        known = {key: job for key, job in found.jobs.items() if job.account != "gone"}
        return Listing(known, ["gone"])


@pytest.fixture
def scheduler() -> Asked:
    return Asked()


@pytest.fixture
async def watcher(scheduler: Asked) -> AsyncIterator[Watcher]:
    watcher = Watcher(scheduler)
    yield watcher
    await watcher.close()


def nothing() -> None:
    """Nobody listens."""


async def test_a_job_whose_owner_is_unknown_is_asked_for_by_itself_and_lives(
    watcher: Watcher, scheduler: Asked
) -> None:
    job_id = scheduler.add("hpcb-g", JobState.RUNNING, account="gone", host="n1")
    scheduler.details[job_id] = scheduler.jobs[job_id]
    watch = watcher.watch(job_id, "hpcb-g", 0, nothing, "gone")
    await until(lambda: watch.job is not None)
    for _ in range(4):
        looks = scheduler.looks
        watcher.wake()
        await until(lambda looks=looks: scheduler.looks > looks)
    assert watch.job is not None
    assert watch.job.state == JobState.RUNNING
    assert not watch.ended


async def test_its_end_is_seen_all_the_same(watcher: Watcher, scheduler: Asked) -> None:
    job_id = scheduler.add("hpcb-g", JobState.RUNNING, account="gone")
    over = JobInfo(job_id, "hpcb-g", JobState.ENDED, reason=EndReason.TIMED_OUT)
    scheduler.details[job_id] = over
    watch = watcher.watch(job_id, "hpcb-g", 0, nothing, "gone")
    await until(lambda: watch.ended)
    assert watch.job is not None
    assert watch.job.reason == EndReason.TIMED_OUT


async def test_where_it_cannot_be_asked_for_nothing_is_believed(
    watcher: Watcher, scheduler: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(job_id: str) -> JobInfo | None:
        raise ClusterUnreachable("no answer")

    monkeypatch.setattr(scheduler, "describe_end", silent)
    lost = watcher.watch("99", "hpcb-g", 0, nothing, "gone")
    job_id = scheduler.add("hpcb-a", JobState.RUNNING, account="alice")
    other = watcher.watch(job_id, "hpcb-a", 0, nothing, "alice")
    for _ in range(4):
        looks = scheduler.looks
        watcher.wake()
        await until(lambda looks=looks: scheduler.looks > looks)
    await until(lambda: lost.unknown_since is not None)
    assert not lost.ended
    assert other.unknown_since is None
    assert other.job is not None


# -- jobs that no session knows


async def test_a_forgotten_job_is_ended_as_its_owner_and_its_directory_removed_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "INTERVAL", 0.02)
    store = await Store.open(f"sqlite+aiosqlite:///{tmp_path}/sessions.sqlite")
    cluster = fake_cluster(grace=0.05)
    views: dict[str, Cluster] = {}

    def view(account: str) -> Cluster:
        views[account] = fake_cluster(grace=0.05)
        return views[account]

    cluster.views = Views(view, linger=60)
    scheduler, name = cast(FakeScheduler, cluster.scheduler), job_name("A" * 40, "0123abcd")
    job_id = scheduler.add(name, JobState.RUNNING, account="ann")
    cluster.watcher.observe(Orphans(cluster, store, "0123abcd"))
    await until(lambda: "ann" in views and _of(views["ann"]).cancelled)
    assert _of(views["ann"]).cancelled[0] == job_id
    files = cast(FakeTransport, views["ann"].transport).files
    files[f"/s/{name}/secret"] = b""
    scheduler.end(job_id, EndReason.CANCELLED)
    await until(lambda: not files)
    assert scheduler.cancelled == []
    await cluster.close()
    await store.close()


def _of(cluster: Cluster) -> FakeScheduler:
    return cast(FakeScheduler, cluster.scheduler)
