"""Many sessions of one service: launched, looked at all at once, told apart."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from benchmarks.figures import Unavailable
from benchmarks.resilience.asking import TROUBLE, ask
from benchmarks.resilience.victim import Victim

LAUNCHES_AT_ONCE = 4
"""sshd takes ten commands at once on a connection (MaxSessions)."""
POLL = 0.05
LIMIT = 120.0


async def launch(victim: Victim, count: int, *, ready: bool = True) -> list[str]:
    """Launch ``count`` sessions and wait until they are ready (or queued); their ids."""
    slots = asyncio.Semaphore(LAUNCHES_AT_ONCE)

    async def one(number: int) -> str:
        async with slots:
            posted = {"application": "named", "note": number}
            headers = {"Prefer": "respond-async"}
            reply = await ask(victim.port, "POST", "/paraview", headers=headers, posted=posted)
            if reply.status != 202:
                raise Unavailable(f"a launch was answered {reply.status}: {reply.data['error']}")
            session_id: str = reply.data["id"]
            await _until_state(victim, session_id, ("ready",) if ready else ("queued",))
            return session_id

    tasks = [asyncio.create_task(one(number)) for number in range(count)]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


async def _until_state(victim: Victim, session_id: str, wanted: Sequence[str]) -> None:
    deadline = time.monotonic() + LIMIT
    found = {"state": "unknown", "message": ""}
    while time.monotonic() < deadline:
        found = (await ask(victim.port, "GET", f"/paraview/{session_id}")).data
        if found["state"] in wanted:
            return
        if found["state"] == "ended":
            break
        await asyncio.sleep(POLL)
    raise Unavailable(f"a session is {found['state']}: {found['message']}")


async def until_answering(
    victim: Victim, sessions: Sequence[str], since: float, *, at_once: int = 100
) -> list[float]:
    """Seconds after ``since`` (monotonic) at which each session's route answered first."""
    slots = asyncio.Semaphore(at_once)

    async def one(session_id: str) -> float:
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            async with slots:
                if await victim.answers(session_id):
                    return time.monotonic() - since
            await asyncio.sleep(POLL)
        raise Unavailable(f"a route does not answer for {LIMIT:g} s; {victim.said(300)}")

    return list(await asyncio.gather(*(one(each) for each in sessions)))


async def states(victim: Victim, sessions: Sequence[str]) -> dict[str, int]:
    """How many of the sessions are in each state."""
    found: dict[str, int] = {}
    for session_id in sessions:
        try:
            reply = await ask(victim.port, "GET", f"/paraview/{session_id}")
            state = reply.data["state"] if reply.status == 200 else f"answer {reply.status}"
        except TROUBLE:
            state = "no answer"
        found[state] = found.get(state, 0) + 1
    return found


async def over_and_over(
    what: Callable[[str], Awaitable[None]], sessions: Sequence[str], seconds: float, pause: float
) -> None:
    """Do something for one session after the other, for a while."""
    deadline, number = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        await what(sessions[number % len(sessions)])
        number += 1
        await asyncio.sleep(pause)
