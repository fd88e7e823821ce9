"""Two services on one PostgreSQL; the one that leads is killed, again and again."""

import asyncio
import time
from pathlib import Path

from benchmarks.resilience.asking import TROUBLE, ask, route
from benchmarks.resilience.outcome import Outcome, Part, below, none_of, told
from benchmarks.resilience.place import config, place
from benchmarks.resilience.plan import Plan
from benchmarks.resilience.victim import Victim
from testbed.postgresql import PostgreSQL

NAME = "replicas"
HOW = (
    "two services on a PostgreSQL of this machine and the Slurm test cluster over SSH, with "
    "sessions launched at both. The one that leads is killed (`kill -9`). From then until a launch "
    "that is posted to the other at once has its job (`launches proceed`) and is answered by its "
    "application. All the while every session's state is asked for and its route is used at the "
    "other, one after the other, without a pause; whatever is not 200 or not answered by its own "
    "application counts as failed. The killed one is started again, and the next round kills the "
    "other. Doubled: names that two jobs had."
)
AIM = 10.0
SESSIONS = 6


class Watching:
    """Asks one service for everything, all the time."""

    def __init__(self, port: int, names: dict[str, str]) -> None:
        self.asked = 0
        self.failed: list[str] = []
        self._port, self._names = port, names
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Until :meth:`stop`."""
        while not self._over.is_set():
            for session_id, name in self._names.items():
                self.asked += 2
                try:
                    reply = await ask(self._port, "GET", f"/paraview/{session_id}", limit=5)
                    if reply.status != 200 or reply.data["state"] != "ready":
                        self.failed.append(f"{name}: {reply.status} {reply.body[:100]!r}")
                except TROUBLE as error:
                    self.failed.append(f"{name}: {error!r}")
                if await route(self._port, session_id, limit=5) != name:
                    self.failed.append(f"{name}: its route")
            await asyncio.sleep(0.01)

    def stop(self) -> None:
        """Ask no more."""
        self._over.set()


def measure(plan: Plan, folder: Path) -> Part:
    """Kill one leader after the other."""
    database = PostgreSQL()
    try:
        with place() as site:
            store = {"store": {"url": database.create("bridge")}}
            both = [
                Victim(folder / name, config(site, walltime=1800) | store)
                for name in ("one", "two")
            ]
            try:
                for each in both:
                    each.start()
                return asyncio.run(_measure(plan, both, database))
            finally:
                for each in both:
                    each.kill()
    finally:
        database.close()


async def _measure(plan: Plan, both: list[Victim], database: PostgreSQL) -> Part:
    names: dict[str, str] = {}
    for number in range(SESSIONS):
        session = await _launch(both[number % 2])
        names[session] = _name(database, session)
    for each in both:
        await _everywhere(each, names)
    taken, answered, asked, failed = [], [], 0, list[str]()
    leader, other = _parts(both)
    for _ in range(plan.failovers):
        watching = Watching(other.port, names)
        task = asyncio.create_task(watching.run())
        leader.kill()
        began = time.monotonic()
        session = await _launch(other, at_once=True)
        while not database.ask("bridge", _HAS_JOB.format(session))[0]:
            await asyncio.sleep(0.02)
        taken.append(time.monotonic() - began)
        name = _name(database, session)
        while await route(other.port, session, limit=5) != name:
            await asyncio.sleep(0.02)
        answered.append(time.monotonic() - began)
        watching.stop()
        await task
        asked, failed = asked + watching.asked, failed + watching.failed
        names[session] = name
        leader.start()
        await _everywhere(leader, names)
        leader, other = other, leader
    doubled = database.ask("bridge", "SELECT count(*) FROM sessions WHERE attempt > 0")[0]
    outcomes = [
        Outcome("leaders killed; sessions", f"{plan.failovers}; {len(names)}"),
        told("launches proceed, median", sorted(taken)[len(taken) // 2]),
        below("launches proceed, worst", max(taken), AIM),
        told("answered by the application, worst", max(answered)),
        Outcome("requests and routes at the other", str(asked)),
        none_of("of these failed", len(failed)),
        none_of("sessions lost", await _lost(both[0], names)),
        Outcome("submitted again", doubled),
    ]
    return Part(NAME, HOW, outcomes, notes=failed[:20])


_HAS_JOB = "SELECT coalesce(job_id, '') FROM sessions WHERE id = '{}'"


async def _launch(at: Victim, *, at_once: bool = False) -> str:
    headers = {"Prefer": "respond-async"} if at_once else {}
    reply = await ask(
        at.port, "POST", "/paraview", posted={"application": "named"}, headers=headers, limit=120
    )
    assert reply.status in (200, 202), reply
    return str(reply.data["id"])


def _name(database: PostgreSQL, session_id: str) -> str:
    query = "SELECT job_name, attempt FROM sessions WHERE id = '{}'"
    name, _, attempt = database.ask("bridge", query.format(session_id))[0].partition("|")
    return name if attempt == "0" else f"{name}-{attempt}"


async def _everywhere(at: Victim, names: dict[str, str]) -> None:
    for session_id, name in names.items():
        deadline = time.monotonic() + 30
        while await route(at.port, session_id, limit=5) != name:
            assert time.monotonic() < deadline, f"{name} is not reached through every replica"
            await asyncio.sleep(0.02)


def _parts(both: list[Victim]) -> tuple[Victim, Victim]:
    """The leader and the other, before anything was killed."""
    leading = [each for each in both if "this replica leads" in each.said(10**6)]
    assert len(leading) == 1, f"{len(leading)} leaders"
    return leading[0], both[1] if leading[0] is both[0] else both[0]


async def _lost(at: Victim, names: dict[str, str]) -> int:
    replies = [await ask(at.port, "GET", f"/paraview/{each}") for each in names]
    return sum(reply.status != 200 or reply.data["state"] != "ready" for reply in replies)
