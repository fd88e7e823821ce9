"""Slurm's controller is down, and nobody's session notices."""

import asyncio
import statistics
import time
from pathlib import Path

from benchmarks.lab import Lab
from benchmarks.resilience import crowd
from benchmarks.resilience.asking import ask
from benchmarks.resilience.outcome import Outcome, Part, below, none_of, told
from benchmarks.resilience.place import config, place
from benchmarks.resilience.plan import Plan
from benchmarks.resilience.victim import Victim

NAME = "controller down"
HOW = (
    "slurmctld of the test cluster is stopped while sessions are ready, and started again; all "
    "the while one GET after the other asks for their states, 20 to 50 a second, each on a "
    "connection of its own."
)
AIM = 0.05
AFTERWARDS = 30.0
"""Seconds in which the service asks the controller again at least once."""


def measure(plan: Plan, folder: Path) -> Part:
    """Ready sessions, the outage, and who is there afterwards."""
    with place(crowded=True) as site, Victim(folder, config(site)) as victim:
        return asyncio.run(_measure(plan, site, victim))


async def _measure(plan: Plan, site: Lab, victim: Victim) -> Part:
    sessions = await crowd.launch(victim, plan.outage_sessions)
    times: list[float] = []
    ended: set[str] = set()

    async def look(session_id: str) -> None:
        began = time.perf_counter()
        reply = await ask(victim.port, "GET", f"/paraview/{session_id}")
        times.append(time.perf_counter() - began)
        if reply.status != 200 or reply.data["state"] != "ready":
            ended.add(session_id)
        unknown.append(reply.data.get("unknown_since") is not None)

    unknown: list[bool] = []
    await asyncio.to_thread(site.site.slurmctld_stop)
    try:
        await crowd.over_and_over(look, sessions, plan.outage, 0.02)
        down = list(times)
    finally:
        await asyncio.to_thread(site.site.slurmctld_start)
    times.clear()
    noticed = any(unknown)
    await crowd.over_and_over(look, sessions, min(AFTERWARDS, plan.outage), 0.02)
    reached = await crowd.until_answering(victim, sessions, time.monotonic())
    hundredths = statistics.quantiles(down, n=100, method="inclusive")
    outcomes = [
        none_of(f"sessions ended, of {len(sessions)}, in {plan.outage:g} s", len(ended)),
        below(f"GET, median of {len(down)}", statistics.median(down), AIM),
        below("GET, 99th percentile", hundredths[98], AIM),
        told("GET, longest", max(down)),
        Outcome("told as unknown_since", "yes" if noticed else "no", "yes", noticed),
        Outcome("routes that answer afterwards", str(len(reached)), str(len(sessions)), True),
        told("GET afterwards, median", statistics.median(times)),
    ]
    return Part(NAME, HOW, outcomes)
