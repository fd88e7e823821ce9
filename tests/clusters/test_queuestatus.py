"""What waiting jobs may expect: asked for together, seldom, and without anybody waiting for it."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Collection, Mapping

import pytest

from hpcbridge.clusters import queuestatus as queuestatus_module
from hpcbridge.clusters.queuestatus import QueueStatusPoller
from hpcbridge.clusters.watcher import Watch, Watcher
from hpcbridge.errors import ClusterUnreachable
from hpcbridge.schedulers.base import EndReason, JobState, Outlook
from tests.fakes import FakeScheduler
from tests.intervals import watch_every
from tests.waiting import until

SOON = Outlook(queue="viz", ahead=14, start=1.8e9, waits_for="2 GPUs")


def nothing() -> None:
    """No one has to be told."""


@pytest.fixture
def scheduler() -> FakeScheduler:
    return FakeScheduler()


@pytest.fixture
async def watcher(
    scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Watcher]:
    """Listings every 10 ms, outlooks every 30 ms; jobs are asked for from their first one on."""
    watch_every(0.01, monkeypatch, least=0.002)
    monkeypatch.setattr(queuestatus_module, "PATIENCE", 0.0)
    monkeypatch.setattr(queuestatus_module, "SOON", 0.03)
    monkeypatch.setattr(queuestatus_module, "INTERVAL", 0.03)
    monkeypatch.setattr(queuestatus_module, "SHARE", 0)
    watcher = Watcher(scheduler)
    yield watcher
    await watcher.close()


async def test_a_waiting_job_gets_its_outlook_and_its_session_is_told_once(
    scheduler: FakeScheduler, watcher: Watcher
) -> None:
    moved: list[Outlook | None] = []
    job_id = scheduler.add("n")
    scheduler.outlooks[job_id] = SOON
    watch = watcher.watch(job_id, "n", 10, lambda: moved.append(watch.outlook))
    await until(lambda: len(scheduler.looks_ahead) >= 3)
    assert watch.outlook == SOON
    assert moved == [None, SOON]  # the listing, then the outlook; the same again is no news


async def test_one_question_is_for_all_that_wait_whatever_their_number(
    scheduler: FakeScheduler, watcher: Watcher
) -> None:
    ids = {scheduler.add(f"n{number}") for number in range(1000)}
    scheduler.outlooks = dict.fromkeys(ids, SOON)
    watches = [watcher.watch(each, scheduler.jobs[each].name, 10, nothing) for each in ids]
    await until(lambda: all(watch.outlook for watch in watches))
    assert scheduler.looks_ahead[-1] == ids
    assert len(scheduler.looks_ahead) <= 3


async def test_nothing_is_asked_while_nothing_waits(
    scheduler: FakeScheduler, watcher: Watcher
) -> None:
    watch = watcher.watch(scheduler.add("n", JobState.RUNNING), "n", 10, nothing)
    await until(lambda: scheduler.looks > 10)
    assert scheduler.looks_ahead == []
    assert watch.outlook is None


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.ENDED])
async def test_a_job_that_waits_no_longer_has_no_outlook(
    scheduler: FakeScheduler, watcher: Watcher, state: JobState
) -> None:
    job_id = scheduler.add("n")
    scheduler.outlooks[job_id] = SOON
    watch = watcher.watch(job_id, "n", 10, nothing)
    await until(lambda: watch.outlook)
    scheduler.change(job_id, state=state, reason=EndReason.CANCELLED)
    await until(lambda: watch.outlook is None)


@pytest.mark.parametrize("error", [ClusterUnreachable("down"), ValueError("a bug")])
async def test_a_failure_changes_nothing(
    scheduler: FakeScheduler, watcher: Watcher, error: Exception
) -> None:
    job_id = scheduler.add("n")
    scheduler.outlooks[job_id] = SOON
    watch = watcher.watch(job_id, "n", 10, nothing)
    await until(lambda: watch.outlook)
    scheduler.no_outlook = error
    asked = len(scheduler.looks_ahead)
    await until(lambda: len(scheduler.looks_ahead) > asked + 2)
    assert watch.outlook == SOON
    assert watch.unknown_since is None
    scheduler.run(job_id)
    await until(lambda: watch.job and watch.job.state == JobState.RUNNING)


async def test_an_answer_that_never_comes_delays_nothing(
    scheduler: FakeScheduler, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def hang(job_ids: Collection[str]) -> Mapping[str, Outlook]:
        assert not asked.is_set(), "asked again before the answer"
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(scheduler, "outlook", hang)
    watch = watcher.watch(scheduler.add("n"), "n", 10, nothing)
    await asked.wait()
    looks = scheduler.looks
    await until(lambda: scheduler.looks > looks + 10)
    scheduler.run(watch.job_id)
    await until(lambda: watch.job and watch.job.state == JobState.RUNNING)


class Beat:
    """How often is asked in so many seconds of a made-up clock, with a listing each second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.monotonic()
        monkeypatch.setattr(queuestatus_module.time, "monotonic", lambda: self.now)
        self.scheduler = FakeScheduler()
        self.outlooks = QueueStatusPoller(self.scheduler)
        self.cost = 0.0
        self.scheduler._ask = self._take_time  # type: ignore[method-assign]

    def _take_time(self) -> None:
        self.now += self.cost

    def waiting(self) -> Watch:
        watch = Watch(self.scheduler.add("n"), "n", 10, nothing)
        watch.job = self.scheduler.jobs[watch.job_id]
        return watch

    async def asked(self, watches: list[Watch], seconds: int, arrivals: int = 0) -> int:
        before = len(self.scheduler.looks_ahead)
        for _ in range(seconds):
            watches += [self.waiting() for _ in range(arrivals)]
            self.outlooks.poll(watches)
            while self.outlooks._task and not self.outlooks._task.done():
                await asyncio.sleep(0)
            self.now += 1
        return len(self.scheduler.looks_ahead) - before


async def test_four_questions_a_minute_for_one_session_and_for_a_thousand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for count in (1, 100, 1000):
        interval = Beat(monkeypatch)
        watches = [interval.waiting() for _ in range(count)]
        await interval.asked(watches, 10)
        assert await interval.asked(watches, 60) == 4


async def test_twelve_a_minute_at_most_while_sessions_come_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for arrivals in (1, 10):
        interval = Beat(monkeypatch)
        await interval.asked([], 10, arrivals)
        assert await interval.asked([], 60, arrivals) <= 12


async def test_a_job_that_starts_at_once_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    interval = Beat(monkeypatch)
    assert await interval.asked([interval.waiting()], 2) == 0
    assert await interval.asked([interval.waiting()], 3) == 1


async def test_a_costly_question_is_asked_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    interval = Beat(monkeypatch)
    interval.cost = 5.0
    watches = [interval.waiting()]
    await interval.asked(watches, 10)
    assert await interval.asked(watches, 210) == 2


async def test_a_question_that_fails_is_not_asked_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interval = Beat(monkeypatch)
    interval.scheduler.no_outlook = ClusterUnreachable("down")
    watches = [interval.waiting()]
    await interval.asked(watches, 10)
    assert await interval.asked(watches, 60) == 4


async def test_whoever_closes_it_waits_until_nothing_is_asked_any_more(
    scheduler: FakeScheduler, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, over = asyncio.Event(), asyncio.Event()

    async def slow(job_ids: Collection[str]) -> Mapping[str, Outlook]:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            over.set()
        raise AssertionError

    monkeypatch.setattr(scheduler, "outlook", slow)
    watcher.watch(scheduler.add("n"), "n", 10, nothing)
    await asked.wait()
    await watcher.close()
    assert over.is_set()


async def test_a_job_that_began_to_run_meanwhile_gets_no_outlook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interval, moved = Beat(monkeypatch), []
    runs, waits = interval.waiting(), interval.waiting()
    for watch in (runs, waits):
        interval.scheduler.outlooks[watch.job_id] = SOON
        watch.changed = lambda watch=watch: moved.append(watch)  # type: ignore[misc]
    running = dataclasses.replace(interval.scheduler.jobs[runs.job_id], state=JobState.RUNNING)
    interval.scheduler._ask = lambda: setattr(runs, "job", running)  # type: ignore[method-assign]
    interval.now += queuestatus_module.PATIENCE
    assert await interval.asked([runs, waits], 1) == 1
    assert (runs.outlook, waits.outlook, moved) == (None, SOON, [waits])
    del interval.scheduler.outlooks[waits.job_id]
    interval.now += 60
    assert await interval.asked([waits], 1) == 1
    assert (waits.outlook, len(moved)) == (Outlook(), 2), "nothing is known of it any more"
