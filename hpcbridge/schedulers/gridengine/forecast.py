"""When Grid Engine would start a job that nobody submits: its own dry run, and its queues.

Pure functions. ``qsub -w`` with ``p`` (poke) or ``v`` (verify), see qsub(1), submits nothing, but
for a number of a job that is used up, and reads the script from its standard input: the first
looks at the slots and states of this moment, the second at what there is at all.
"""

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hpcbridge.errors import JobRejected, UnexpectedReply
from hpcbridge.schedulers.base import Forecast, JobRequest
from hpcbridge.schedulers.gridengine.commands import (
    qsub_options,
    raise_if_failed,
    raise_if_not_asked,
    refusal,
    said_last,
)
from hpcbridge.schedulers.gridengine.queue import read_xml, text_of
from hpcbridge.transports.base import Completed

QUEUES = ["qstat", "-g", "c", "-xml"]

_FOUND = re.compile(r"^verification: found (suitable queue|possible assignment)", re.MULTILINE)
_NONE = re.compile(r"^verification: no suitable queues", re.MULTILINE)


def dry_run_argv(request: JobRequest, *, now: bool) -> list[str]:
    """Whether some queue could take the job: now, or ever.

    Held, which changes no verdict: a site's script (jsv(1)) can make it a real submission.
    """
    return ["qsub", "-h", "-w", "p" if now else "v", *qsub_options(request)]


def parse_dry_run(done: Completed) -> bool:
    """Whether there is a queue. Raises :class:`~hpcbridge.errors.JobRejected` for a job that would
    be refused, whatever the queues are like."""
    if done.exit_status == 0:
        if not _FOUND.search(done.out):
            raise UnexpectedReply(f"qsub -w told no verdict: {said_last(done)}")
        return True
    raise_if_not_asked("qsub", done)
    if _NONE.search(done.err):
        return False
    if said := refusal(done):
        raise JobRejected(f"Grid Engine would refuse the job: {said}")
    raise UnexpectedReply(f"qsub -w ended with status {done.exit_status} and said nothing.")


@dataclass(frozen=True)
class Needs:
    """The queues that a job asks for by name, none for any, and its slots at least."""

    queues: frozenset[str] = frozenset()
    slots: int = 1


def needs(script: str) -> Needs:
    """What the script's ``#$`` lines ask for; any queue where it is not clear which."""
    lines = [line.removeprefix("#$") for line in script.splitlines() if line.startswith("#$")]
    try:
        words = shlex.split("\n".join(lines))
    except ValueError:
        return Needs()
    wanted = [value for flag, value in pairwise(words) if flag == "-q"]
    names = {each.partition("@")[0] for queues in wanted for each in queues.split(",")}
    clear = "-soft" not in words and all(re.fullmatch(r"[\w.-]+", name) for name in names)
    return Needs(frozenset(names if clear else ()), _slots(words))


def _slots(words: Sequence[str]) -> int:
    """``-pe NAME NUMBER``, or a range of which the least counts."""
    numbers = [words[at + 2] for at, word in enumerate(words[:-2]) if word == "-pe"]
    found = [re.match(r"\d{1,6}", number) for number in numbers]
    return max([1, *(int(each[0]) for each in found if each)])


@dataclass(frozen=True)
class Queue:
    """Slots of a cluster queue: those that are free now, those that somebody has to bring back."""

    name: str
    available: int
    out: int
    total: int


def parse_queues(done: Completed) -> list[Queue]:
    """What ``qstat -g c`` tells of each cluster queue."""
    raise_if_failed("qstat", done)
    root = read_xml(done)
    if root.tag != "job_info":
        raise UnexpectedReply(f"qstat printed no queues, but <{root.tag}>.")
    found = []
    for each in root.iter("cluster_queue_summary"):
        numbers = [text_of(each, name) for name in ("available", "manual_intervention", "total")]
        if not all(re.fullmatch(r"\d{1,9}", number) for number in numbers):
            raise UnexpectedReply(f"qstat printed a queue that cannot be read: {numbers}.")
        found.append(Queue(text_of(each, "name"), *map(int, numbers)))
    return found


def closed(needs: Needs, queues: Iterable[Queue]) -> str:
    """Why none of the job's queues starts a job, if so: disabled, unreachable, in error."""
    theirs = [queue for queue in _of(needs, queues) if queue.total]
    if not theirs or any(queue.out < queue.total for queue in theirs):
        return ""
    names = ", ".join(sorted(queue.name for queue in theirs))
    return f"all instances of {names} are disabled, in error or unreachable"


def forecast(needs: Needs, queues: Iterable[Queue], ahead: int) -> Forecast:
    """Of a job that a queue could take now: it starts at once where nobody waits before it."""
    free = sum(queue.available for queue in _of(needs, queues))
    return Forecast(None if ahead else 0.0, max(1, free // needs.slots))


def _of(needs: Needs, queues: Iterable[Queue]) -> list[Queue]:
    return [queue for queue in queues if not needs.queues or queue.name in needs.queues]
