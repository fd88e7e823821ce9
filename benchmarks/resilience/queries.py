"""How often the scheduler is asked, and how much it answers, whatever the number of sessions."""

import asyncio
import contextlib
import os
import pwd
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.figures import Unavailable
from benchmarks.lab import Lab
from benchmarks.resilience import crowd
from benchmarks.resilience.outcome import Outcome, Part
from benchmarks.resilience.place import clear, config, place
from benchmarks.resilience.plan import Plan
from benchmarks.resilience.victim import Victim

NAME = "scheduler queries"
HOW = (
    "a wrapper before squeue in the PATH of the cluster's account writes down each call and the "
    "bytes of its answer. Queued: held jobs, in the first minute after a launch, in which the "
    "service asks once a second; and later, when it asks every 5 s. Ready: sessions that are used, "
    "every 15 s. The rates must be those of one session; the answer has a line for each job of the "
    "account, ended ones included for as long as Slurm shows them."
)
WRAPPER = """#!/bin/sh
# Writes down when squeue was called and how many bytes it answered.
answer=$(mktemp)
/usr/bin/squeue "$@" >"$answer"
status=$?
echo "$(date +%s.%N) $(wc -c <"$answer")" >>{log}
cat "$answer"
rm -f "$answer"
exit "$status"
"""
HELD = """#!/bin/bash
#SBATCH --hold
{% include "slurm-options.sh" %}
{% include "prelude.sh" %}
hpcbridge_run sleep 3600
"""
YOUNG = 60.0
"""Seconds for which the service looks at a job as one that may start any moment."""
GROWTH = 1.25
"""A rate counts as grown above this: jitter, and the wait until the answer is there."""


def measure(plan: Plan, folder: Path) -> Part:
    """Queued sessions of all sizes, then ready ones."""
    (folder / "held.sh").write_text(HELD)
    with place(crowded=True) as site, _wrapped(site) as log:
        held = config(site, template="held.sh", properties={}, wait=7200)
        with Victim(folder / "queued", held | {"template_dirs": [str(folder)]}) as victim:
            queued, later = asyncio.run(_queued(plan, victim, log))
        clear(site)
        with Victim(folder / "ready", config(site)) as victim:
            ready = asyncio.run(_ready(plan, victim, log))
    outcomes = [*_judged("queued", queued), *_judged("queued, later", later)]
    return Part(NAME, HOW, outcomes + _judged("ready", ready))


Counted = dict[int, tuple[float, float]]
"""Sessions -> queries a minute, median bytes of an answer."""


async def _queued(plan: Plan, victim: Victim, log: Path) -> tuple[Counted, Counted]:
    counted: Counted = {}
    there = 0
    for size in plan.query_sizes:
        await crowd.launch(victim, size - there, ready=False)
        there = size
        await asyncio.sleep(3)
        counted[size] = await _count(log, plan.window)
    await asyncio.sleep(YOUNG - plan.window)
    return counted, {there: await _count(log, plan.ready_window)}


async def _ready(plan: Plan, victim: Victim, log: Path) -> Counted:
    counted: Counted = {}
    there = 0
    for size in (1, plan.crowd):
        await crowd.launch(victim, size - there)
        there = size
        await asyncio.sleep(3)
        counted[size] = await _count(log, plan.ready_window)
    return counted


async def _count(log: Path, window: float) -> tuple[float, float]:
    began = time.time()
    await asyncio.sleep(window)
    calls = [line.split() for line in log.read_text().splitlines()]
    sizes = [int(size) for at, size in calls if began <= float(at) < began + window]
    if not sizes:
        raise Unavailable(f"no query in {window:g} s")
    return len(sizes) * 60 / window, statistics.median(sizes)


def _judged(what: str, counted: Counted) -> list[Outcome]:
    first = next(iter(counted.values()))[0]
    outcomes = []
    for size, (rate, answer) in counted.items():
        kept = rate <= first * GROWTH + 1 if len(counted) > 1 else None
        aim = "" if kept is None else "not more than of 1"
        found = f"{rate:.0f} a minute, {answer:.0f} bytes"
        outcomes.append(Outcome(f"{what}: {size} session{'s' * (size > 1)}", found, aim, kept))
    return outcomes


@contextlib.contextmanager
def _wrapped(site: Lab) -> Iterator[Path]:
    """The wrapper in the PATH of commands over SSH; the file that it writes to."""
    account = pwd.getpwnam(site.site.user)
    start = site.site.home() / ".bashrc"  # bash reads it for commands of sshd (bash(1))
    if start.exists():
        raise Unavailable("the account has a .bashrc of its own")
    log = site.folder / "squeue.log"
    wrapper = site.folder / "bin/squeue"
    wrapper.parent.mkdir()
    files: dict[Path, Any] = {
        wrapper: WRAPPER.replace("{log}", f"{site.inside}/squeue.log"),
        start: f"PATH={site.inside}/bin:$PATH\n",
        log: "",
    }
    try:
        for path, text in files.items():
            path.write_text(text)
            os.chown(path, account.pw_uid, account.pw_gid)
        wrapper.parent.chmod(0o755)
        wrapper.chmod(0o755)
        yield log
    finally:
        start.unlink(missing_ok=True)
