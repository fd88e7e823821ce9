"""The end of a session: it is written down and told, and then nothing is left on the cluster."""

import asyncio
import logging
import time
from typing import Any

from hpcbridge.errors import ClusterError, RouteError, StoreError
from hpcbridge.sessions.progress import Progress
from hpcbridge.sessions.submission import Submission
from hpcbridge.sessions.termination import Termination, class_of
from hpcbridge.states import EndReason, State

log = logging.getLogger(__name__)


EPILOGUE = 300.0
"""Seconds that a job has to end by itself after its application."""


class Teardown:
    """any state -> ended, and the cleaning up that follows."""

    def __init__(self, progress: Progress, submission: Submission) -> None:
        self._progress = progress
        self._submission = submission
        self._session = progress.session
        self._row = progress.session.row
        self._store = progress.session.context.store
        self._timing = progress.session.context.timing
        # Blotted out in the output that is kept; the row forgets it with the end.
        self._secret: str | None = None

    async def end(self, end: Termination) -> bool:
        """Write the end down and tell whoever waits; the job is cleaned up afterwards.

        False where nobody seemed to want it any more, and a client of another replica does.
        """
        self._secret = self._row.secret or self._secret
        changes: dict[str, Any] = {"state": State.ENDED, "reason": end.reason, "message": str(end)}
        changes |= {"secret": None, "ended_at": time.time(), **end.facts}
        changes["error_class"] = class_of(end.error)
        if not await self._write_end(changes, unchanged=end.reason == EndReason.IDLE):
            return False
        context, row = self._session.context, self._row
        context.census.put(row)
        context.instruments.ends.labels(row.application, row.cluster, end.reason).inc()
        log.info("session %s: ended, %s", row.job_name, end.reason)
        await self._session.over(end.error)
        return True

    async def _write_end(self, changes: dict[str, Any], *, unchanged: bool) -> bool:
        """Write the end down, now or, where nobody else can take the session over, later."""
        while True:
            try:
                if await self._store.update(self._row, unchanged=unchanged, **changes):
                    return True
                if row := await self._store.get(self._row.id):
                    self._session.refresh(row, driven=True)
            except StoreError as error:
                log.warning("session %s: %s", self._row.job_name, error)
            else:
                return False
            if not self._store.shared:
                self._session.unwritten = changes
                for key, value in changes.items():
                    setattr(self._row, key, value)
                return True
            await asyncio.sleep(self._timing.retry)

    async def clean_up(self) -> None:
        """Leave nothing on the cluster, however long the cluster cannot be asked."""
        pause = self._timing.retry
        while True:
            try:
                await self._end_job()
                await self._keep_log()
                await self._submission.remove()
                # If that failed at the end:
                await self._session.context.routes.remove(self._row.id)
                await self._store.endpoints.drop(self._row.id)
                await self._store.update(self._row, **self._session.unwritten, job_ended=True)
            except (ClusterError, RouteError, StoreError) as error:
                log.warning("session %s: cleaning up: %s", self._row.job_name, error)
            else:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._timing.retry_limit)

    async def _keep_log(self) -> None:
        if (logs := self._session.context.logs) is not None:
            await logs.keep(self._session.cluster, self._row, self._secret)

    async def _end_job(self) -> None:
        """Cancel the job until there is proof that it is over."""
        row, cluster = self._row, self._session.cluster
        while row.job_id is None and self._submission.asked:
            job_id, sure = await self._submission.find()
            if job_id:
                await self._store.update(row, job_id=job_id)
            elif not sure:
                await self._progress.pause()
        if row.job_id is None:
            return
        watch = self._session.watch or self._progress.watch_job()
        watch.hurry()
        # An application that is over, and whose job is not: its epilogue runs, and is not cut off.
        own_end = row.exit_status is not None and not watch.over
        patience = time.monotonic() + (EPILOGUE if own_end else 0)
        while not watch.ended:
            if watch.ours and time.monotonic() >= patience:  # never one that has got the id
                await cluster.scheduler.cancel({row.job_id: row.attempt_name})
            cluster.watcher.wake()
            await self._progress.pause()
        cluster.watcher.drop(watch)
