"""Jobs of ours that no session knows: ended, after two sightings; nobody else's job ever is."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any, cast

import pytest

from hpcbridge.clusters import orphans as orphans_module
from hpcbridge.clusters import watcher as watcher_module
from hpcbridge.clusters.cluster import Cluster
from hpcbridge.clusters.orphans import Orphans
from hpcbridge.config import installation
from hpcbridge.config.installation import is_marked, job_name, mark
from hpcbridge.errors import ClusterError, ClusterUnreachable, StoreError
from hpcbridge.schedulers.base import EndReason, JobRequest, JobState
from hpcbridge.schedulers.local import LocalScheduler
from hpcbridge.store import SessionRow, State, Store
from tests.fakes import FakeScheduler, FakeTransport, fake_cluster
from tests.waiting import until

pytestmark = pytest.mark.servers

MINE, OTHERS = "0123abcd", "89abcdef"
NAME = job_name("A" * 40, MINE)
GRACE = 0.1


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_module, "LEAST", 0.002)
    monkeypatch.setattr(orphans_module, "INTERVAL", 0.02)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(f"sqlite+aiosqlite:///{tmp_path}/sessions.sqlite")
    yield store
    await store.close()


@pytest.fixture
async def cluster(store: Store) -> AsyncIterator[Cluster]:
    cluster = fake_cluster(grace=GRACE)
    yield cluster
    await cluster.close()


@pytest.fixture
def scheduler(cluster: Cluster) -> FakeScheduler:
    return cast(FakeScheduler, cluster.scheduler)


@pytest.fixture
def transport(cluster: Cluster) -> FakeTransport:
    return cast(FakeTransport, cluster.transport)


def begin(cluster: Cluster, store: Store) -> None:
    cluster.watcher.observe(Orphans(cluster, store, MINE))


def row(**more: Any) -> SessionRow:
    values = {"id": "A" * 40, "application": "a", "cluster": "fake", "job_name": NAME}
    return SessionRow(**values | more)


async def looks(scheduler: FakeScheduler, count: int) -> None:
    wanted = scheduler.looks + count
    await until(lambda: scheduler.looks >= wanted, f"{count} listings")


async def test_a_job_of_ours_without_a_session_is_ended_with_its_directory(
    cluster: Cluster,
    store: Store,
    scheduler: FakeScheduler,
    transport: FakeTransport,
    caplog: pytest.LogCaptureFixture,
) -> None:
    job_id = scheduler.add(NAME, JobState.RUNNING)
    transport.files |= {f"/s/{NAME}/job.sh": b"", f"/s/{job_name('B', MINE)}/job.sh": b""}
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        begin(cluster, store)
        await until(lambda: scheduler.cancelled, "the cancellation")
        assert time.monotonic() - began >= GRACE
        assert scheduler.looks >= 2
        await until(lambda: f"/s/{NAME}/job.sh" not in transport.files, "the directory's removal")
    assert scheduler.cancelled == [job_id]
    assert list(transport.files) == [f"/s/{job_name('B', MINE)}/job.sh"]
    assert [record.message for record in caplog.records if NAME in record.message][-1] == (
        f"cancelled on fake, since no session knows them: {job_id} ({NAME})"
    )


async def test_a_job_that_does_not_go_is_cancelled_again_but_not_at_every_look(
    cluster: Cluster, store: Store, scheduler: FakeScheduler
) -> None:
    scheduler.add(NAME)
    scheduler.ignores_cancel = 2
    began = time.monotonic()
    begin(cluster, store)
    await until(lambda: not scheduler.living, "the job's end")
    assert len(scheduler.cancelled) == 3
    assert time.monotonic() - began >= 3 * GRACE


@pytest.mark.parametrize(
    "name",
    [
        job_name("A" * 40, OTHERS),
        "hpcb-" + NAME.rpartition("-")[2],
        f"{NAME}0",
        f"x{NAME}",
        f"{NAME}\n",
        "interactive",
        f"hpcb-{MINE}-",
    ],
)
async def test_jobs_of_others_are_not_touched(
    cluster: Cluster, store: Store, scheduler: FakeScheduler, name: str
) -> None:
    scheduler.add(name, JobState.RUNNING)
    begin(cluster, store)
    await asyncio.sleep(3 * GRACE)
    await looks(scheduler, 3)
    assert scheduler.cancelled == []


@pytest.mark.parametrize(
    "values",
    [
        {"state": State.SUBMITTING},
        {"state": State.READY, "job_id": "1"},
        {"state": State.ENDED, "reason": EndReason.STOPPED},
    ],
)
async def test_a_job_of_a_session_that_lives_or_cleans_up_is_not_touched(
    cluster: Cluster, store: Store, scheduler: FakeScheduler, values: dict[str, Any]
) -> None:
    await store.add(row(**values))
    scheduler.add(NAME, JobState.RUNNING)
    begin(cluster, store)
    await asyncio.sleep(3 * GRACE)
    await looks(scheduler, 3)
    assert scheduler.cancelled == []


async def test_a_job_that_appears_after_its_session_was_given_up_is_ended(
    cluster: Cluster, store: Store, scheduler: FakeScheduler
) -> None:
    await store.add(row(state=State.ENDED, reason=EndReason.FAILED, job_ended=True))
    begin(cluster, store)
    await looks(scheduler, 2)
    job_id = scheduler.add(NAME)
    await until(lambda: scheduler.cancelled == [job_id], "the cancellation")


async def test_one_sighting_is_not_enough(
    cluster: Cluster, store: Store, scheduler: FakeScheduler
) -> None:
    """The row comes late, as from another replica's transaction."""

    def only_once() -> None:
        scheduler.down = ClusterUnreachable("down") if scheduler.looks > 1 else None

    scheduler.add(NAME)
    scheduler.before_answer = only_once
    begin(cluster, store)
    await looks(scheduler, 2)
    await store.add(row())
    scheduler.before_answer, scheduler.down = lambda: None, None
    await asyncio.sleep(3 * GRACE)
    await looks(scheduler, 2)
    assert scheduler.cancelled == []


async def test_an_id_that_is_given_to_another_job_of_ours_counts_anew(
    cluster: Cluster, store: Store, scheduler: FakeScheduler
) -> None:
    orphans = Orphans(cluster, store, MINE)
    job_id = scheduler.add(NAME)
    await orphans._consider(list(scheduler.jobs.values()))
    orphans._suspects[job_id].since -= 10
    scheduler.change(job_id, name=job_name("B" * 40, MINE))
    await orphans._consider(list(scheduler.jobs.values()))
    assert scheduler.cancelled == []


async def test_nothing_is_ended_while_the_database_or_the_cluster_cannot_be_asked(
    cluster: Cluster,
    store: Store,
    scheduler: FakeScheduler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def locked(_: Any) -> set[str]:
        raise StoreError("The database is locked.")

    scheduler.add(NAME)
    with monkeypatch.context() as patched:
        patched.setattr(store, "known", locked)
        begin(cluster, store)
        await asyncio.sleep(2 * GRACE)
        await looks(scheduler, 3)
        assert scheduler.cancelled == []
    scheduler.down = ClusterUnreachable("down")
    await asyncio.sleep(2 * GRACE)
    assert scheduler.cancelled == []
    scheduler.down = None
    await until(lambda: scheduler.cancelled, "the cancellation")


@pytest.mark.parametrize("fault", [ClusterUnreachable("down"), ClusterError("busy")])
async def test_a_directory_that_cannot_be_removed_holds_nothing_up(
    cluster: Cluster,
    store: Store,
    scheduler: FakeScheduler,
    transport: FakeTransport,
    fault: ClusterError,
) -> None:
    transport.files[f"/s/{NAME}/job.sh"] = b""
    transport.down = fault
    scheduler.add(NAME)
    begin(cluster, store)
    await until(lambda: not scheduler.living, "the job's end")
    await looks(scheduler, 3)
    transport.down = None
    await looks(scheduler, 3)
    if isinstance(fault, ClusterUnreachable):
        await until(lambda: not transport.files, "another attempt")
    else:
        await asyncio.sleep(2 * GRACE)
        assert transport.files


async def test_it_makes_no_queries_while_jobs_are_watched_and_few_when_all_is_quiet(
    cluster: Cluster, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    orphans = Orphans(cluster, store, MINE)
    assert orphans.interval == 300
    cluster.watcher._observer = orphans
    pause = cluster.watcher._pause()
    assert pause is not None
    assert 269 < pause < 331
    cluster.watcher._failures = 9
    pause = cluster.watcher._pause()
    assert pause is not None
    assert pause > 269
    cluster.watcher._observer = None


async def test_a_store_that_takes_its_time_puts_nothing_off(
    cluster: Cluster, store: Store, scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause is measured out while it is not yet known that there are suspects."""
    monkeypatch.setattr(orphans_module, "INTERVAL", 300.0)
    known = store.known

    async def slow(names: Collection[str]) -> set[str]:
        await asyncio.sleep(0.5)
        return await known(names)

    monkeypatch.setattr(store, "known", slow)
    scheduler.add(NAME)
    begin(cluster, store)
    await until(lambda: not scheduler.living, "the job's end")


async def test_many_jobs_are_looked_up_in_few_questions(store: Store) -> None:
    names = [job_name(str(number), MINE) for number in range(1200)]
    await store.add(row(job_name=names[700]))
    assert await store.known(names) == {names[700]}
    assert await store.known([]) == set()


async def test_a_real_job_of_a_lost_database_is_ended(
    site: Any, launcher: Any, tmp_path: Path
) -> None:
    settings = site.settings(clusters={"here": {"grace": 0.2}})
    mine = mark(settings)
    names = [job_name("A" * 40, mine), job_name("A" * 40, OTHERS)]
    runner = LocalScheduler(settings.server.state_dir / "local/here", slots=4, queue=4)
    for name in names:
        directory = site.session_root / name
        directory.mkdir(parents=True)
        script = directory / "job.sh"
        script.write_text("#!/bin/sh\nHPCBRIDGE_DIRECTORY=$PWD exec sleep 1000\n")
        script.chmod(0o700)
        await runner.submit(JobRequest(name, str(directory), str(script)))
    await runner.close()
    await until(lambda: len(site.processes()) == 2, "both jobs")
    async with launcher(clusters={"here": {"grace": 0.2}}) as api:
        posted = await api.post({"application": "cone"})
        assert posted.status_code == 200
        kept = {names[1], (await api.row(posted.json()["id"])).job_name}
        await until(lambda: {each.name for each in site.directories()} == kept, "the clean-up")
        assert len({str(pid) for pid in site.processes()}) >= 2


# -- the mark


def test_the_mark_is_stable_and_tells_installations_apart(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(**sections: Any) -> str:
        return mark(site.settings(**sections))

    elsewhere = {"here": {"scheduler": "slurm"}}  # PostgreSQL is not for jobs of this machine

    machine = tmp_path / "machine-id"
    monkeypatch.setattr(installation, "MACHINE_ID", machine)
    without_id = of()
    machine.write_text("0123\n")
    database = {"url": "postgresql+asyncpg://bridge:one@db/sessions"}
    marks = [
        of(),
        of(server={"state_dir": "elsewhere"}),
        of(store=database, clusters=elsewhere),
        of(server={"instance": "portal"}),
        without_id,
    ]
    assert len(set(marks)) == len(marks)
    assert marks[0] == of(server={"port": 1234}, limits={"sessions": 7})
    other = {"url": database["url"].replace("one", "two")}
    assert marks[2] == of(store=other, clusters=elsewhere)
    named = of(
        server={"instance": "portal", "state_dir": "elsewhere"}, store=database, clusters=elsewhere
    )
    assert named == marks[3]
    assert is_marked(job_name("A" * 40, marks[0]), marks[0])
