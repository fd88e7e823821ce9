"""The command lines of PBS and Torque, and what their answers mean.

qsub(1B), qselect(1B), qstat(1B) and qdel(1B). A command's exit status is the number of the last
thing that went wrong, modulo 256; what it printed about others is true all the same.
"""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from hpcbridge.errors import (
    ClusterError,
    JobRejected,
    OutcomeUnknown,
    UnexpectedReply,
)
from hpcbridge.schedulers.answers import MISSING, Dialect, lines_of
from hpcbridge.schedulers.base import JobRequest
from hpcbridge.schedulers.pbs.directives import read
from hpcbridge.schedulers.pbs.readers import JOB_ID, Jobs
from hpcbridge.transports.base import Completed

# What every release takes, and what is harmless where a wrapper puts it into a shell's command.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]{0,229}")
ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?")
PATH = re.compile(r"/[A-Za-z0-9_./@%=~-]*")

LINE = 100_000
"""Characters of ids in one command: Linux starts a login shell with a line of up to 128 KiB."""


def _heard(done: Completed) -> list[str]:
    return [re.sub(r"^(q[a-z]+|pbsnodes): ", "", line) for line in lines_of(done.err)]


DIALECT = Dialect(
    "The PBS server",
    " Set the cluster's commands to its directory.",
    _heard,
    not_asked=r"cannot connect to server|couldn't connect|Connection refused|Unknown Host"
    r"|pbsconf error|No route to host|Network is unreachable|pbs_iff|.*\btrqauthd\b|munge"
    r"|Server shutting down|Communication failure.*cannot connect to server",
    lost=r"End of File|Premature end|(Batch )?protocol error|Communication failure"
    r"|((Connection|Operation) )?timed? ?out$|Connection reset|Broken pipe|System error",
)
REFUSALS = frozenset(
    {4, 5, 6, 17, 32, 38, 39, 40, 65, 66, 67, 68, 69, 71, 166, 170, 173, 174, 175, 181, 187, 188}
    | {189, 191, 197, 198, 200, 201, 206, 241, 242, 243}
)
"""Exit statuses of OpenPBS' qsub that are the server's own answer, a hook's included: numbers of
pbs_error.h, modulo 256. What is said along with them is a site's, and can be anything."""

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


def parse_account(done: Completed) -> str:
    """The account that ``id -un`` printed."""
    account = done.out.strip()
    if done.exit_status != 0 or not ACCOUNT.fullmatch(account):
        raise UnexpectedReply(f"id told no account ({done.exit_status}): {_message(done)}")
    return account


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


def parse_qsub(done: Completed, refusals: Collection[int] = REFUSALS) -> str:
    """The job id that qsub printed on its last line."""
    error = _message(done)
    if done.exit_status == 0:
        last = done.out.strip().rpartition("\n")[2].strip()
        if JOB_ID.fullmatch(last):
            return last
        raise OutcomeUnknown(f"qsub printed no job id: {error or 'nothing'}.")
    if done.exit_status not in refusals:
        DIALECT.raise_if_not_taken("qsub", done)
    raise JobRejected(f"PBS refused the job: {error or f'qsub ended with {done.exit_status}'}")


def with_queue(error: JobRejected, request: JobRequest) -> JobRejected:
    """The refusal with the queue's name, which PBS leaves out."""
    asked = read(request.text)
    if asked is None or not asked.queue or "queue" not in str(error).lower():
        return error
    return JobRejected(f"{str(error).rstrip('.')}. The script asks for the queue {asked.queue}.")


def parse_qselect(done: Completed) -> list[str]:
    """The ids that were selected."""
    DIALECT.raise_if_not_asked("qselect", done)
    if done.exit_status != 0 or _complaints(done.err):
        raise UnexpectedReply(f"qselect failed ({done.exit_status}): {_message(done)}")
    job_ids = done.out.split()
    for each in job_ids:
        if not JOB_ID.fullmatch(each):
            raise UnexpectedReply(f"qselect printed what is no job's id: {each[:80]!r}")
    if done.out and not done.out.endswith("\n"):
        raise UnexpectedReply("qselect's listing was cut off.")
    return job_ids


def parse_qstat(done: Completed, read: Callable[[str], Jobs | None]) -> Jobs | None:
    """The living ones of the jobs that were asked for; None where it takes another format.

    A server that is down also makes an answer without jobs: only the exit status and the message
    tell it from one that knows none of the ids.
    """
    DIALECT.raise_if_not_asked("qstat", done)
    over = bool(OVER.search(done.err))
    if done.exit_status not in (0, *OVER_STATUS) or _complaints(done.err):
        raise UnexpectedReply(f"qstat failed ({done.exit_status}): {_message(done)}")
    jobs = read(done.out)
    if jobs == {} and not over:
        raise UnexpectedReply(
            f"qstat told neither jobs nor why not ({done.exit_status}). A server whose "
            "query_other_jobs is False tells nothing of other accounts' jobs."
        )
    return jobs


def proven_over(done: Completed) -> set[str]:
    """The ids of which qstat says in so many words that there is no such living job.

    One that it leaves out without a word may be hidden, or have been lost on the way. That the
    server keeps no history is said of living jobs, too.
    """
    return set(re.findall(r"^qstat: (?:Unknown Job Id|Job has finished) (\S+)", done.err, re.M))


def parse_qdel(done: Completed) -> None:
    """Nothing where the jobs are ended, are being ended, or are unknown."""
    if done.exit_status == 0:
        return
    DIALECT.raise_if_not_asked("qdel", done)
    complaints = [each for each in _complaints(done.err) if not LEFT_ALONE.search(each)]
    if complaints or not done.err.strip():
        raise ClusterError(f"qdel failed ({done.exit_status}): {_message(done)}")


def _complaints(error: str) -> list[str]:
    """Lines of the commands themselves, other than that a job is over."""
    lines = re.findall(r"^q(?:stat|select|del): .*", error, re.MULTILINE)
    return [line for line in lines if not OVER.search(line)]


def parse_told(command: str, done: Completed, read: Callable[[str], Jobs | None]) -> Jobs:
    """What a command told of the server, of queues or of nodes."""
    if done.exit_status != MISSING or command == "qstat":  # jobs run without pbsnodes: no outage
        DIALECT.raise_if_not_asked(command, done)
    told = read(done.out) if done.exit_status == 0 else None
    if told is None:
        raise UnexpectedReply(f"{command} told nothing ({done.exit_status}): {_message(done)}")
    return told


def _message(done: Completed) -> str:
    """What a command had to say, without its usage.

    All of it, and not the last line as with the others: hooks speak over several.
    """
    said = (done.err.strip() or done.out.strip()).partition("\nusage:")[0]
    return " ".join(said.split())[:1000]
