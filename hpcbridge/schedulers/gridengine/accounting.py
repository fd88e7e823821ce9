"""qacct(1): how jobs ended, from the records of accounting(5). Pure functions."""

import re
from collections.abc import Iterator

from hpcbridge.schedulers.base import EndReason, JobInfo, JobState
from hpcbridge.schedulers.gridengine.commands import JOB_ID
from hpcbridge.transports.base import Completed

# A word that is no name could be an option, or a pattern that fits other jobs.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]*")

# sge_status(5), the numbers of "failed": 24 and 25 tell of jobs that went back into the queue.
REQUEUED = {24, 25}
NODE_FAILED = {18, 19}
LIMIT, SIGNAL = 37, 100


def qacct_argv(wanted: str) -> list[str]:
    """All records of the job with this id, or of the jobs with this name."""
    return ["qacct", "-j", wanted]


def parse_end(done: Completed, job_id: str) -> JobInfo | None:
    """How the job ended, or None where there is no accounting or no record of its end.

    An id is used again after ten million jobs: the newest record counts.
    """
    records = [record for record in _records(done) if record.get("jobnumber") == job_id]
    return _end(records[-1]) if records else None


def parse_named(done: Completed, name: str) -> str | None:
    """The id of the newest job with this name, or None."""
    numbers = [
        record["jobnumber"]
        for record in _records(done)
        if record.get("jobname") == name and JOB_ID.fullmatch(record.get("jobnumber", ""))
    ]
    return max(numbers, key=int, default=None)


def _records(done: Completed) -> Iterator[dict[str, str]]:
    if done.exit_status != 0:
        return
    for part in re.split(r"^=+\n", done.out, flags=re.MULTILINE):
        pairs = (line.partition(" ")[::2] for line in part.splitlines())
        if record := {key: value.strip() for key, value in pairs}:
            yield record


def _end(record: dict[str, str]) -> JobInfo | None:
    failed, status = _number(record.get("failed")), _number(record.get("exit_status"))
    if failed is None or failed in REQUEUED:
        return None
    if failed == SIGNAL and status is not None and status > 128:
        status = 128 - status
    words = record["failed"].partition(":")[2].strip()
    return JobInfo(
        record["jobnumber"],
        record.get("jobname", ""),
        JobState.ENDED,
        record.get("hostname"),
        words,
        _reason(failed, status, record),
        status,
    )


def _reason(failed: int, status: int | None, record: dict[str, str]) -> EndReason:
    if failed == 0:
        return EndReason.FAILED if status else EndReason.FINISHED
    if failed in NODE_FAILED:
        return EndReason.NODE_FAILED
    if failed == LIMIT:  # of time or of memory: that of time can be told
        limit = re.search(r"\bh_rt=(\d+)\b", record.get("category", ""))
        ran = _number(record.get("ru_wallclock"))
        in_time = limit is not None and ran is not None and ran < int(limit[1])
        return EndReason.OUT_OF_MEMORY if in_time else EndReason.TIMED_OUT
    return EndReason.FAILED


def _number(text: str | None) -> int | None:
    match = re.match(r"\d+", text or "")
    return int(match[0]) if match else None
