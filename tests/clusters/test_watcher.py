"""One loop a cluster: what it believes, and what it does not."""

import asyncio
import dataclasses
import itertools
import time
from collections.abc import AsyncIterator, Collection
from types import SimpleNamespace

import pytest

from hpcbridge.clusters import watcher as watcher_module
from hpcbridge.clusters.watcher import Watch, Watcher
from hpcbridge.errors import ClusterUnreachable, UnexpectedReply
from hpcbridge.schedulers.base import EndReason, JobInfo, JobState, Listing
from tests.fakes import FakeScheduler
from tests.intervals import watch_every
from tests.waiting import until


def nothing() -> None:
    """No one has to be told."""


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    watch_every(0.01, monkeypatch, least=0.002)


@pytest.fixture
def scheduler() -> FakeScheduler:
    return FakeScheduler()


@pytest.fixture
async def watcher(scheduler: FakeScheduler) -> AsyncIterator[Watcher]:
    watcher = Watcher(scheduler)
    yield watcher
    await watcher.close()


async def seen(watcher: Watcher, job_id: str, *, grace: float = 0) -> Watch:
    """The watch of job ``n`` once a listing had it."""
    watch = watcher.watch(job_id, "n", grace, nothing)
    await until(lambda: watch.job)
    return watch


async def rounds(scheduler: FakeScheduler, count: int) -> None:
    """Let so many whole rounds pass."""
    wanted = scheduler.looks + count + 1
    await until(lambda: scheduler.looks >= wanted)


async def test_there_is_one_query_a_round_whatever_the_number_of_jobs(
    scheduler: FakeScheduler, watcher: Watcher
) -> None:
    names = [f"hpcb-{number}" for number in range(1000)]
    moved: list[str] = []
    watches = [
        watcher.watch(scheduler.add(name), name, 10, lambda name=name: moved.append(name))
        for name in names
    ]
    await until(lambda: all(watch.job for watch in watches))
    assert scheduler.looks <= 3
    assert sorted(moved) == sorted(names)
    assert scheduler.described == []


async def test_nobody_is_told_when_nothing_changed(
    scheduler: FakeScheduler, watcher: Watcher
) -> None:
    moved: list[int] = []
    watch = watcher.watch(scheduler.add("n"), "n", 10, lambda: moved.append(1))
    await rounds(scheduler, 5)
    assert moved == [1]
    scheduler.run(watch.job_id)
    await until(lambda: len(moved) == 2)
    assert watch.job is not None
    assert watch.job.host == "localhost"


@pytest.mark.parametrize(
    "error", [ClusterUnreachable("down"), UnexpectedReply("garbage"), ValueError("a bug")]
)
async def test_not_being_able_to_ask_ends_nothing(
    scheduler: FakeScheduler, watcher: Watcher, error: Exception
) -> None:
    watch = watcher.watch(scheduler.add("n"), "n", 0, nothing)
    await until(lambda: watch.job)
    before = time.time()
    scheduler.down = error
    await until(lambda: watch.unknown_since)
    assert watch.unknown_since is not None
    assert before - 1 < watch.unknown_since < time.time() + 1
    since = watch.unknown_since
    await rounds(scheduler, 5)
    assert watch.unknown_since == since
    assert not watch.ended
    scheduler.down = None
    await until(lambda: watch.unknown_since is None)
    assert watch.job is not None
    assert watch.job.state == JobState.QUEUED


async def test_an_outage_does_not_count_as_a_sighting(
    scheduler: FakeScheduler, watcher: Watcher
) -> None:
    watch = await seen(watcher, scheduler.add("n"))
    job_id = watch.job_id
    gone = scheduler.jobs.pop(job_id)
    scheduler.down = ClusterUnreachable("down")
    await rounds(scheduler, 5)
    scheduler.jobs[job_id] = gone
    scheduler.down = None
    await rounds(scheduler, 3)
    assert not watch.ended


async def test_a_very_long_outage_is_survived(scheduler: FakeScheduler, watcher: Watcher) -> None:
    watch = watcher.watch(scheduler.add("n"), "n", 0, nothing)
    await until(lambda: watch.job)
    watcher._failures = 5000
    scheduler.down = ClusterUnreachable("down")
    await rounds(scheduler, 3)
    scheduler.down = None
    await until(lambda: watch.unknown_since is None)


async def test_a_job_may_be_missing_while_it_is_young(
    scheduler: FakeScheduler, watcher: Watcher
) -> None:
    watch = watcher.watch("1", "n", 60, nothing)
    await rounds(scheduler, 5)
    assert not watch.ended
    assert watch.job is None
    scheduler.add("n")
    await until(lambda: watch.job)


async def test_a_young_job_is_not_unknown_once_the_scheduler_answers_again(
    scheduler: FakeScheduler, watcher: Watcher
) -> None:
    scheduler.down = ClusterUnreachable("down")
    watch = watcher.watch("1", "n", 60, nothing)
    await until(lambda: watch.unknown_since)
    scheduler.down = None
    await until(lambda: watch.unknown_since is None)


async def test_a_missing_job_is_over_after_its_grace_and_two_sightings(
    scheduler: FakeScheduler, watcher: Watcher
) -> None:
    looked_at_end = 0
    watch = watcher.watch("77", "n", 0.1, nothing)
    began = time.monotonic()
    await until(lambda: watch.ended)
    looked_at_end = scheduler.looks
    assert time.monotonic() - began >= 0.1
    assert looked_at_end >= 2
    assert watch.job is not None
    assert "no longer knows" in watch.job.detail
    assert scheduler.described == ["77"]


async def test_one_sighting_is_not_enough(scheduler: FakeScheduler, watcher: Watcher) -> None:
    watch = await seen(watcher, scheduler.add("n"))
    job_id = watch.job_id
    held = scheduler.jobs[job_id]

    def flicker() -> None:  # every other listing lacks it
        if scheduler.looks % 2:
            scheduler.jobs.pop(job_id, None)
        else:
            scheduler.jobs[job_id] = held

    scheduler.before_answer = flicker
    await rounds(scheduler, 10)
    assert not watch.ended


async def test_a_job_that_is_only_missing_in_the_listing_is_not_over(
    scheduler: FakeScheduler, watcher: Watcher
) -> None:
    watch = await seen(watcher, scheduler.add("n", JobState.RUNNING))
    job_id = watch.job_id
    scheduler.details[job_id] = scheduler.jobs.pop(job_id)
    await rounds(scheduler, 5)
    assert scheduler.described
    assert not watch.ended


async def test_a_second_answer_about_another_job_does_not_keep_a_missing_one_alive(
    scheduler: FakeScheduler, watcher: Watcher
) -> None:
    """A scheduler that lost its state gives the id to somebody else's job."""
    watch = await seen(watcher, scheduler.add("n", JobState.RUNNING))
    job_id = watch.job_id
    del scheduler.jobs[job_id]
    scheduler.details[job_id] = JobInfo(job_id, "other", JobState.RUNNING, "evil")
    await until(lambda: watch.ended)
    assert watch.job is not None
    assert (watch.job.name, watch.job.host, watch.listed) == ("n", None, False)


async def test_of_an_account_that_is_gone_each_job_is_asked_for_by_its_id(
    scheduler: FakeScheduler, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account that was removed while its jobs run: a listing says nothing of them."""
    job_id = scheduler.add("n", JobState.RUNNING)
    job = scheduler.jobs.pop(job_id)
    list_jobs = scheduler.list_jobs

    async def without_bob() -> Listing:
        return dataclasses.replace(await list_jobs(), unknown={"bob"})

    monkeypatch.setattr(scheduler, "list_jobs", without_bob)
    scheduler.details[job_id] = UnexpectedReply("sacct told nothing (1).")
    watch = watcher.watch(job_id, "n", 0, nothing, "bob")
    other = watcher.watch("77", "n2", 3600, nothing, "alice")
    await until(lambda: watch.unknown_since)
    await rounds(scheduler, 5)
    assert (watch.job, watch.ended) == (None, False)
    scheduler.details[job_id] = job
    await until(lambda: watch.job == job)
    assert (watch.unknown_since, watch.missing) == (None, 0)
    assert set(scheduler.described) == {job_id}
    assert other.job is None


async def test_a_second_question_that_failed_ends_nothing(
    scheduler: FakeScheduler, watcher: Watcher
) -> None:
    watch = await seen(watcher, scheduler.add("n", JobState.RUNNING))
    job_id = watch.job_id
    scheduler.details[job_id] = UnexpectedReply("qstat told neither jobs nor why not (0).")
    job = scheduler.jobs.pop(job_id)
    await until(lambda: watch.unknown_since)
    await rounds(scheduler, 5)
    assert (watch.ended, watch.ours) == (False, False)
    scheduler.jobs[job_id] = job
    await until(lambda: watch.unknown_since is None)
    del scheduler.jobs[job_id], scheduler.details[job_id]
    await until(lambda: watch.ended)


async def test_a_job_that_an_answer_leaves_out_without_a_word_is_not_missing(
    scheduler: FakeScheduler, watcher: Watcher
) -> None:
    watch = await seen(watcher, scheduler.add("n", JobState.RUNNING))
    job_id = watch.job_id
    scheduler.untold.add(job_id)
    del scheduler.jobs[job_id]
    await until(lambda: watch.unknown_since)
    await rounds(scheduler, 5)
    assert not watch.ended
    assert not scheduler.described


async def test_what_a_second_question_proves_alive_is_ours(
    scheduler: FakeScheduler, watcher: Watcher
) -> None:
    watch = await seen(watcher, scheduler.add("n", JobState.RUNNING))
    job_id = watch.job_id
    scheduler.details[job_id] = scheduler.jobs.pop(job_id)
    watch.hurry()
    await until(lambda: watch.ours and watch.asked >= watch.since and scheduler.described)
    scheduler.details[job_id] = None
    await until(lambda: watch.ended)


async def test_a_job_that_is_being_ended_is_asked_for_by_its_id_without_delay(
    scheduler: FakeScheduler, watcher: Watcher
) -> None:
    """A listing that lacks it (14+0, SQUEUE_PARTITION) must not keep it running for its grace."""
    watch = await seen(watcher, scheduler.add("n", JobState.RUNNING), grace=3600)
    job_id = watch.job_id
    scheduler.details[job_id] = scheduler.jobs.pop(job_id)
    await rounds(scheduler, 3)
    assert not scheduler.described
    watch.hurry()
    await until(lambda: watch.ours)
    scheduler.details[job_id] = None  # not proof yet: it may be late
    await rounds(scheduler, 3)
    assert not watch.ended


async def test_the_true_reason_is_asked_for_once_when_a_job_ends(
    scheduler: FakeScheduler, watcher: Watcher
) -> None:
    watch = await seen(watcher, scheduler.add("n", JobState.RUNNING, host="n1"))
    job_id = watch.job_id
    scheduler.details[job_id] = JobInfo(
        job_id, "n", JobState.ENDED, None, "detail", EndReason.OUT_OF_MEMORY, -9
    )
    scheduler.end(job_id, EndReason.FAILED, host="n1")
    await until(lambda: watch.ended)
    await rounds(scheduler, 4)
    assert scheduler.described == [job_id]
    assert watch.job is not None
    assert (watch.job.reason, watch.job.exit_status) == (EndReason.OUT_OF_MEMORY, -9)
    assert watch.job.host == "n1"


@pytest.mark.parametrize(
    "details",
    [None, JobInfo("1", "other", JobState.ENDED, reason=EndReason.TIMED_OUT)],
)
async def test_an_end_is_an_end_without_details_or_with_those_of_another(
    scheduler: FakeScheduler, watcher: Watcher, details: JobInfo | None
) -> None:
    job_id = scheduler.add("n")
    scheduler.details[job_id] = details
    watch = watcher.watch(job_id, "n", 0, nothing)
    await until(lambda: watch.job)
    scheduler.end(job_id, EndReason.PREEMPTED)
    await until(lambda: watch.ended)
    assert watch.job is not None
    assert watch.job.reason == EndReason.PREEMPTED


async def test_an_id_that_was_given_to_another_job_is_a_missing_job(
    scheduler: FakeScheduler, watcher: Watcher
) -> None:
    job_id = scheduler.add("other", JobState.RUNNING, host="evil")
    watch = watcher.watch(job_id, "n", 0.05, nothing)
    await until(lambda: watch.ended)
    assert watch.job is not None
    assert (watch.job.name, watch.job.host) == ("n", None)


async def test_two_jobs_with_one_id_are_told_apart_by_name(
    scheduler: FakeScheduler, watcher: Watcher
) -> None:
    job_id = scheduler.add("new", JobState.RUNNING)
    old = watcher.watch(job_id, "old", 0.05, nothing)
    new = watcher.watch(job_id, "new", 0.05, nothing)
    await until(lambda: old.ended)
    assert not new.ended
    watcher.drop(old)
    scheduler.end(job_id, EndReason.FINISHED)
    await until(lambda: new.ended)


async def test_a_state_that_is_not_known_ends_nothing(
    scheduler: FakeScheduler, watcher: Watcher
) -> None:
    watch = watcher.watch(scheduler.add("n", JobState.UNKNOWN, detail="NEW"), "n", 0, nothing)
    await rounds(scheduler, 5)
    assert not watch.ended


async def test_a_hint_makes_it_ask_soon(
    scheduler: FakeScheduler, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "INTERVAL_STARTING", 60.0)
    watch = watcher.watch(scheduler.add("n"), "n", 0, nothing)
    await until(lambda: watch.job)
    looks = scheduler.looks
    await asyncio.sleep(0.05)
    assert scheduler.looks <= looks + 1  # one more for the call of watch() at most
    scheduler.run(watch.job_id)
    scheduler.changed()
    await until(lambda: watch.job and watch.job.state == JobState.RUNNING)


async def test_many_hints_are_one_query(scheduler: FakeScheduler, watcher: Watcher) -> None:
    watch = watcher.watch(scheduler.add("n"), "n", 0, nothing)
    await until(lambda: watch.job)
    looks = scheduler.looks
    for _ in range(1000):
        watcher.wake()
    await asyncio.sleep(0)
    assert scheduler.looks <= looks + 1


async def test_nothing_is_asked_when_nothing_is_watched(
    scheduler: FakeScheduler, watcher: Watcher
) -> None:
    watch = watcher.watch(scheduler.add("n"), "n", 0, nothing)
    await until(lambda: watch.job)
    watcher.drop(watch)
    await asyncio.sleep(0.05)
    looks = scheduler.looks
    await asyncio.sleep(0.05)
    assert scheduler.looks == looks
    watcher.wake()
    await asyncio.sleep(0.02)
    assert scheduler.looks == looks


def test_rounds_are_fast_while_something_starts_and_slow_when_all_is_quiet(
    scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    watch = Watch("1", "n", 0, nothing)
    assert watch.interval == watcher_module.INTERVAL_STARTING
    watch.since -= watcher_module.YOUNG + 1
    assert watch.interval == watcher_module.INTERVAL_WAITING
    watch.job = JobInfo("1", "n", JobState.RUNNING)
    assert watch.interval == watcher_module.INTERVAL_STARTING
    watch.quiet = True
    assert watch.interval == watcher_module.INTERVAL_QUIET
    watch.hurry()
    assert watch.interval == watcher_module.INTERVAL_STARTING


def test_it_backs_off_with_jitter_while_it_cannot_ask(
    scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    watcher = Watcher(scheduler)
    assert watcher._pause() is None
    watcher._watches.add(Watch("1", "n", 0, nothing))
    pauses = []
    for failures in range(12):
        watcher._failures = failures
        pause = watcher._pause()
        assert pause is not None
        pauses.append(pause)
    assert pauses[1] < 1.2
    assert pauses[3] > 3
    assert 26 < pauses[-1] < 34
    assert len({watcher._pause() for _ in range(10)}) > 5


async def test_a_job_that_is_called_hopeless_for_long_enough_is_so(
    scheduler: FakeScheduler, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "HOPELESS", 0.1)
    told: list[str] = []
    job_id = scheduler.add("n")
    watch = watcher.watch(job_id, "n", 10, lambda: told.append(watch.hopeless))
    await until(lambda: watch.job)
    began = time.monotonic()
    scheduler.change(job_id, hopeless="It asks for too much.")
    await until(lambda: watch.hopeless)
    assert time.monotonic() - began >= 0.1
    assert told[-1] == "It asks for too much."
    assert not watch.ended


def test_a_job_that_is_hopeless_now_and_then_is_not_hopeless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = itertools.count()  # a listing each second
    monkeypatch.setattr(watcher_module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(watcher_module, "HOPELESS", 20)
    watch = Watch("1", "n", 10, nothing)
    for look in range(60):
        watch.job = JobInfo("1", "n", JobState.QUEUED, hopeless="No." if look % 5 else "")
        watch.judge()
        assert watch.hopeless == ""


async def test_a_job_that_runs_after_all_is_not_hopeless(
    scheduler: FakeScheduler, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "HOPELESS", 0.0)
    job_id = scheduler.add("n", hopeless="No.")
    watch = watcher.watch(job_id, "n", 10, nothing)
    await until(lambda: watch.hopeless)
    scheduler.run(job_id)
    await until(lambda: watch.hopeless == "")


async def test_an_adapter_that_answers_no_listing_does_not_end_the_watch(
    scheduler: FakeScheduler, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adapters of other packages are programs of others."""
    answers, list_jobs = [None, {"1": "R"}], scheduler.list_jobs

    async def wrong() -> object:
        return answers.pop() if answers else await list_jobs()

    monkeypatch.setattr(scheduler, "list_jobs", wrong)
    watch = watcher.watch(scheduler.add("a"), "a", 10, nothing)
    await until(lambda: watch.job)
    assert not answers


@pytest.mark.parametrize("error", [ClusterUnreachable("down"), ValueError("a bug")])
async def test_an_end_is_an_end_though_its_details_cannot_be_asked_for(
    scheduler: FakeScheduler, watcher: Watcher, error: Exception
) -> None:
    job_id = scheduler.add("n", JobState.RUNNING)
    scheduler.details[job_id] = error
    watch = watcher.watch(job_id, "n", 0, nothing)
    await until(lambda: watch.job)
    scheduler.end(job_id, EndReason.PREEMPTED, 1)
    await until(lambda: watch.ended)
    assert watch.job is not None
    assert (watch.job.reason, watch.job.exit_status) == (EndReason.PREEMPTED, 1)
    assert watch.unknown_since is None


async def test_whoever_closes_it_waits_until_nothing_is_asked_any_more(
    scheduler: FakeScheduler, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, over = asyncio.Event(), asyncio.Event()

    async def slow() -> Listing:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            over.set()
        raise AssertionError

    class Observer:
        interval, closed = 60.0, False

        def listed(self, listing: Listing, watched: Collection[str]) -> None:
            """Nothing is listed here."""

        async def close(self) -> None:
            self.closed = True

    monkeypatch.setattr(scheduler, "list_jobs", slow)
    observer = Observer()
    watcher.observe(observer)
    await asked.wait()
    await watcher.close()
    assert (over.is_set(), observer.closed, watcher._observer) == (True, True, None)


async def test_an_observer_sees_each_listing_and_who_is_watched_until_it_looks_no_more(
    scheduler: FakeScheduler, watcher: Watcher
) -> None:
    seen_names: list[set[str]] = []

    class Observer:
        interval, closed = 0.01, 0

        def listed(self, listing: Listing, watched: Collection[str]) -> None:
            assert set(listing.jobs) == {"1"}
            seen_names.append(set(watched))

        async def close(self) -> None:
            self.closed += 1

    scheduler.add("n")
    observer = Observer()
    watcher.observe(observer)
    await until(lambda: len(seen_names) > 2)  # though no job is watched
    watch = watcher.watch("1", "n", 0, nothing)
    await until(lambda: {"n"} in seen_names)
    assert seen_names[0] == set()
    scheduler.down = ClusterUnreachable("The controller does not answer.")
    await until(lambda: watcher.trouble == "The controller does not answer.")
    assert watcher.health.silent_since is not None
    count = len(seen_names)
    scheduler.down = ValueError("a bug")
    await until(lambda: watcher.trouble == "")
    assert len(seen_names) == count, "what failed is no listing"
    scheduler.down = None
    await until(lambda: len(seen_names) > count)
    assert (watcher.health.silent_since, watcher.trouble, watcher._failures) == (None, "", 0)
    await watcher.stop_observing()
    await watcher.stop_observing()
    count = len(seen_names)
    await rounds(scheduler, 2)
    assert (observer.closed, len(seen_names)) == (1, count)
    watcher.drop(watch)
