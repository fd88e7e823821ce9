"""Why a session ends, and how that is told."""

from collections.abc import Mapping
from typing import Any

from hpcbridge.clusters.remains import Remains, completed
from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.errors import BridgeError, NotReadyInTime, SessionFailed
from hpcbridge.schedulers.base import JobInfo
from hpcbridge.sessions import messages as messages
from hpcbridge.states import EndReason, State
from hpcbridge.store import SessionRow

# Reasons of a job that may as well never have run.
_DROPPED = (EndReason.FINISHED, EndReason.CANCELLED, EndReason.FAILED)


class Termination(Exception):
    """Ends the session. ``told`` is what a client that still waits for it gets to hear.

    ``facts`` are columns of the row that are written with the end.
    """

    def __init__(
        self, reason: EndReason, told: BridgeError, facts: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(str(told))
        self.reason = reason
        self.told = told
        self.facts = dict(facts or {})


def job_over(row: SessionRow, job: JobInfo, remains: Remains) -> Termination:
    """The scheduler says that the job has ended; ``remains`` is what it left behind."""
    job, tail = completed(job, remains), remains.tail
    facts = {"exit_status": job.exit_status, "log_tail": tail}
    reason = job.reason or EndReason.FINISHED
    waited = row.state == State.QUEUED and row.starting_at is None
    if waited and not remains.began and job.exit_status is None and reason in _DROPPED:
        reason = EndReason.CANCELLED if reason == EndReason.CANCELLED else EndReason.REJECTED
        message = messages.dropped(job, row.message)
        return Termination(
            reason, SessionFailed(f"{message}{tail and messages.quoted(tail)}"), facts
        )
    if row.state == State.READY:
        return Termination(reason, SessionFailed(messages.ended_later(job)), facts)
    if reason == EndReason.FINISHED:
        reason = EndReason.FAILED
    return Termination(reason, SessionFailed(messages.died_early(job, tail)), facts)


def too_late(
    row: SessionRow,
    application: ApplicationSettings,
    tail: str,
    *,
    silent: bool,
    cause: str = "",
) -> Termination:
    """The session was not ready in time; ``silent`` says that its cluster does not answer.

    ``cause`` is the last known reason, other than the application's own.
    """
    facts = {}
    if silent:
        message = messages.silent_cluster(application.wait, cause)
    elif row.state == State.QUEUED:
        message = messages.still_queued(application.wait, row.message)
    elif cause:
        facts = {"log_tail": tail}
        message = messages.hindered(application.wait, cause)
    else:
        facts = {"log_tail": tail}
        message = messages.never_ready(application.wait, application.ready_line, tail)
    return Termination(EndReason.NEVER_READY, NotReadyInTime(message), facts)


def silent_too_long(application: ApplicationSettings, cause: str = "") -> Termination:
    """The cluster could not be asked until the time was over; ``cause`` is why, at last."""
    told = NotReadyInTime(messages.silent_cluster(application.wait, cause))
    return Termination(EndReason.NEVER_READY, told)
