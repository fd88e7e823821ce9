"""What ended a session, as its record has it."""

import inspect
from typing import Any

import pytest

from hpcbridge import errors
from hpcbridge.clusters.remains import Remains
from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.errors import BridgeError, ClusterError, NotReadyInTime, RequestError, SessionFailed
from hpcbridge.schedulers.base import JobInfo, JobState
from hpcbridge.sessions.termination import (
    class_of,
    job_over,
    recorded,
    silent_too_long,
    too_late,
)
from hpcbridge.states import EndReason, State
from hpcbridge.store import SessionRow


def ended(reason: EndReason, error_class: str | None) -> SessionRow:
    return SessionRow(
        id="a" * 40,
        application="cone",
        cluster="here",
        job_name="hpcb-a",
        state=State.ENDED,
        reason=reason,
        message="What was wrong.",
        error_class=error_class,
    )


NO_ENDS = errors.StillStarting | errors.UploadFailed | errors.SessionsLeft
POSSIBLE = [
    each
    for each in vars(errors).values()
    if inspect.isclass(each)
    and issubclass(each, BridgeError)
    and not issubclass(each, RequestError | NO_ENDS)
]


@pytest.mark.parametrize("kind", POSSIBLE)
def test_an_error_comes_back_as_what_it_was(kind: type[BridgeError]) -> None:
    found = recorded(ended(EndReason.REJECTED, class_of(kind("What was wrong."))))
    assert type(found) is kind
    assert (str(found), found.status) == ("What was wrong.", kind.status)


def test_an_error_of_an_adapters_own_is_one_of_the_kind_above() -> None:
    class QueueClosed(ClusterError):
        """Of another package, which another replica may lack."""

    assert class_of(QueueClosed("Closed.")) == "ClusterError"


@pytest.mark.parametrize("error_class", [None, "", "SomethingNewer", "str"])
@pytest.mark.parametrize(
    ("reason", "kind"),
    [(EndReason.NEVER_READY, NotReadyInTime), (EndReason.REJECTED, SessionFailed)],
)
def test_a_record_that_does_not_tell_is_read_as_before(
    reason: EndReason, kind: type[BridgeError], error_class: str | None
) -> None:
    assert type(recorded(ended(reason, error_class))) is kind


def test_what_is_said_before_is_part_of_the_message() -> None:
    assert str(recorded(ended(EndReason.FAILED, None), "It ended: ")) == "It ended: What was wrong."


# -- why it ended


def live(state: State, **columns: Any) -> SessionRow:
    given = {"application": "cone", "cluster": "here", "job_name": "hpcb-a", "state": state}
    return SessionRow(id="a" * 40, **(given | columns))


def gone(reason: EndReason | None = EndReason.FINISHED, **more: Any) -> JobInfo:
    return JobInfo("1", "hpcb-a", JobState.ENDED, reason=reason, **more)


DROPPED, EARLY, LATER = "was dropped from the queue", "ended before it was ready", "session is over"


@pytest.mark.parametrize(
    ("row", "job", "remains", "reason", "said"),
    [
        (live(State.QUEUED), gone(), Remains(), EndReason.REJECTED, DROPPED),
        (live(State.QUEUED), gone(None), Remains(), EndReason.REJECTED, DROPPED),
        (live(State.QUEUED), gone(EndReason.FAILED), Remains(), EndReason.REJECTED, DROPPED),
        (live(State.QUEUED), gone(EndReason.CANCELLED), Remains(), EndReason.CANCELLED, DROPPED),
        (live(State.QUEUED), gone(EndReason.TIMED_OUT), Remains(), EndReason.TIMED_OUT, EARLY),
        (live(State.QUEUED), gone(), Remains(began=True), EndReason.FAILED, EARLY),
        (live(State.QUEUED), gone(exit_status=0), Remains(), EndReason.FAILED, EARLY),
        (live(State.QUEUED, starting_at=1.0), gone(), Remains(), EndReason.FAILED, EARLY),
        (live(State.STARTING), gone(), Remains(), EndReason.FAILED, EARLY),
        (live(State.STARTING), gone(EndReason.CANCELLED), Remains(), EndReason.CANCELLED, EARLY),
        (live(State.READY), gone(None), Remains(), EndReason.FINISHED, LATER),
        (live(State.READY), gone(EndReason.PREEMPTED), Remains(), EndReason.PREEMPTED, LATER),
    ],
)
def test_a_job_that_is_over_ends_its_session_by_where_that_was(
    row: SessionRow, job: JobInfo, remains: Remains, reason: EndReason, said: str
) -> None:
    end = job_over(row, job, remains)
    assert (end.reason, type(end.error)) == (reason, SessionFailed)
    assert said in str(end)
    assert str(end) == str(end.error)
    assert end.facts == {"exit_status": job.exit_status, "log_tail": ""}


def test_what_a_dropped_job_left_is_quoted_if_it_left_anything() -> None:
    row = live(State.QUEUED, message="Waiting for 2 GPUs.")
    assert str(job_over(row, gone(), Remains())).endswith("Before that: Waiting for 2 GPUs.")
    end = job_over(row, gone(), Remains("slurmstepd: error", "slurmstepd: error"))
    assert str(end).endswith("The last lines of its output:\nslurmstepd: error")
    assert end.facts["log_tail"] == "slurmstepd: error"


@pytest.mark.parametrize(
    ("state", "silent", "cause", "said", "facts"),
    [
        (State.QUEUED, True, "No.", "does not answer. The last answer: No.", {}),
        (State.STARTING, True, "", "its cluster does not answer.", {}),
        (State.QUEUED, False, "No.", "still in the queue after 5 s", {}),
        (State.STARTING, False, "No.", "given up after 5 s: No.", {"log_tail": "last"}),
        (State.STARTING, False, "", "lacks 'Ready' (its", {"log_tail": "last"}),
    ],
)
def test_a_launch_that_took_too_long_is_told_its_cause(
    state: State, *, silent: bool, cause: str, said: str, facts: dict[str, str]
) -> None:
    application = ApplicationSettings(cluster="here", template="t", wait=5, ready_line="Ready")
    end = too_late(live(state), application, "last", silent=silent, cause=cause)
    assert (end.reason, type(end.error), end.facts) == (
        EndReason.NEVER_READY,
        NotReadyInTime,
        facts,
    )
    assert said in str(end)
    silence = silent_too_long(application, "No.")
    assert (silence.reason, type(silence.error)) == (EndReason.NEVER_READY, NotReadyInTime)
    assert str(silence).endswith("does not answer. The last answer: No.")
