"""How a session that this service drives gets on: it waits, is checked, and is written down.

Every step is written to the store before it is believed, so a new service goes on where an old one
was cut off. While the store is away, a step waits for it, and nothing ends for that.
"""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from hpcbridge.clusters.remains import Remains
from hpcbridge.clusters.watcher import Watch
from hpcbridge.errors import SessionFailed, StoreError
from hpcbridge.sessions.session import Session
from hpcbridge.sessions.termination import Termination, job_over
from hpcbridge.states import EndReason, State
from hpcbridge.store import SessionRow

log = logging.getLogger(__name__)


_BEGAN = {State.QUEUED: "submitting_at", State.STARTING: "queued_at", State.READY: "starting_at"}
"""The column that tells when the step to a state began."""


class Progress:
    """Of one session, for as long as this service drives it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._store = session.context.store
        self._timing = session.context.timing
        # What other replicas know of it that is no step.
        self._published = self._to_publish()

    # -- waiting

    async def wait(self, deadline: float | None) -> None:
        """Sleep until something moved, or until ``deadline`` (monotonic seconds)."""
        await self._publish()
        session = self.session
        unwanted = None if session.stopping else session.keepalive.until
        limits = [each for each in (deadline, unwanted) if each is not None]
        left = max(0.0, min(limits) - time.monotonic()) if limits else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left):
                await session.moved.wait()
        session.moved.clear()
        session.news.notify()

    async def pause(self) -> None:
        """Sleep until something moved, or it is time for another attempt."""
        await self.wait(time.monotonic() + self._timing.retry)

    async def _publish(self) -> None:
        """Let other replicas know what is no step, and is remembered for nobody else."""
        known, row = self._to_publish(), self.session.row
        if self._store.shared and known != self._published and row.state != State.ENDED:
            with contextlib.suppress(StoreError):  # said again when it changes again
                await self._store.update(row, **known)
                self._published = known

    def _to_publish(self) -> dict[str, Any]:
        session = self.session
        message, outlook = session.row.message, session.row.outlook
        return {"message": message, "unknown_since": session.unknown_since, "outlook": outlook}

    # -- writing down

    async def step(self, state: State, message: str, **changes: Any) -> None:
        """Write a transition down, with these columns of the row."""
        row = self.session.row
        known = {"message": message, "outlook": None}
        now = time.time()
        self.session.clock.since(now)
        changes |= {f"{state}_at": now, "state": state, **known}
        step, launch = _took(row, state, now)
        await self.written(lambda: self._store.update(row, **changes))
        self._published |= known
        self.session.context.census.put(row)
        instruments = self.session.context.instruments
        if step is not None:
            instruments.steps.labels(row.cluster, state).observe(step)
        if launch is not None:
            instruments.launched.labels(row.application).observe(launch)
        log.info("session %s: %s", row.job_name, state)
        self.session.news.notify()

    async def written(self, write: Callable[[], Awaitable[object]]) -> None:
        """Write, as soon as the store can be written; the session may end meanwhile."""
        pause = self._timing.retry
        while True:
            try:
                await write()
            except StoreError as error:
                log.warning("session %s: %s", self.session.row.job_name, error)
            else:
                return
            await self.wait(time.monotonic() + pause)
            await self.check()
            pause = min(pause * 2, self._timing.away_limit)

    # -- reasons to end

    async def check(self) -> None:
        """Raise :class:`~hpcbridge.sessions.termination.Termination` when the session is to end,
        or when there is proof that its job has."""
        self.check_stop()
        watch = self.session.watch
        if watch is not None and watch.over and watch.job is not None:
            job, remains = watch.job, await self.remains()
            raise job_over(self.session.row, job, remains)

    def check_stop(self) -> None:
        """The same where only a client can be the reason."""
        if self.session.stop_asked:
            raise Termination(EndReason.STOPPED, SessionFailed("The session was stopped."))
        if self.session.keepalive.over:
            nobody = "Nobody waited for the session any more."
            raise Termination(EndReason.IDLE, SessionFailed(nobody))

    async def tail(self) -> str:
        """The end of the application's output."""
        return (await self.remains()).tail

    async def remains(self) -> Remains:
        """What the job left, without the secret should its application have printed it."""
        row = self.session.row
        remains = await self.session.cluster.follower.remains(row.directory)
        if not row.secret:
            return remains
        tail, said = (each.replace(row.secret, "********") for each in (remains.tail, remains.said))
        return dataclasses.replace(remains, tail=tail, said=said)

    def watch_job(self) -> Watch:
        """Begin to watch the session's job."""
        row, cluster = self.session.row, self.session.cluster
        self.session.watch = cluster.watcher.watch(
            row.job_id or "",
            row.attempt_name,
            cluster.settings.grace,
            self.session.moved.set,
            row.account,
        )
        return self.session.watch


def _took(row: SessionRow, state: State, now: float) -> tuple[float | None, float | None]:
    """Seconds that the step of ``row`` to ``state`` took, and the launch if it is over so."""
    began = getattr(row, _BEGAN.get(state, ""), None)
    first = state == State.READY and row.ready_at is None and row.pool is None
    asked = row.submitting_at if first else None
    step, launch = (None if at is None else max(0.0, now - at) for at in (began, asked))
    return step, launch
