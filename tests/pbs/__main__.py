"""python -m tests.pbs: whether the suite can run on the PBS of HPCBRIDGE_TEST_PBS, by one job.

It says what the server is and how long the job took to start and to end; where the suite could
only fail, it says why, and its exit status is 2.
"""

import asyncio
import sys
import time
from pathlib import Path

from hpcbridge.conformance import Job
from hpcbridge.errors import BridgeError, JobRejected
from hpcbridge.schedulers.base import JobInfo, JobState
from tests.pbs import site
from tests.pbs.bench import PBSBench, opened
from tests.pbs.site import Unusable
from tests.waiting import until

SHARED = (
    "Is {root} on a file system that the nodes share? Set HPCBRIDGE_TEST_PBS_DIRECTORY to a "
    "directory that is."
)
SLOW = 60
"""Seconds for its end from which a job's output was surely copied, and not at the first try."""


def main() -> int:
    if not site.PLACE:
        print("Set HPCBRIDGE_TEST_PBS to local (qsub works here) or ssh://user@host[:port].")
        print("Further variables, such as queue, directory and key: see tests/pbs/site.py.")
        return 2
    try:
        facts = site.facts()
        assert facts is not None
        print(facts.summary, flush=True)
        asyncio.run(_try())
    except (Unusable, BridgeError, AssertionError) as error:
        print(f"{site.PLACE} cannot be used: {error}", file=sys.stderr)
        return 2
    return 0


async def _try() -> None:
    """Submit a job, see it run, print and end."""
    async with opened(Path()) as bench:
        began = time.monotonic()
        job = await _submitted(bench)
        host = await _run(job)
        started = time.monotonic() - began
        if host not in bench.hosts:
            raise Unusable(f"The job ran on {host}, which pbsnodes does not list as up.")
        ending = time.monotonic()
        await job.end()
        await job.over()
        took = time.monotonic() - ending
    print(f"A job ran on {host} after {started:.0f} s, and was gone {took:.0f} s after its end.")
    if took > SLOW:
        print("PBS copies each job's output, and that is slow: see $usecp in docs/pbs.md.")


async def _submitted(bench: PBSBench) -> Job:
    try:
        return await Job.submitted(bench, bench.connect())
    except JobRejected as error:
        hint = "Name a queue or options that take jobs of one CPU: see tests/pbs/site.py."
        if "Bad UID" in str(error):
            hint = (
                "PBS takes no jobs of root's, and of this account none from this host unless the "
                "server has flatuid = True or trusts the host (hosts.equiv)."
            )
        raise Unusable(f"{error} {hint}") from error


async def _run(job: Job) -> str:
    """The host on which the job runs and prints where it is seen from here."""
    shared = SHARED.format(root=job.bench.root)
    known: list[JobInfo] = []

    async def runs() -> bool:
        info = await job.listed()
        known[:] = [info] if info else known
        if info and info.hopeless:
            raise Unusable(f"{info.hopeless} {shared}")
        if info is None or info.state == JobState.ENDED:
            raise Unusable(f"The job ended at once, without a word. {shared}")
        return info.state == JobState.RUNNING and await job.output() == "begun\n"

    try:
        await until(runs, "the job", site.PATIENCE)
    except AssertionError as error:
        (info,) = known
        what = f"waits: {info.detail}. Free a node, or name another queue."
        if info.state == JobState.RUNNING:
            what = f"runs on {info.host}, but what it prints is not seen here. {shared}"
        raise Unusable(f"After {site.PATIENCE:g} s the job {info.job_id} {what}") from error
    return known[0].host or ""


if __name__ == "__main__":
    sys.exit(main())
