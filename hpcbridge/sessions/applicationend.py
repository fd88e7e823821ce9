"""An application that is over while its job goes on, as for a long epilogue.

The scheduler calls such a job running. Its port is free for whoever wants it: so nobody is led
there any more, and the session ends by what the job itself has told.
"""

import asyncio
import time
from dataclasses import replace

from hpcbridge.clusters.readiness import Following
from hpcbridge.clusters.watcher import Watch
from hpcbridge.schedulers.base import JobState
from hpcbridge.sessions.progress import Progress
from hpcbridge.sessions.termination import job_over
from hpcbridge.states import EndReason

PATIENCE = 3.0
"""Seconds in which the scheduler may tell more than the job does: why it ended, or that it is run
again."""


class ApplicationEnd:
    """Of one run of a session's job."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._since: float | None = None

    async def check(self, following: Following, watch: Watch) -> None:
        """Raise :class:`~hpcbridge.sessions.termination.Termination` once the application is over
        for certain. Until then, and as soon as it is, there is no way to its port."""
        if following.over is None:
            return
        session = self._progress.session
        if self._since is None:
            self._since = time.monotonic()
            watch.hurry(ending=False)
            session.cluster.watcher.wake()
            while not await session.endpoint.close():
                await self._progress.pause()
        left = self._since + PATIENCE - time.monotonic()
        # A listing from after its end that has the job as running; one that failed tells nothing.
        asked = watch.asked >= self._since and watch.unknown_since is None
        job = watch.job
        if left <= 0 and asked and job is not None and job.state == JobState.RUNNING:
            job = replace(
                job,
                state=JobState.COMPLETING,
                reason=EndReason.FAILED if following.over else EndReason.FINISHED,
                exit_status=following.over,
            )
            raise job_over(session.row, job, await self._progress.remains())
        asyncio.get_running_loop().call_later(max(left, 0.1), session.moved.set)
