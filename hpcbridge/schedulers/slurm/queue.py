"""Where jobs stand in Slurm's queue: squeue(1) with all users' pending jobs, in Slurm's own order.

Pure functions, like those of :mod:`hpcbridge.schedulers.slurm`. Needs Slurm 20.11 or later, whose
squeue ends each column of ``--Format`` with a text of our choice and so cuts nothing off.
"""

import re
from collections import Counter
from collections.abc import Collection

from hpcbridge.errors import UnexpectedReply
from hpcbridge.schedulers.base import Outlook
from hpcbridge.schedulers.slurm.reasons import asked_for, plain, set_aside

# None of these columns holds what a user may write freely, so one character is enough between them.
FIELD = "\x1f"
COLUMNS = (
    "JobID",
    "Partition",
    "StartTime",
    "NumNodes",
    "tres-per-job",
    "tres-per-node",
    "Reason",
)


def argv(*, everyone: bool, accounts: Collection[str] = ()) -> list[str]:
    """The pending jobs, first those that Slurm looks at first; one line for each partition.

    Where not ``everyone`` is asked for, those of ``accounts``, or of this account. Times are in
    seconds since the epoch: squeue else prints its machine's local time.
    """
    ours = f"--user={','.join(sorted(accounts))}" if accounts else "--me"
    whose = ["--array", "--priority", "--sort=-p,i"] if everyone else [ours]
    columns = ",".join(f"{column}:{FIELD}" for column in COLUMNS)
    command = ["squeue", "--states=PENDING", *whose, f"--Format={columns}"]
    return ["env", "SLURM_TIME_FORMAT=%s", *command]


def parse(text: str, wanted: Collection[str], *, everyone: bool) -> dict[str, Outlook]:
    """The outlooks of the ``wanted`` jobs. Of several partitions, the one with the shortest queue.

    Raises :class:`~hpcbridge.errors.UnexpectedReply` for anything but a complete listing.
    """
    header, *lines = text.split(f"{FIELD}\n")
    if not lines or lines.pop() or header.count(FIELD) != len(COLUMNS) - 1:
        raise UnexpectedReply("squeue printed no complete listing of pending jobs.")
    ahead: Counter[str] = Counter()
    found: dict[str, Outlook] = {}
    for line in lines:
        fields = line.split(FIELD)
        if len(fields) != len(COLUMNS):
            raise UnexpectedReply(f"squeue printed a job that cannot be read: {line[:80]!r}")
        job_id, partition, reason = fields[0], fields[1], fields[-1]
        aside = set_aside(reason)
        if job_id in wanted:
            place = ahead[partition] if everyone and not aside else None
            known = found.get(job_id)
            if known is None or (place is not None and place < (known.ahead or 0)):
                found[job_id] = _outlook(fields, place)
        if not aside:
            ahead[partition] += 1
    return found


def _outlook(fields: list[str], ahead: int | None) -> Outlook:
    _, partition, start, nodes, per_job, per_node, reason = fields
    return Outlook(
        queue=partition,
        ahead=ahead,
        start=float(start) if re.fullmatch("[0-9]{1,12}", start) else None,
        waits_for=plain(reason, _asked(per_job, per_node, nodes)),
        kind="partition",
    )


def _asked(per_job: str, per_node: str, nodes: str) -> str:
    count = int(nodes) if re.fullmatch("[0-9]{1,6}", nodes) else 1
    if asked_for(per_job) and not asked_for(per_node):
        return f"{asked_for(per_job)}{f' on {count} nodes' if count > 1 else ''}"
    return asked_for(per_node, count)


def config_argv() -> list[str]:
    """Slurm's configuration as it is in force."""
    return ["scontrol", "show", "config"]


def hides_jobs(config: str) -> bool:
    """Whether users see only their own jobs: slurm.conf(5), PrivateData."""
    found = re.search(r"^PrivateData\s*=\s*(\S+)", config, re.MULTILINE)
    return found is not None and "jobs" in found[1].split(",")
