"""How a job ended, by what it left behind where its scheduler keeps no history."""

from dataclasses import replace

import pytest

from hpcbridge.clusters.remains import Remains, completed
from hpcbridge.schedulers.base import EndReason, JobInfo, JobState
from tests.sessions.world import World, ended
from tests.waiting import until

GONE = JobInfo("7", "n", JobState.ENDED, detail="gone", reason=EndReason.FINISHED)


@pytest.mark.parametrize(
    ("remains", "reason", "status"),
    [
        (
            Remains(said="=>> PBS: job killed: walltime 26 exceeded limit 20", exit_status=143),
            EndReason.TIMED_OUT,
            143,
        ),
        (
            Remains(said="x\n=>> PBS: job killed: mem 20480kb exceeded limit 10240kb", told=True),
            EndReason.OUT_OF_MEMORY,
            None,
        ),
        (
            Remains(
                said="slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-29T22:10:00 "
                "DUE TO TIME LIMIT ***"
            ),
            EndReason.TIMED_OUT,
            None,
        ),
        (Remains(exit_status=143), EndReason.CANCELLED, 143),
        (Remains(exit_status=139), EndReason.FAILED, 139),
        (Remains(exit_status=0), EndReason.FINISHED, 0),
        (Remains(began=True, told=True), EndReason.FAILED, None),
        (Remains(began=True), EndReason.FINISHED, None),
        # An application can print what it likes into its own log, but not speak for PBS.
        (
            Remains(tail="=>> PBS: job killed: walltime 1 exceeded limit 1", exit_status=0),
            EndReason.FINISHED,
            0,
        ),
    ],
)
def test_what_a_job_left_tells_how_it_ended(
    remains: Remains, reason: EndReason, status: int | None
) -> None:
    found = completed(GONE, remains)
    assert (found.reason, found.exit_status) == (reason, status)


def test_a_completing_job_whose_script_is_still_ending_was_cancelled() -> None:
    job = JobInfo("7", "n", JobState.COMPLETING)
    assert completed(job, Remains(told=True)).reason == EndReason.CANCELLED
    assert completed(job, Remains(told=True, exit_status=0)).reason == EndReason.FINISHED
    assert completed(job, Remains(told=True, exit_status=143)).reason == EndReason.CANCELLED
    assert completed(job, Remains()).reason is None


def test_a_job_that_was_killed_with_its_script_says_what_is_known_of_it() -> None:
    told = completed(GONE, Remains(began=True, told=True))
    assert told.detail == "it was killed, or its node failed; gone"
    unknown = Remains(said="=>> PBS: job killed: ncpus 3.1 exceeded limit 1 (sum)", exit_status=271)
    assert completed(GONE, unknown) == replace(
        GONE,
        reason=EndReason.FAILED,
        detail="ncpus 3.1 exceeded limit 1 (sum)",
        exit_status=271,
    )
    made_room = "*** JOB 7 ON n1 CANCELLED AT 2026-11-29T22:10:00 DUE TO PREEMPTION ***"
    assert completed(GONE, Remains(said=made_room)).reason == EndReason.PREEMPTED
    other = made_room.replace("PREEMPTION", "JOB REQUEUE")
    assert completed(GONE, Remains(said=other, exit_status=0)).reason == EndReason.CANCELLED


def test_what_the_scheduler_tells_counts_more() -> None:
    for told in (
        JobInfo("7", "n", JobState.ENDED, reason=EndReason.PREEMPTED),
        JobInfo("7", "n", JobState.ENDED, reason=EndReason.FAILED, exit_status=2),
        JobInfo("7", "n", JobState.ENDED, reason=EndReason.FINISHED, exit_status=0),
    ):
        assert completed(told, Remains(said="=>> PBS: job killed: walltime", exit_status=1)) == told


async def test_a_ready_session_that_vanished_is_told_by_what_its_job_left(world: World) -> None:
    await world.ready()
    world.transport.files[f"{world.row.directory}/scheduler.out"] = (
        b"=>> PBS: job killed: walltime 26 exceeded limit 20\n"
    )
    world.transport.session(world.row).tells("exit=143\n")
    del world.scheduler.jobs[world.row.job_id or ""]
    await ended(world, EndReason.TIMED_OUT, "walltime", "26 exceeded limit 20")


async def test_a_job_that_was_dropped_from_the_queue_did_not_crash(world: World) -> None:
    await world.queued()
    world.scheduler.change(world.row.job_id or "", detail="waiting for 2 GPUs")
    await until(lambda: "GPUs" in world.row.message)
    del world.scheduler.jobs[world.row.job_id or ""]
    await ended(
        world,
        EndReason.REJECTED,
        "dropped from the queue before it ran",
        "the scheduler no longer knows the job",
        "Waiting for 2 GPUs",
    )
