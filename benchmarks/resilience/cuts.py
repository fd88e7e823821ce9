"""All SSH connections are cut at once; then the service is killed, with the same sessions."""

import asyncio
import statistics
import time
from pathlib import Path

from benchmarks.lab import Lab
from benchmarks.resilience import crowd
from benchmarks.resilience.outcome import Outcome, Part, below, none_of
from benchmarks.resilience.place import config, place
from benchmarks.resilience.plan import Plan
from benchmarks.resilience.victim import Victim

NAME = "connections cut, service killed"
HOW = (
    "ready sessions on the four nodes of the test cluster. Cut: every sshd process that serves a "
    "connection, on the login host and the nodes, is killed. Killed: `kill -9` of the service and "
    "a new start. From that moment every route is asked over and over, all at the same time, until "
    "the session's own application answers; a session's time ends with its first answer."
)
AIM = 5.0


def measure(plan: Plan, folder: Path) -> Part:
    """Some rounds of both."""
    with place(crowded=True) as site, Victim(folder, config(site)) as victim:
        return asyncio.run(_measure(plan, site, victim))


async def _measure(plan: Plan, site: Lab, victim: Victim) -> Part:
    sessions = await crowd.launch(victim, plan.crowd)
    await crowd.until_answering(victim, sessions, time.monotonic())
    cuts, restarts, connections = [], [], 0
    for _ in range(plan.rounds):
        began = time.monotonic()
        for machine in ("head", *(node.removeprefix("hpcb-") for node in site.site.nodes)):
            connections += site.site.drop_ssh(machine)
        cuts.append(await crowd.until_answering(victim, sessions, began))
        await asyncio.sleep(5)
    for _ in range(plan.rounds):
        began = time.monotonic()
        victim.kill()
        victim.spawn()
        restarts.append(await crowd.until_answering(victim, sessions, began))
        await asyncio.sleep(5)
    found = await crowd.states(victim, sessions)
    outcomes = [
        Outcome("rounds; sshd processes killed in all", f"{plan.rounds}; {connections}"),
        *_both(f"cut, {len(sessions)} routes answer", cuts),
        *_both(f"killed and started, {len(sessions)} routes answer", restarts),
        none_of("sessions not ready afterwards", len(sessions) - found.get("ready", 0)),
    ]
    return Part(NAME, HOW, outcomes)


def _both(what: str, found: list[list[float]]) -> list[Outcome]:
    every = [seconds for each in found for seconds in each]
    return [
        below(f"{what}: median", statistics.median(every), AIM),
        below(f"{what}: worst", max(every), AIM),
    ]
