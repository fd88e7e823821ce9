"""Why a session ends, and how that is told."""

from collections.abc import Mapping
from typing import Any

from hpcbridge.clusters.remains import Remains, completed
from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.errors import (
    AccountRefused,
    AccountsUnknown,
    BridgeError,
    ClusterError,
    ClusterUnreachable,
    ConfigError,
    JobRejected,
    NoCapacity,
    NotReadyInTime,
    NotServing,
    OutcomeUnknown,
    RequestError,
    RouteError,
    SessionFailed,
    StoreError,
    TemplateError,
    TunnelError,
    UnexpectedReply,
)
from hpcbridge.schedulers.base import JobInfo
from hpcbridge.sessions import messages as messages
from hpcbridge.states import EndReason, State
from hpcbridge.store import SessionRow

# Reasons of a job that may as well never have run.
_DROPPED = (EndReason.FINISHED, EndReason.CANCELLED, EndReason.FAILED)

_ENDING: dict[str, type[BridgeError]] = {
    each.__name__: each
    for each in (
        AccountRefused,
        AccountsUnknown,
        BridgeError,
        ClusterError,
        ClusterUnreachable,
        ConfigError,
        JobRejected,
        NoCapacity,
        NotReadyInTime,
        NotServing,
        OutcomeUnknown,
        RequestError,
        RouteError,
        SessionFailed,
        StoreError,
        TemplateError,
        TunnelError,
        UnexpectedReply,
    )
}
"""What can end a session."""


def class_of(error: BridgeError) -> str:
    """The name by which the record keeps an error; for an adapter's own that of the next above."""
    return next(each.__name__ for each in type(error).__mro__ if each.__name__ in _ENDING)


def recorded(row: SessionRow, said: str = "") -> BridgeError:
    """What ended a session, by its record: the same at each replica and after a restart.

    ``said`` comes before the record's message.
    """
    before = NotReadyInTime if row.reason == EndReason.NEVER_READY else SessionFailed
    return _ENDING.get(row.error_class or "", before)(said + row.message)


class Termination(Exception):
    """Ends the session. ``error`` is what a client that still waits for it gets to hear.

    ``facts`` are columns of the row that are written with the end.
    """

    def __init__(
        self, reason: EndReason, error: BridgeError, facts: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(str(error))
        self.reason = reason
        self.error = error
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
        message = messages.never_ready(application.wait, application.ready_lines, tail)
    return Termination(EndReason.NEVER_READY, NotReadyInTime(message), facts)


def silent_too_long(application: ApplicationSettings, cause: str = "") -> Termination:
    """The cluster could not be asked until the time was over; ``cause`` is why, at last."""
    error = NotReadyInTime(messages.silent_cluster(application.wait, cause))
    return Termination(EndReason.NEVER_READY, error)
