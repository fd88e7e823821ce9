"""One session's job on its way to the scheduler, and whether it arrived."""

import contextlib
import time

from hpcbridge.clusters import Cluster
from hpcbridge.config import ApplicationSettings
from hpcbridge.errors import BridgeError, ClusterError, OutcomeUnknown, UnexpectedReply
from hpcbridge.means import Means
from hpcbridge.schedulers.base import JobRequest
from hpcbridge.store import SessionRow


class Submission:
    """Submits at most once, and finds out by the job's name what came of it."""

    def __init__(self, row: SessionRow, means: Means, cluster: Cluster) -> None:
        self._row = row
        self._means = means
        self._cluster = cluster
        #: Whether the scheduler may have a job that the row does not tell.
        self.asked = row.job_id is None and row.directory != ""
        self._absent_since: float | None = None

    async def submit(self, application: ApplicationSettings) -> str:
        """Stage the session directory and submit; returns the job's id.

        Raises :class:`~hpcbridge.errors.OutcomeUnknown` or
        :class:`~hpcbridge.errors.UnexpectedReply` with ``asked`` set when :meth:`find` has to tell.
        """
        row, cluster = self._row, self._cluster
        directory = f"{await cluster.session_root()}/{row.job_name}"
        files = self._means.files.for_session(application, cluster, row, directory)
        await self._means.store.update(row, directory=directory)
        await cluster.transport.stage(directory, files)
        script = f"{directory}/job.sh"
        text = files["job.sh"].content.decode()
        request = JobRequest(row.job_name, directory, script, application.walltime, text)
        self.asked = True
        try:
            return await cluster.scheduler.submit(request)
        except (OutcomeUnknown, UnexpectedReply):
            raise
        except BridgeError:
            self.asked = False  # a clear no
            raise

    async def find(self) -> tuple[str | None, bool]:
        """The job's id by its name; and whether it is sure that there is none.

        Jobs appear late: only complete listings without it for all of the grace are proof.
        """
        with contextlib.suppress(ClusterError):
            job_id = await self._cluster.scheduler.find(self._row.job_name)
            now = time.monotonic()
            self._absent_since = self._absent_since or now
            sure = now - self._absent_since >= self._cluster.settings.grace
            self.asked = self.asked and not sure
            return job_id, sure
        return None, False
