"""One session's job on its way to the scheduler, and whether it arrived.

Each attempt has a name and a directory of its own, and is submitted at most once. A further one
begins only when the scheduler lacks the last one's job for all of its grace; the last one's
directory is removed before. Should its job be born all the same, it finds no files and ends, and
the patrol (:mod:`hpcbridge.clusters.orphans`) ends it too, since no session has its name.
"""

import contextlib
import time
from typing import Any

from hpcbridge.clusters.cluster import Cluster
from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.errors import (
    BridgeError,
    ClusterError,
    LeadershipLost,
    OutcomeUnknown,
    StoreError,
    UnexpectedReply,
)
from hpcbridge.schedulers.base import JobRequest
from hpcbridge.sessions.context import SessionContext
from hpcbridge.store import SessionRow

ATTEMPTS = 3
"""Submissions of one session of which the scheduler may know nothing."""


class Submission:
    """Submits, and finds out by the job's name what came of it."""

    def __init__(self, row: SessionRow, context: SessionContext, cluster: Cluster) -> None:
        self._row = row
        self._context = context
        self._cluster = cluster
        #: Whether the scheduler may have a job that the row does not tell.
        self.asked = row.job_id is None and row.directory != ""
        self._absent_since: float | None = None
        #: Why the scheduler could not be asked the last time; "" where it could.
        self.trouble = ""

    @property
    def exhausted(self) -> bool:
        """Whether there have been enough attempts."""
        return self._row.attempt + 1 >= ATTEMPTS

    async def submit(self, application: ApplicationSettings) -> str:
        """Stage the session directory and submit; returns the job's id.

        Raises :class:`~hpcbridge.errors.OutcomeUnknown` or
        :class:`~hpcbridge.errors.UnexpectedReply` with ``asked`` set when :meth:`find` has to tell.
        After a :class:`~hpcbridge.errors.StoreError` nothing was submitted: it may be called again.
        """
        row, cluster = self._row, self._cluster
        root = await cluster.session_root()
        for name in row.attempt_names[-2:-1]:
            await cluster.transport.remove(f"{root}/{name}")
        directory = f"{root}/{row.attempt_name}"
        files = self._context.files.for_session(application, cluster.settings, row, directory)
        await self._context.store.update(row, directory=directory)
        await cluster.transport.stage(directory, files)
        await self._still_ours(directory)
        request = JobRequest(
            row.attempt_name,
            directory,
            f"{directory}/job.sh",
            application.walltime,
            files["job.sh"].content.decode(),
        )
        self.asked = True
        try:
            return await cluster.scheduler.submit(request)
        except (OutcomeUnknown, UnexpectedReply):
            raise
        except BridgeError:
            self.asked = False  # a clear no
            raise

    async def _still_ours(self, directory: str) -> None:
        """Submit nothing that another replica has given up meanwhile, and leave it no secret."""
        try:
            await self._context.store.check()
        except (LeadershipLost, StoreError):
            with contextlib.suppress(ClusterError):
                await self._cluster.transport.remove(directory)
            raise

    async def find(self) -> tuple[str | None, bool]:
        """The job's id by its name; and whether it is sure that there is none.

        Jobs appear late: only complete listings without it for all of the grace are proof. The
        grace begins anew with each service, which can only make it longer.
        """
        asked = time.monotonic()
        try:
            job_id = await self._cluster.scheduler.find(self._row.attempt_name)
        except ClusterError as error:
            self.trouble = str(error)
            return None, False
        self.trouble = ""
        self._absent_since = self._absent_since or time.monotonic()
        sure = asked - self._absent_since >= self._cluster.settings.grace
        self.asked = self.asked and not sure
        return job_id, sure

    async def begin_anew(self, **changes: Any) -> None:
        """Give the last attempt up, of which nothing is there any more: :meth:`find` was sure, or
        its job has ended. ``changes`` are more columns of the row."""
        changes |= {"directory": "", "attempt": self._row.attempt + 1}
        await self._context.store.update(self._row, **changes)
        self.asked, self._absent_since = False, None

    async def remove(self) -> None:
        """Remove the directories of all attempts.

        Raises :class:`~hpcbridge.errors.ClusterError`.
        """
        row, transport = self._row, self._cluster.transport
        if row.directory:
            await transport.remove(row.directory)
        if row.attempt:
            root = await self._cluster.session_root()
            for name in row.attempt_names[:-1]:
                await transport.remove(f"{root}/{name}")
