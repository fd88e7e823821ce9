"""The tests. A subclass gives the bench, and says what it cannot do, and why."""

import secrets
from collections.abc import AsyncIterator, Mapping
from typing import ClassVar

import pytest
import pytest_asyncio

from hpcbridge.conformance.bench import Ability, Bench, Job, needs
from hpcbridge.conformance.faults import Faults
from hpcbridge.errors import JobRejected
from hpcbridge.schedulers.base import EndReason, JobState, Scheduler


@pytest.mark.asyncio
class Conformance(Faults):
    """Subclass it as ``class TestNAME(Conformance)`` with a fixture ``bench`` that gives a
    :class:`Bench`.

    ``class TestNAME(Conformance, cannot={ability: reason})`` says for each :class:`Ability` that
    the bench lacks, why. The tests that need it are not part of the subclass then: none is skipped.
    """

    cannot: ClassVar[Mapping[Ability, str]] = {}

    def __init_subclass__(cls, cannot: Mapping[Ability, str] | None = None) -> None:
        super().__init_subclass__()
        cls.cannot = cls.cannot if cannot is None else cannot
        for name in dir(cls):
            if set(getattr(getattr(cls, name), "needs", ())) & set(cls.cannot):
                setattr(cls, name, None)

    @pytest_asyncio.fixture
    async def scheduler(self, bench: Bench) -> AsyncIterator[Scheduler]:
        """The adapter under test."""
        scheduler = bench.connect()
        yield scheduler
        await scheduler.close()

    async def test_what_the_bench_cannot_do_has_a_reason(self) -> None:
        assert all(len(reason) > 20 for reason in self.cannot.values())

    # -- the life of a job

    async def test_a_submitted_job_is_listed_with_its_name(
        self, bench: Bench, scheduler: Scheduler
    ) -> None:
        job = await Job.submitted(bench, scheduler)
        info = await job.until(job.listed, "the job in the listing")
        assert (info.job_id, info.name) == (job.job_id, job.request.name)
        assert info.state in (JobState.QUEUED, JobState.RUNNING)

    @needs(Ability.FULL)
    async def test_a_job_that_waits_is_queued_with_a_reason_and_then_runs(
        self, bench: Bench, scheduler: Scheduler
    ) -> None:
        async with bench.full():
            job = await Job.submitted(bench, scheduler)
            info = await job.seen(JobState.QUEUED)
            assert info.host is None
            assert info.detail
            assert not info.hopeless
        await job.seen(JobState.RUNNING)

    async def test_a_running_job_has_its_host(self, bench: Bench, scheduler: Scheduler) -> None:
        job = await Job.submitted(bench, scheduler)
        assert (await job.seen(JobState.RUNNING)).host in bench.hosts

    async def test_what_a_job_prints_is_read_while_it_runs(
        self, bench: Bench, scheduler: Scheduler
    ) -> None:
        job = await Job.submitted(bench, scheduler)
        assert await job.until(job.output, "the first line") == "begun\n"
        await job.say("ready on port 4711")
        more = await job.until(lambda: job.output(len("begun\n")), "the second line")
        assert more == "ready on port 4711"
        assert (await job.seen(JobState.RUNNING)).job_id == job.job_id

    @needs(Ability.HISTORY)
    @pytest.mark.parametrize(("status", "reason"), [(0, EndReason.FINISHED), (3, EndReason.FAILED)])
    async def test_a_job_ends_with_its_exit_status(
        self, bench: Bench, scheduler: Scheduler, status: int, reason: EndReason
    ) -> None:
        job = await Job.submitted(bench, scheduler)
        await job.end(status)
        info = await job.known_end()
        assert (info.state, info.reason) == (JobState.ENDED, reason)
        assert info.exit_status in (status, None)
        assert info.name == job.request.name

    @needs(Ability.WALLTIME, Ability.HISTORY)
    async def test_a_job_that_exceeds_its_walltime_has_timed_out(
        self, bench: Bench, scheduler: Scheduler
    ) -> None:
        job = await Job.submitted(bench, scheduler, walltime=2)
        await job.seen(JobState.RUNNING)
        assert (await job.known_end()).reason == EndReason.TIMED_OUT

    @needs(Ability.REFUSED)
    async def test_a_job_that_is_refused_is_told_as_rejected_with_a_reason(
        self, bench: Bench, scheduler: Scheduler
    ) -> None:
        job = await Job.staged(bench, scheduler, directives=bench.refused_directives)
        with pytest.raises(JobRejected, match=r"\w+ \w+"):
            await scheduler.submit(job.request)
        assert await scheduler.find(job.request.name) is None

    async def test_a_new_adapter_knows_the_jobs_of_the_one_before(
        self, bench: Bench, scheduler: Scheduler
    ) -> None:
        job = await Job.submitted(bench, scheduler)
        await job.seen(JobState.RUNNING)
        await scheduler.close()
        job.scheduler = bench.connect()
        try:
            assert (await job.seen(JobState.RUNNING)).name == job.request.name
            await job.cancel()
            await job.over()
        finally:
            await job.scheduler.close()

    # -- cancelling

    async def test_a_running_job_is_cancelled_twice(
        self, bench: Bench, scheduler: Scheduler
    ) -> None:
        job = await Job.submitted(bench, scheduler)
        await job.seen(JobState.RUNNING)
        await job.cancel()
        await job.cancel()
        info = await job.over()
        assert info is None or info.reason in (EndReason.CANCELLED, EndReason.FAILED)
        await job.cancel()

    @needs(Ability.FULL)
    async def test_a_queued_job_is_cancelled_and_never_runs(
        self, bench: Bench, scheduler: Scheduler
    ) -> None:
        async with bench.full():
            job = await Job.submitted(bench, scheduler)
            await job.seen(JobState.QUEUED)
            await job.cancel()
            await job.over()
        assert await job.output() == ""

    async def test_unknown_ids_do_not_keep_the_known_ones_from_being_cancelled(
        self, bench: Bench, scheduler: Scheduler
    ) -> None:
        job = await Job.submitted(bench, scheduler)
        await job.seen(JobState.RUNNING)
        await scheduler.cancel({bench.unknown_id: "hpcb-0"})
        await scheduler.cancel({bench.unknown_id: "hpcb-0", job.job_id: job.request.name})
        await job.over()

    async def test_a_job_that_has_another_name_is_another_one_and_is_not_cancelled(
        self, bench: Bench, scheduler: Scheduler
    ) -> None:
        job = await Job.submitted(bench, scheduler)
        await job.seen(JobState.RUNNING)
        await scheduler.cancel({job.job_id: f"{job.request.name}0"})
        await job.say("alive")

        async def alive() -> bool:
            return "alive" in await job.output()

        await job.until(alive, "a word of the job that nobody meant")
        await job.seen(JobState.RUNNING)
        await job.cancel()
        await job.over()

    async def test_cancelling_nothing_asks_nothing(
        self, bench: Bench, scheduler: Scheduler
    ) -> None:
        before = bench.asked()
        await scheduler.cancel({})
        assert bench.asked() == before

    # -- looking jobs up

    async def test_a_job_is_found_by_its_whole_name(
        self, bench: Bench, scheduler: Scheduler
    ) -> None:
        name = f"hpcb-{secrets.token_hex(6)}"
        short = await Job.submitted(bench, scheduler, name)
        long = await Job.submitted(bench, scheduler, f"{name}0")
        await short.until(lambda: scheduler.find(name), "the job by its name")
        assert await scheduler.find(name) == short.job_id
        assert await scheduler.find(f"{name}0") == long.job_id
        assert await scheduler.find(name[:-1]) is None

    async def test_the_newest_of_two_jobs_with_one_name_is_found(
        self, bench: Bench, scheduler: Scheduler
    ) -> None:
        first = await Job.submitted(bench, scheduler)
        second = await Job.submitted(bench, scheduler, first.request.name)

        async def found() -> bool:
            return await scheduler.find(first.request.name) == second.job_id

        await second.until(found, "the newer job by its name")

    @needs(Ability.HISTORY)
    async def test_a_job_that_has_ended_is_still_found_by_its_name(
        self, bench: Bench, scheduler: Scheduler
    ) -> None:
        job = await Job.submitted(bench, scheduler)
        await job.end()
        await job.known_end()
        assert await scheduler.find(job.request.name) == job.job_id

    async def test_a_job_that_nobody_knows_has_no_end(
        self, bench: Bench, scheduler: Scheduler
    ) -> None:
        assert await scheduler.describe_end(bench.unknown_id) is None

    async def test_the_outlook_is_of_the_jobs_that_were_asked_for(
        self, bench: Bench, scheduler: Scheduler
    ) -> None:
        job = await Job.submitted(bench, scheduler)
        outlook = await scheduler.outlook([job.job_id, bench.unknown_id])
        assert set(outlook) <= {job.job_id}
        assert await scheduler.outlook([]) == {}
