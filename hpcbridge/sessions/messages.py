"""How a session's end is told to a person."""

from hpcbridge.schedulers.base import JobInfo
from hpcbridge.states import EndReason

_SAID = {
    EndReason.OUT_OF_MEMORY: "it used more memory than its job had",
    EndReason.TIMED_OUT: "its job has used up its walltime",
    EndReason.NODE_FAILED: "its node failed",
    EndReason.PREEMPTED: "its job had to make room for another",
    EndReason.CANCELLED: "its job was cancelled",
}


def how_it_ended(job: JobInfo) -> str:
    """One sentence: ``Exit status 139 (NonZeroExitCode).``"""
    status = job.exit_status
    said = _SAID.get(job.reason) if job.reason else None
    if said is None and status is not None:
        said = f"exit status {status}" if status >= 0 else f"ended by signal {-status}"
    detail = f" ({job.detail})" if job.detail else ""
    return f"{said or 'its job is over'}{detail}."


def quoted(tail: str) -> str:
    """The last lines of a log, to be put below a sentence."""
    return f"\nThe last lines of its output:\n{tail}" if tail else "\nIt printed nothing."


def died_early(job: JobInfo, tail: str) -> str:
    """The application was gone before it was ready."""
    return f"The application ended before it was ready: {how_it_ended(job)}{quoted(tail)}"


def dropped(job: JobInfo, waited: str) -> str:
    """The job left the queue without having run; ``waited`` is what was known of it before."""
    before = f" Before that: {waited}" if waited.startswith("Waiting for") else ""
    return f"The job was dropped from the queue before it ran: {how_it_ended(job)}{before}"


def ended_later(job: JobInfo) -> str:
    """The application was gone after it was ready."""
    return f"The session is over: {how_it_ended(job)}"


def still_queued(wait: float, message: str) -> str:
    """The job did not start in time."""
    return (
        f"The job was still in the queue after {wait:g} s and was cancelled. {message} "
        "Try again later."
    )


def hopeless(why: str) -> str:
    """The scheduler says that the job can never start."""
    return f"{why} It was cancelled: it would have waited for ever."


def silent_cluster(wait: float, cause: str = "") -> str:
    """The cluster could not be asked until the time was over; ``cause`` is why, at last."""
    said = f" The last answer: {cause}" if cause else ""
    return f"The session was given up after {wait:g} s: its cluster does not answer.{said}"


def hindered(wait: float, cause: str) -> str:
    """The application runs, and something else kept it from being used until the time was over."""
    return f"The session was given up after {wait:g} s: {cause}"


def not_reached(cause: str) -> str:
    """The node on which an application is ready could not be connected to."""
    return f"The application is ready, but its node was not reached: {cause}"


def no_port() -> str:
    """The ready line came, and the port did not."""
    return (
        "The application said that it was ready, but its job did not tell the port in the status "
        "file of its session directory. Does the template use the launch stub?"
    )


def not_listening(port: int) -> str:
    """The application has not bound its port, whatever it has printed."""
    return (
        f"No process of the job listens on port {port} of its node. Is the application started on "
        "$HPCBRIDGE_PORT?"
    )


def port_taken(host: str, port: int | None) -> str:
    """Another process was faster than the application."""
    return (
        f"Another process on {host} has taken port {port or '(unknown)'} of the application, of "
        "another account or another session."
    )


WIDE = (
    "Ready. Its application listens on more addresses of its node than 127.0.0.1 (job.bind), so "
    "others on the network can connect to it: start it with --host or the like."
)


def unread(cause: str) -> str:
    """Whether the ready line came is not known."""
    return f"The output of the application cannot be read: {cause}"


def never_ready(wait: float, ready_lines: list[str], tail: str) -> str:
    """The job runs, but none of its ready lines came in time."""
    wanted = " or ".join(f"'{line}'" for line in ready_lines)
    lacks = f"its output lacks {wanted} (its setting ready_line)"
    if not ready_lines:
        lacks = "its job did not tell a port in the status file of its session directory"
    return f"The application was not ready after {wait:g} s and was ended: {lacks}.{quoted(tail)}"
