"""The command lines of PBS and Torque, and what their answers mean.

qsub(1B), qselect(1B), qstat(1B) and qdel(1B). A command's exit status is the number of the last
thing that went wrong, modulo 256; what it printed about others is true all the same.
"""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from hpcbridge.errors import (
    ClusterError,
    ClusterUnreachable,
    JobRejected,
    OutcomeUnknown,
    UnexpectedReply,
)
from hpcbridge.schedulers.base import JobRequest
from hpcbridge.schedulers.pbs.readers import JOB_ID, Jobs
from hpcbridge.transports.base import Completed

# What every release takes, and what is harmless where a wrapper puts it into a shell's command.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]{0,229}")
ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?")
PATH = re.compile(r"/[A-Za-z0-9_./@%=~-]*")

LINE = 100_000
"""Characters of ids in one command: Linux starts a login shell with a line of up to 128 KiB."""

# The server was not reached, so nothing was accepted.
NOT_ASKED = re.compile(
    r"cannot connect to server|couldn't connect|Connection refused|Unknown Host|pbsconf error"
    r"|No route to host|Network is unreachable|pbs_iff|trqauthd|munge|Server shutting down",
    re.IGNORECASE,
)
# The request left and the answer did not come: it may have been carried out.
ANSWER_LOST = re.compile(
    r"End of File|Premature end|protocol error|Communication failure|timed? ?out"
    r"|Connection reset|Broken pipe|System error",
    re.IGNORECASE,
)
# One of the ids is of no job that can still be asked for.
OVER = re.compile(r"Unknown Job Id|Job has finished|not configured to maintain job history")
# qdel: it is ending already; it is of another server.
LEFT_ALONE = re.compile(r"Request invalid for state of job|illegally formed job identifier")
OVER_STATUS = frozenset({35, 153})
"""PBSE_HISTJOBID (15139) and PBSE_UNKJOBID (15001): none of the ids is of a living job."""


@dataclass(frozen=True)
class Commands:
    """Where the commands are, and which server they speak to."""

    directory: str | None = None
    server: str | None = None

    def argv(self, name: str, *arguments: str, utc: bool = False) -> list[str]:
        """A command line; ``utc`` has qstat tell times in UTC instead of the login host's zone."""
        settings = ["TZ=UTC"] if utc else []
        if self.server:
            settings += [f"PBS_SERVER={self.server}", f"PBS_DEFAULT={self.server}"]
        program = f"{self.directory.rstrip('/')}/{name}" if self.directory else name
        return [*(["env", *settings] if settings else []), program, *arguments]


def parse_account(done: Completed) -> tuple[str, str]:
    """What ``id -un`` printed: the account, and before it what a site's login shell always says."""
    greeting, newline, account = done.out.rstrip("\n").rpartition("\n")
    if done.exit_status != 0 or not ACCOUNT.fullmatch(account):
        raise UnexpectedReply(f"id told no account ({done.exit_status}): {_message(done)}")
    return account, greeting + newline


def portions(job_ids: Collection[str]) -> Iterator[list[str]]:
    """The ids that a command can be given: sorted, in portions, and nothing that is no id."""
    portion: list[str] = []
    size = 0
    for job_id in sorted(each for each in job_ids if JOB_ID.fullmatch(each)):
        if size + len(job_id) >= LINE:
            yield portion
            portion, size = [], 0
        portion.append(job_id)
        size += len(job_id) + 1
    if portion:
        yield portion


def qsub_options(request: JobRequest) -> list[str]:
    """Options that both systems take: no second run, no mail, one place for what PBS has to say.

    Raises :class:`~hpcbridge.errors.JobRejected` for what could be more than a value.
    """
    if not NAME.fullmatch(request.name):
        raise JobRejected(
            f"{request.name!r:.100} cannot be the name of a job: PBS takes up to 230 letters, "
            "digits and _.+-, a letter first."
        )
    for path in (request.directory, request.script):
        if not PATH.fullmatch(path):
            raise JobRejected(
                f"{path!r:.200} cannot be given to PBS: a path begins with / and has letters, "
                "digits and _./@%=~- only. Set the cluster's session_root to another directory."
            )
    options = ["-N", request.name, "-r", "n", "-m", "n", "-j", "oe"]
    options += ["-o", f"{request.directory}/scheduler.out"]
    if request.walltime is not None:
        minutes, seconds = divmod(request.walltime, 60)
        hours, minutes = divmod(minutes, 60)
        options += ["-l", f"walltime={hours:02}:{minutes:02}:{seconds:02}"]
    return options


def parse_qsub(done: Completed) -> str:
    """The job id that qsub printed on its last line."""
    error = _message(done)
    if done.exit_status == 0:
        last = done.out.strip().rpartition("\n")[2].strip()
        if JOB_ID.fullmatch(last):
            return last
        raise OutcomeUnknown(f"qsub printed no job id: {error or 'nothing'}.")
    _raise_if_not_asked("qsub", done)
    if ANSWER_LOST.search(done.err):
        raise OutcomeUnknown(f"PBS did not answer qsub: {error}")
    raise JobRejected(f"PBS refused the job: {error or f'qsub ended with {done.exit_status}'}")


def parse_qselect(done: Completed, greeting: str = "") -> list[str]:
    """The ids that were selected, after what a login shell says before any command."""
    _raise_if_not_asked("qselect", done)
    if done.exit_status != 0 or _complaints(done.err):
        raise UnexpectedReply(f"qselect failed ({done.exit_status}): {_message(done)}")
    answer = done.out.removeprefix(greeting)
    job_ids = answer.split()
    for each in job_ids:
        if not JOB_ID.fullmatch(each):
            raise UnexpectedReply(f"qselect printed what is no job's id: {each[:80]!r}")
    if answer and not answer.endswith("\n"):
        raise UnexpectedReply("qselect's listing was cut off.")
    return job_ids


def parse_qstat(done: Completed, read: Callable[[str], Jobs | None]) -> Jobs | None:
    """The living ones of the jobs that were asked for; None where it takes another format.

    A server that is down also makes an answer without jobs: only the exit status and the message
    tell it from one that knows none of the ids.
    """
    _raise_if_not_asked("qstat", done)
    over = bool(OVER.search(done.err))
    if done.exit_status not in (0, *OVER_STATUS) or _complaints(done.err):
        raise UnexpectedReply(f"qstat failed ({done.exit_status}): {_message(done)}")
    jobs = read(done.out)
    if jobs == {} and not over:
        raise UnexpectedReply(f"qstat told neither jobs nor why not ({done.exit_status}).")
    return jobs


def parse_qdel(done: Completed) -> None:
    """Nothing where the jobs are ended, are being ended, or are unknown."""
    if done.exit_status == 0:
        return
    _raise_if_not_asked("qdel", done)
    complaints = [each for each in _complaints(done.err) if not LEFT_ALONE.search(each)]
    if complaints or not done.err.strip():
        raise ClusterError(f"qdel failed ({done.exit_status}): {_message(done)}")


def _complaints(error: str) -> list[str]:
    """Lines of the commands themselves, other than that a job is over."""
    lines = re.findall(r"^q(?:stat|select|del): .*", error, re.MULTILINE)
    return [line for line in lines if not OVER.search(line)]


def parse_told(command: str, done: Completed, read: Callable[[str], Jobs | None]) -> Jobs:
    """What a command told of the server, of queues or of nodes."""
    if done.exit_status != 127 or command == "qstat":  # jobs run without pbsnodes: no outage
        _raise_if_not_asked(command, done)
    told = read(done.out) if done.exit_status == 0 else None
    if told is None:
        raise UnexpectedReply(f"{command} told nothing ({done.exit_status}): {_message(done)}")
    return told


def _raise_if_not_asked(command: str, done: Completed) -> None:
    if done.exit_status == 127:
        raise ClusterUnreachable(
            f"{command} is not installed where the commands run, or not in the PATH of a "
            f"non-interactive login: {_message(done)}. Set the cluster's commands to its directory."
        )
    lost = command != "qsub" and ANSWER_LOST.search(done.err)
    if done.exit_status != 0 and (NOT_ASKED.search(done.err) or lost):
        raise ClusterUnreachable(
            f"The PBS server does not answer ({_message(done)}). "
            "Nothing is lost; try again in a minute."
        )


def _message(done: Completed) -> str:
    """What a command had to say at last: a login shell may have complained at length before."""
    said = (done.err.strip() or done.out.strip()).partition("\nusage:")[0]
    return " ".join(said.split())[-300:]
