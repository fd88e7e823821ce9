"""The processes of one job: its keeper, the script, and whatever that started."""

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from hpcbridge.schedulers.local import cgroup, processes
from hpcbridge.schedulers.local.job import Job
from hpcbridge.transports.account import Account
from hpcbridge.transports.environment import clean_environment

KILL_WAIT = 5.0
"""Seconds between SIGTERM and SIGKILL."""

# The keeper stays while the job runs and writes down how it ended, with or without a service to
# see it. The trap is a handler, not "ignore": children would inherit an ignored signal.
KEEPER = """
exit_file=$1 directory=$2 group=$3
shift 3
[ -z "$group" ] || { echo $$ > "$group/cgroup.procs"; } 2>/dev/null
trap : TERM INT HUP
cd "$directory" || exit
"$@"
status=$?
printf '%s' "$status" > "$exit_file.new" && mv "$exit_file.new" "$exit_file"
exit "$status"
"""


async def start(
    job: Job, exit_file: Path, more: Mapping[str, str], account: Account | None = None
) -> int:
    """Start the keeper of a job, with ``more`` in its environment; its pid.

    The script is run as ``account``, if there is one. Raises ``OSError``.
    """
    return await asyncio.to_thread(_start, job, exit_file, more, account)


def _start(job: Job, exit_file: Path, more: Mapping[str, str], account: Account | None) -> int:
    exit_file.unlink(missing_ok=True)
    told = Path(job.directory) / "scheduler.out"
    told.unlink(missing_ok=True)  # another job's link to a file of ours, maybe
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW
    output = os.open(told, flags, 0o600)
    try:
        if account is not None:
            os.fchown(output, account.uid, account.gid)
        where = [str(exit_file), job.directory, job.cgroup]
        command = [*(account.command if account else []), job.script]
        argv = ["/bin/sh", "-c", KEEPER, "hpcbridge-job", *where, *command]
        environment = {**more, **clean_environment(), processes.COOKIE: job.name}
        if account is not None:
            environment = account.environment(environment)
        return processes.spawn(argv, environment, output)
    finally:
        os.close(output)


async def find(job: Job) -> None:
    """Find the keeper that an earlier service started and died before it wrote that down."""
    started = {pid: processes.start_ticks(pid) for pid in await living(job)}
    live = [(ticks, pid) for pid, ticks in started.items() if ticks is not None]
    job.ticks, job.pid = min(live, default=(None, None))  # the keeper was the first


async def gone(job: Job) -> None:
    """Return when the keeper has ended."""
    if job.pid is not None:
        await processes.gone(job.pid, job.ticks)


async def living(job: Job) -> list[int]:
    """All live processes of the job, as far as they can be known."""
    return await asyncio.to_thread(_living, job)


def _living(job: Job) -> list[int]:
    seeds = {*processes.with_cookie(job.name), *cgroup.members(job.cgroup)}
    return sorted(processes.family(seeds, job.pid if _is_ours(job) else None))


def _is_ours(job: Job) -> bool:
    """Whether no other process has the keeper's pid by now."""
    if job.pid is None or job.ticks is None:
        return False
    return processes.start_ticks(job.pid) in (None, job.ticks)


async def kill(job: Job) -> None:
    """End all processes of the job: SIGTERM, and SIGKILL for what does not heed it."""
    deadline = time.monotonic() + KILL_WAIT
    asked: set[int] = set()  # a second SIGTERM means "at once" to many programs
    # A process that is just being replaced (execve(2)) has no environment for a moment.
    while (found := await living(job)) or _keeper_lives(job):
        if time.monotonic() > deadline:
            processes.send(signal.SIGKILL, found)
            await asyncio.to_thread(cgroup.kill, job.cgroup)
        processes.send(signal.SIGTERM, [pid for pid in found if pid not in asked])
        asked.update(found)
        await asyncio.sleep(0.05)


def _keeper_lives(job: Job) -> bool:
    if job.pid is None or job.ticks is None:
        return False
    return processes.start_ticks(job.pid) == job.ticks
