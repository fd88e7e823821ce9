"""The tests of what goes wrong: losses, outages, bad answers, hostile names, crowds."""

import asyncio
import contextlib

import pytest

from hpcbridge.conformance.bench import Ability, Bench, Job, needs
from hpcbridge.errors import ClusterUnreachable, JobRejected, OutcomeUnknown, UnexpectedReply
from hpcbridge.schedulers.base import JobState, Scheduler
from hpcbridge.transports.base import Slice

# What a user of the cluster may call a job of their own, and what only an attacker would. PWNED is
# the path of a file that must not appear.
HOSTILE_NAMES = [
    "-oPWNED",
    "--wrap=touch PWNED",
    "a b\tc",
    "x;touch PWNED",
    "$(touch PWNED)",
    "`touch PWNED`",
    "x\n#SBATCH -o PWNED\n#PBS -o PWNED\n#$ -o PWNED",
    "x\ny 1 RUNNING",
    "x\x1fy\x1ez",
    "a,b=c|d:e%i%j",
    "'\"\\",
    "</JB_name><JB_name>&amp;",
    '"},{"id": 1,',
    "Übersicht ☃",
    "x" * 300,
]


@pytest.mark.asyncio
class Faults:
    """Part of :class:`~hpcbridge.conformance.suite.Conformance`."""

    @needs(Ability.FORGET)
    async def test_a_job_that_vanished_is_not_listed_and_is_no_error(
        self, bench: Bench, scheduler: Scheduler
    ) -> None:
        job = await Job.submitted(bench, scheduler)
        await job.seen(JobState.RUNNING)
        await bench.forget(job.job_id)
        info = await job.over()
        assert info is None or info.state == JobState.ENDED
        await job.cancel()

    @needs(Ability.OUTAGE)
    async def test_an_outage_is_told_as_one_and_ends_nothing(
        self, bench: Bench, scheduler: Scheduler
    ) -> None:
        job = await Job.submitted(bench, scheduler)
        await job.seen(JobState.RUNNING)
        other = await Job.staged(bench, scheduler)
        async with bench.outage():
            for question in (
                scheduler.list_jobs(),
                scheduler.find(job.request.name),
                job.cancel(),
                scheduler.submit(other.request),
            ):
                with pytest.raises(ClusterUnreachable, match=r"\w+ \w+"):
                    await question
            assert await self._no_end(scheduler, job.job_id)
        info = await job.seen(JobState.RUNNING)
        assert info.name == job.request.name

    @staticmethod
    async def _no_end(scheduler: Scheduler, job_id: str) -> bool:
        """An accounting that answers by itself may answer; it must not tell of an end."""
        try:
            info = await scheduler.describe_end(job_id)
        except (ClusterUnreachable, UnexpectedReply):
            return True
        return info is None or info.state != JobState.ENDED

    @needs(Ability.GARBLED)
    async def test_an_answer_that_cannot_be_read_is_no_answer(
        self, bench: Bench, scheduler: Scheduler
    ) -> None:
        job = await Job.submitted(bench, scheduler)
        await job.seen(JobState.RUNNING)
        other = await Job.staged(bench, scheduler)
        async with bench.garbled():
            with pytest.raises(UnexpectedReply, match=r"\w+ \w+"):
                await scheduler.list_jobs()
            with pytest.raises(UnexpectedReply):
                await scheduler.find(job.request.name)
            with pytest.raises(OutcomeUnknown):
                await scheduler.submit(other.request)
            assert await self._no_end(scheduler, job.job_id)
        await job.seen(JobState.RUNNING)

    @needs(Ability.LOST_ANSWER)
    async def test_a_job_whose_id_got_lost_is_found_by_its_name(
        self, bench: Bench, scheduler: Scheduler
    ) -> None:
        job = await Job.staged(bench, scheduler)
        async with bench.lost_answer():
            with pytest.raises(OutcomeUnknown):
                await scheduler.submit(job.request)
        found = await job.until(lambda: scheduler.find(job.request.name), "the job by its name")
        jobs = (await scheduler.list_jobs()).jobs
        named = [each.job_id for each in jobs.values() if each.name == job.request.name]
        assert named == [found]

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    async def test_a_hostile_name_is_refused_or_is_only_a_name(
        self, bench: Bench, scheduler: Scheduler, name: str
    ) -> None:
        witness = await Job.submitted(bench, scheduler)
        pwned = f"{bench.root}/pwned"
        job = await Job.staged(bench, scheduler, name.replace("PWNED", pwned))
        # A batch system that is confused by a name says so in an answer that tells nothing.
        with contextlib.suppress(JobRejected, OutcomeUnknown):
            job.job_id = await scheduler.submit(job.request)
            await job.until(job.listed, "the job with the hostile name")
        seen = await witness.until(witness.listed, "the job beside it")
        assert seen.name == witness.request.name
        both = [each for each in (job, witness) if each.job_id]
        await scheduler.cancel({each.job_id: each.request.name for each in both})
        assert await bench.transport.read([Slice(pwned, 0, 1)]) == [None]

    @needs(Ability.CROWD)
    async def test_a_thousand_jobs_are_listed_by_no_more_questions_than_one(
        self, bench: Bench, scheduler: Scheduler
    ) -> None:
        job = await Job.submitted(bench, scheduler)
        await job.until(job.listed, "the job in the listing")
        before = bench.asked()
        await scheduler.list_jobs()
        for_one = bench.asked() - before
        names = [f"hpcb-crowd-{number:04d}" for number in range(1000)]
        await bench.crowd(names)

        async def everybody() -> bool:
            listing = await scheduler.list_jobs()
            return set(names) <= {each.name for each in listing.jobs.values()}

        await job.until(everybody, "a thousand jobs in the listing")
        before = bench.asked()
        async with asyncio.timeout(bench.patience):
            listing = await scheduler.list_jobs()
        assert bench.asked() - before == for_one
        assert job.job_id in listing.jobs
