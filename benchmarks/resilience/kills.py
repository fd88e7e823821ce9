"""``kill -9`` of the service, again and again, while clients launch and stop on real Slurm."""

import asyncio
import random
import time
from pathlib import Path

from benchmarks.lab import Lab
from benchmarks.resilience.asking import TROUBLE, ask
from benchmarks.resilience.client import Client
from benchmarks.resilience.ledger import JobLog, Ledger, running
from benchmarks.resilience.outcome import Outcome, Part, none_of
from benchmarks.resilience.place import GRACE, config, place
from benchmarks.resilience.plan import Plan
from benchmarks.resilience.victim import Victim
from benchmarks.waiting import until

NAME = "kills"
HOW = (
    "the service is killed (`kill -9`) at a random moment, half of the times 0.4 to 3 s after it "
    "was started and half 0 to 3 s after it answered, "
    "and started again at once, while clients launch (`Prefer: respond-async`), look at their "
    "sessions' routes, and stop them, on the Slurm test cluster over SSH; each client keeps one "
    "session through all of it. Half of the clients send an Idempotency-Key and repeat what was "
    "not answered; the others launch anew, and what they were never told of counts as untold. "
    "Lost: a session whose client has its id and that is not known, ended though nobody stopped "
    "it, or is ready and does not answer in 90 s, or is not ready 90 s after the last kill. "
    "Given up: ended as rejected, whatever the reason. Forgotten: a stop that was answered with "
    "200 and that a later life of the service did not carry out. The application answers every "
    "request with its job's name."
)
DRAIN = 90.0
"""Seconds after the last start in which everything must come true."""
SLACK = 20.0
"""Seconds beyond the grace for jobs that are being ended."""


def measure(plan: Plan, folder: Path) -> Part:
    """The campaign, the drain, and the count."""
    ledger = Ledger()
    with place() as site, Victim(folder, config(site, keep=15, walltime=1800)) as victim:
        with JobLog(site) as jobs:
            began = time.monotonic()
            kills = asyncio.run(_campaign(plan, victim, ledger))
            took = time.monotonic() - began
            untold = asyncio.run(_drain(victim, ledger))
            orphans = _orphans(site, victim)
            jobs.look()
        left = asyncio.run(_end_all(victim, ledger, site))
    outcomes = [
        Outcome("kills", f"{kills} in {took:.0f} s"),
        Outcome("launches answered, stops answered", f"{ledger.launches}, {ledger.stops}"),
        Outcome("requests that met no service", str(ledger.requests_failed)),
        Outcome("looks at routes: right, nobody yet", _looks(ledger)),
        none_of("duplicates: names that two jobs had", len(jobs.doubled)),
        none_of("orphans after the grace", len(orphans)),
        none_of("lost sessions", len(ledger.lost)),
        none_of("launches given up", len(ledger.given_up)),
        none_of("wrong routes", len(ledger.wrong)),
        none_of("stops forgotten", len(ledger.forgotten)),
        none_of("jobs left when all was stopped", len(left)),
        Outcome("untold: live, without a key, their 202 lost", str(len(untold))),
        Outcome("jobs seen; longest time between two looks", _seen(jobs)),
    ]
    notes = [f"twice: {name}: {sorted(ids)}" for name, ids in jobs.doubled.items()]
    for what in ("lost", "given_up", "wrong", "forgotten"):
        found: dict[str, str] = getattr(ledger, what)
        notes += [f"{what}: {victim.name(each)}: {why}" for each, why in found.items()]
    notes += [f"orphan: {name}" for name in orphans] + [f"left: {name}" for name in left]
    return Part(NAME, HOW, outcomes, notes=notes[:40])


async def _campaign(plan: Plan, victim: Victim, ledger: Ledger) -> int:
    over = asyncio.Event()
    clients = [
        Client(number, victim, ledger, keyed=number % 2 == 0) for number in range(plan.clients)
    ]
    tasks = [asyncio.create_task(client.run(over)) for client in clients]
    moments = random.Random(3)
    try:
        for _ in range(plan.kills):
            if moments.random() < 0.5:
                await asyncio.to_thread(until, victim.up, "the service answers", 60)
                await asyncio.sleep(moments.uniform(0, plan.longest))
            else:
                await asyncio.sleep(moments.uniform(plan.shortest, plan.longest))
            victim.kill()
            victim.spawn()
    finally:
        over.set()
        await asyncio.wait(tasks, timeout=120)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return plan.kills


async def _drain(victim: Victim, ledger: Ledger) -> set[str]:
    """Give the last life time; what must be true then. Returns live sessions nobody knows of."""
    deadline = time.monotonic() + DRAIN
    for session_id in sorted(ledger.held):
        while not await victim.answers(session_id):
            if time.monotonic() > deadline:
                ledger.lose(session_id, f"at the end: {await _state(victim, session_id)}")
                break
            await asyncio.sleep(0.2)
    for session_id in sorted(ledger.stopped):
        while (found := await _state(victim, session_id))[0] != "ended":
            if time.monotonic() > deadline:
                ledger.forgotten[session_id] = f"{found}"
                break
            await asyncio.sleep(0.2)
        if found[0] == "ended" and found[1] not in ("stopped", "rejected"):
            ledger.lose(session_id, f"ended, but not by its client: {found}")
    # Nobody waits for what was never claimed: that ends by itself.
    while time.monotonic() < deadline and victim.rows("id", "state != 'ended' AND NOT claimed"):
        await asyncio.sleep(0.5)
    live = {row[0] for row in victim.rows("id", "state != 'ended'")}
    return live - ledger.told


async def _state(victim: Victim, session_id: str) -> tuple[str, str, str]:
    try:
        reply = await ask(victim.port, "GET", f"/paraview/{session_id}")
    except TROUBLE as error:
        return "no answer", type(error).__name__, str(error)
    if reply.status != 200:
        return "unknown", str(reply.status), ""
    return reply.data["state"], reply.data.get("reason", ""), reply.data["message"][:200]


def _orphans(site: Lab, victim: Victim) -> list[str]:
    """Jobs without a live session, when those of ended ones have had their time."""
    deadline = time.monotonic() + GRACE + SLACK
    while True:
        live = {victim.name(row[0]) for row in victim.rows("id", "state != 'ended'")}
        found = sorted(running(site).keys() - live)
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


async def _end_all(victim: Victim, ledger: Ledger, site: Lab) -> list[str]:
    """Stop every session that lives, as its client would; jobs that are there still."""
    for (session_id,) in victim.rows("id", "state != 'ended'"):
        await ask(victim.port, "DELETE", f"/paraview/{session_id}")
    deadline = time.monotonic() + SLACK
    while running(site) and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
    return sorted(running(site))


def _looks(ledger: Ledger) -> str:
    return f"{ledger.routes['right']}, {ledger.routes['nobody']}"


def _seen(jobs: JobLog) -> str:
    return f"{len(jobs.ids)}; {jobs.longest_gap:.1f} s"
