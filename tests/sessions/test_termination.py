"""What ended a session, as its record has it."""

import inspect

import pytest

from hpcbridge import errors
from hpcbridge.errors import BridgeError, ClusterError, NotReadyInTime, RequestError, SessionFailed
from hpcbridge.sessions.termination import class_of, recorded
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
