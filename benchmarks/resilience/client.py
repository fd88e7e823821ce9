"""A client of the kill campaign: launches, looks, stops, and insists until it is answered."""

import asyncio
import random
import secrets
import time
from typing import Any

from benchmarks.resilience.asking import TROUBLE, Reply, ask, route
from benchmarks.resilience.ledger import Ledger
from benchmarks.resilience.victim import Victim

PATIENCE = 90.0
"""Seconds of trying in which the service is killed some thirty times."""


class Lost(Exception):
    """A session is in no true state; the text says how."""


class Unanswered(Exception):
    """The service was killed again and again before it answered; the drain tells more."""


class Client:
    """One of several; ``keyed`` ones send an Idempotency-Key and repeat what was not answered."""

    def __init__(self, number: int, victim: Victim, ledger: Ledger, *, keyed: bool) -> None:
        self._victim, self._ledger, self._keyed = victim, ledger, keyed
        self._random = random.Random(number)
        self._headers = {"Prefer": "respond-async", "User-Agent": f"campaign/{number}"}

    async def run(self, over: asyncio.Event) -> None:
        """Keep one session all the time, and launch and stop others beside it."""
        kept = await self._launch()
        while not over.is_set():
            session_id = await self._launch()
            if session_id is not None:
                await self._use(session_id)
            if kept is not None and kept in self._ledger.held:
                await self._judge(kept, self._look(kept))

    async def _use(self, session_id: str) -> None:
        fate = self._random.random()
        if fate < 0.3:  # while it is being submitted, queued or starting
            await asyncio.sleep(self._random.uniform(0, 0.6))
        else:
            await self._judge(session_id, self._look(session_id))
            await asyncio.sleep(self._random.uniform(0, 1))
            if fate > 0.7 and session_id in self._ledger.held:
                await self._judge(session_id, self._look(session_id))
        if session_id in self._ledger.held:
            await self._judge(session_id, self._stop(session_id))

    async def _judge(self, session_id: str, what: Any) -> None:
        try:
            await what
        except Unanswered:
            self._ledger.routes["unanswered"] += 1
        except Lost as lost:
            self._ledger.lose(session_id, str(lost))

    async def _launch(self) -> str | None:
        key = secrets.token_hex(12)
        headers = self._headers | ({"Idempotency-Key": key} if self._keyed else {})
        posted = {"application": "named", "note": key}
        try:
            reply = await self._insist("POST", "/paraview", headers, posted)
        except Unanswered:
            return None
        if reply.status != 202:
            # With a key: its session was begun and is over. Without one: nothing was begun.
            self._ledger.routes[f"launch answered {reply.status}"] += 1
            await asyncio.sleep(0.2)
            return None
        session_id: str = reply.data["id"]
        self._ledger.launches += 1
        self._ledger.told.add(session_id)
        self._ledger.held.add(session_id)
        return session_id

    async def _insist(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        posted: Any = None,
    ) -> Reply:
        """Ask until there is an answer. A service that stops answers 503."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                reply = await ask(
                    self._victim.port, method, path, headers=headers, posted=posted, limit=10
                )
            except TROUBLE:
                self._ledger.requests_failed += 1
                await asyncio.sleep(0.1)
            else:
                return reply
        raise Unanswered

    async def _state(self, session_id: str) -> dict[str, Any]:
        reply = await self._insist("GET", f"/paraview/{session_id}")
        if reply.status != 200:
            raise Lost(f"GET answers {reply.status}: the session is not known")
        return reply.data

    async def _look(self, session_id: str) -> None:
        """Wait until it is ready and its own application answers at its route."""
        deadline = time.monotonic() + PATIENCE
        state: dict[str, Any] = {}
        while time.monotonic() < deadline:
            state = await self._state(session_id)
            if state["state"] == "ended":
                if state.get("reason") == "rejected":
                    self._ledger.given_up[session_id] = state["message"][:200]
                    self._ledger.held.discard(session_id)
                    return
                raise Lost(f"ended by nobody: {state.get('reason')}: {state['message'][:200]}")
            if state["state"] == "ready":
                found = await route(self._victim.port, session_id, limit=5)
                if found == self._victim.name(session_id):
                    self._ledger.routes["right"] += 1
                    return
                if found is not None:
                    self._ledger.wrong[session_id] = f"answered by {found[:60]}"
                self._ledger.routes["nobody"] += 1
            await asyncio.sleep(0.15)
        if state.get("state") == "ready":
            raise Lost(f"ready, and not reached in {PATIENCE:g} s")
        # Still on its way: true, and judged when the killing is over.

    async def _stop(self, session_id: str) -> None:
        reply = await self._insist("DELETE", f"/paraview/{session_id}")
        if reply.status not in (200, 404):
            raise Lost(f"DELETE answers {reply.status}")
        self._ledger.stops += 1
        self._ledger.held.discard(session_id)
        self._ledger.stopped.add(session_id)
