"""The runner's jobs, by their state, so that none of its steps looks at all of them."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator

from hpcbridge.schedulers.base import JobState, Listing
from hpcbridge.schedulers.local.job import Job, told


class Jobs:
    """All jobs of a runner; ids are given in the order in which jobs come."""

    def __init__(self, jobs: Iterable[Job] = ()) -> None:
        self._by_id = {job.job_id: job for job in sorted(jobs, key=lambda each: each.job_id)}
        self._by_name: dict[str, Job] = {job.name: job for job in self}
        #: Those that have not ended, in the order of the queue.
        self._states: dict[JobState, dict[int, Job]] = {JobState.QUEUED: {}, JobState.RUNNING: {}}
        for job in self:
            if job.state != JobState.ENDED:
                self._states[JobState(job.state)][job.job_id] = job
        ended = [job for job in self if job.state == JobState.ENDED]
        self._ended = deque(sorted(ended, key=lambda each: each.ended))
        self._last = max(self._by_id, default=0)
        self._told = {str(job.job_id): told(job) for job in self}

    def __iter__(self) -> Iterator[Job]:
        return iter(self._by_id.values())

    @property
    def listing(self) -> Listing:
        """All of them, as the service takes them."""
        return Listing(dict(self._told))

    def get(self, job_id: int) -> Job | None:
        """The job with this id."""
        return self._by_id.get(job_id)

    def named(self, name: str) -> Job | None:
        """The last job with this name."""
        return self._by_name.get(name)

    @property
    def next_id(self) -> int:
        """The id of the next job."""
        return self._last + 1

    @property
    def queued(self) -> Collection[Job]:
        """Those that wait, in the order of the queue."""
        return self._states[JobState.QUEUED].values()

    @property
    def running(self) -> Collection[Job]:
        """Those that run."""
        return self._states[JobState.RUNNING].values()

    @property
    def unfinished(self) -> int:
        """How many run or wait."""
        return sum(map(len, self._states.values()))

    def add(self, job: Job) -> None:
        """A new job, which waits."""
        self._by_id[job.job_id] = self._by_name[job.name] = job
        self._last = job.job_id
        self._states[JobState.QUEUED][job.job_id] = job
        self._told[str(job.job_id)] = told(job)

    def move(self, job: Job, state: JobState) -> None:
        """The job is in this state now, and all else that is told of it stands in ``job``."""
        if job.state != JobState.ENDED:
            del self._states[JobState(job.state)][job.job_id]
        job.state = state
        if state == JobState.ENDED:
            self._ended.append(job)
        else:
            self._states[state][job.job_id] = job
        self._told[str(job.job_id)] = told(job)

    def forget(self, limit: float) -> list[Job]:
        """Take out those that ended before ``limit``, in seconds since the epoch.

        The newest stays: the next id is counted from it.
        """
        newest, gone = None, list[Job]()
        while self._ended and self._ended[0].ended < limit:
            job = self._ended.popleft()
            if job.job_id == self._last:
                newest = job
                continue
            del self._by_id[job.job_id], self._told[str(job.job_id)]
            if self._by_name.get(job.name) is job:
                del self._by_name[job.name]
            gone.append(job)
        if newest is not None:
            self._ended.appendleft(newest)
        return gone
