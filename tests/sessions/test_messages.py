"""How a session's end is told to a person."""

from typing import Any

import pytest

from hpcbridge.schedulers.base import JobInfo, JobState
from hpcbridge.sessions import messages
from hpcbridge.states import EndReason


def a_job(**more: Any) -> JobInfo:
    return JobInfo("1", "n", JobState.ENDED, **more)


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (a_job(), "its job is over."),
        (a_job(detail="gone"), "its job is over (gone)."),
        (a_job(exit_status=0), "exit status 0."),
        (a_job(exit_status=139, detail="NonZeroExitCode"), "exit status 139 (NonZeroExitCode)."),
        (a_job(exit_status=-11), "ended by signal 11."),
        (a_job(exit_status=2, reason=EndReason.FAILED), "exit status 2."),
        (a_job(exit_status=0, reason=EndReason.TIMED_OUT), "its job has used up its walltime."),
    ],
)
def test_how_a_job_ended_is_one_sentence(job: JobInfo, said: str) -> None:
    assert messages.how_it_ended(job) == said
    assert messages.ended_later(job) == f"The session is over: {said}"
    assert messages.died_early(job, "last").endswith(
        f": {said}\nThe last lines of its output:\nlast"
    )
    assert messages.died_early(job, "").endswith(f": {said}\nIt printed nothing.")


def test_what_a_job_waited_for_is_told_where_it_was_dropped() -> None:
    waited = messages.dropped(a_job(), "Waiting for 2 GPUs.")
    assert waited.endswith("its job is over. Before that: Waiting for 2 GPUs.")
    assert messages.dropped(a_job(), "Waiting in the queue.").endswith("its job is over.")


def test_a_cause_is_told_where_one_is_known() -> None:
    assert messages.silent_cluster(5).endswith("its cluster does not answer.")
    assert messages.silent_cluster(5, "No.").endswith("does not answer. The last answer: No.")
    assert "taken port 8080 of" in messages.port_taken("n1", 8080)
    assert "taken port (unknown) of" in messages.port_taken("n1", None)


def test_the_lines_that_were_waited_for_are_named() -> None:
    assert "lacks 'a' or 'b' (its setting ready_line)" in messages.never_ready(5, ["a", "b"], "")
    assert "did not tell a port" in messages.never_ready(5, [], "")
