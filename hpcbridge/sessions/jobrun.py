"""Which run of its job a session is in: jobs are held, suspended, requeued and run again."""

from hpcbridge.clusters.watcher import Watch
from hpcbridge.schedulers.base import JobInfo, JobState
from hpcbridge.states import State
from hpcbridge.store import SessionRow


class JobRun:
    """The run of the job that a session knows, and the port of the run before."""

    def __init__(self, row: SessionRow) -> None:
        self._row = row
        self._run = ""
        self._suspended = False
        #: The port of the run before this one (0 if it is not known); None in the first one.
        self.former: int | None = None

    def began(self, job: JobInfo) -> None:
        """The session is in this run from now on."""
        self._run, self._suspended = job.run, False

    def went_back(self, watch: Watch) -> bool:
        """Whether the job is no longer the running one that the session has known."""
        row, job = self._row, watch.job
        if job is None or (row.state == State.QUEUED and not self._suspended):
            return False
        if job.state == JobState.QUEUED:
            return not (self._suspended and job.suspended)
        if job.state != JobState.RUNNING:
            return False
        self._run = self._run or job.run
        moved = None not in (job.host, row.host) and job.host != row.host
        return moved or bool(job.run and job.run != self._run)

    def left(self, watch: Watch, port: int | None) -> None:
        """The run is over; ``port`` is what it has told, if it has.

        A job that is only suspended is the same run when it goes on.
        """
        self._suspended = watch.job is not None and watch.job.suspended
        if not self._suspended:
            self._run, self.former = "", self._row.port or port or 0
