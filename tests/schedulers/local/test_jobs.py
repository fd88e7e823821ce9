"""The runner's jobs by their state."""

import pytest

from hpcbridge.schedulers.base import EndReason, JobState
from hpcbridge.schedulers.local.job import Job
from hpcbridge.schedulers.local.jobs import Jobs


def job(number: int, state: JobState = JobState.QUEUED, *, ended: float = 0.0) -> Job:
    return Job(number, f"job{number}", "/d", "/d/job.sh", None, state, ended=ended)


def ids(jobs: object) -> list[int]:
    return [each.job_id for each in jobs]  # type: ignore[attr-defined]


def test_jobs_that_were_written_down_stand_in_the_order_of_their_ids() -> None:
    states = {10: JobState.QUEUED, 9: JobState.RUNNING, 8: JobState.ENDED, 2: JobState.QUEUED}
    jobs = Jobs(job(number, state) for number, state in states.items())
    assert (ids(jobs), ids(jobs.queued), ids(jobs.running)) == ([2, 8, 9, 10], [2, 10], [9])
    assert (jobs.unfinished, jobs.next_id) == (3, 11)
    assert list(jobs.listing.jobs) == ["2", "8", "9", "10"]


def test_a_job_is_in_one_state_at_a_time_and_told_so() -> None:
    jobs, one = Jobs(), job(1)
    seen = []
    jobs.add(one)
    for state in (JobState.QUEUED, JobState.RUNNING, JobState.ENDED):
        if state != JobState.QUEUED:
            one.reason = EndReason.FINISHED
            jobs.move(one, state)
        told = jobs.listing.jobs["1"]
        seen.append((ids(jobs.queued), ids(jobs.running), told.state, jobs.unfinished))
    assert seen == [
        ([1], [], JobState.QUEUED, 1),
        ([], [1], JobState.RUNNING, 1),
        ([], [], JobState.ENDED, 0),
    ]
    assert told.reason == EndReason.FINISHED


def test_a_listing_that_was_given_away_stays_as_it_was() -> None:
    jobs = Jobs([job(1)])
    listing = jobs.listing
    jobs.move(next(iter(jobs.queued)), JobState.RUNNING)
    jobs.add(job(2))
    assert {key: each.state for key, each in listing.jobs.items()} == {"1": JobState.QUEUED}


@pytest.mark.parametrize(("limit", "gone", "left"), [(5, [], 4), (25, [3, 1], 2), (99, [3, 1], 2)])
def test_what_ended_long_ago_is_forgotten_but_for_the_newest(
    limit: float, gone: list[int], left: int
) -> None:
    """The next id is counted from the newest: ids are not used again after a restart."""
    jobs = Jobs(
        [
            job(3, JobState.ENDED, ended=10),
            job(1, JobState.ENDED, ended=20),
            job(4, JobState.ENDED, ended=30),
            job(2),
        ]
    )
    assert ids(jobs.forget(limit)) == gone
    assert (len(ids(jobs)), jobs.next_id) == (left, 5)
    assert [jobs.named(f"job{number}") for number in gone] == [None] * len(gone)
    assert len(jobs.listing.jobs) == left


def test_the_last_job_of_a_name_is_the_one_that_is_found() -> None:
    first, again = job(1, JobState.ENDED, ended=1), job(2)
    again.name = first.name
    jobs = Jobs([first])
    jobs.add(again)
    assert jobs.named("job1") is again
    assert ids(jobs.forget(5)) == [1]
    assert jobs.named("job1") is again


def test_a_newest_job_that_ended_first_keeps_none_of_the_others() -> None:
    jobs = Jobs([job(2, JobState.ENDED, ended=5), job(1, JobState.ENDED, ended=9)])
    assert ids(jobs.forget(50)) == [1]
    jobs.add(job(3))
    assert ids(jobs.forget(50)) == [2]
