"""A cluster in memory, whose faults are scripted: what a real one cannot be made to do."""

import asyncio
import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from hpcbridge.clusters.cluster import Cluster
from hpcbridge.clusters.readiness import Follower
from hpcbridge.clusters.watcher import Watcher
from hpcbridge.config.batchsystems import LocalCluster
from hpcbridge.errors import BridgeError, ClusterError, RouteError, StoreError
from hpcbridge.frontends.base import Routes
from hpcbridge.schedulers.base import (
    EndReason,
    JobInfo,
    JobRequest,
    JobState,
    Listing,
    Outlook,
)
from hpcbridge.store import SessionRow, Store
from hpcbridge.transports.base import Completed, Slice, StagedFile
from hpcbridge.tunnels import Tunnels


class FakeScheduler:
    """Jobs that move when the test says so.

    ``down`` is raised by every question while it is set. ``submit_fault`` is raised by the next
    submission, which is accepted all the same where ``accepts`` is set; its job is then listed
    from the ``appears_after``-th look on. ``ignores_cancel`` counts the cancellations without
    effect that are to come.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, JobInfo] = {}
        #: What a second question about a job tells, or an error with which it fails.
        self.details: dict[str, JobInfo | Exception | None] = {}
        #: Jobs of which a listing says nothing.
        self.untold: set[str] = set()
        self.submitted: list[JobRequest] = []
        self.cancelled: list[str] = []
        self.looks = 0
        self.described: list[str] = []
        self.outlooks: dict[str, Outlook] = {}
        self.looks_ahead: list[set[str]] = []
        self.no_outlook: Exception | None = None
        self.down: Exception | None = None
        self.submit_fault: Exception | None = None
        self.accepts = False
        self.appears_after = 0
        self.ignores_cancel = 0
        self.before_answer: Callable[[], None] = lambda: None
        self._hidden: dict[str, JobInfo] = {}
        self._next = 1

    # -- for the test

    def add(self, name: str, state: JobState = JobState.QUEUED, **more: Any) -> str:
        job_id = str(self._next)
        self._next += 1
        self.jobs[job_id] = JobInfo(job_id, name, state, **more)
        return job_id

    def change(self, job_id: str, **changes: Any) -> None:
        self.jobs[job_id] = dataclasses.replace(self.jobs[job_id], **changes)

    def run(self, job_id: str, host: str = "localhost") -> None:
        self.change(job_id, state=JobState.RUNNING, host=host)

    def end(self, job_id: str, reason: EndReason, status: int | None = None, **more: Any) -> None:
        self.change(job_id, state=JobState.ENDED, reason=reason, exit_status=status, **more)

    @property
    def living(self) -> list[str]:
        """Ids of jobs that have not ended, those that are not listed yet among them."""
        everyone = [*self.jobs.values(), *self._hidden.values()]
        return [job.job_id for job in everyone if job.state != JobState.ENDED]

    # -- the protocol

    async def submit(self, request: JobRequest) -> str:
        await asyncio.sleep(0)
        self.submitted.append(request)
        fault, self.submit_fault = self.submit_fault, None
        if fault is None:
            return self.add(request.name)
        if self.accepts:
            job_id = self.add(request.name)
            if self.appears_after:
                self._hidden[job_id] = self.jobs.pop(job_id)
        raise fault

    async def list_jobs(self) -> Listing:
        await asyncio.sleep(0)
        self.looks += 1
        self.before_answer()
        self._ask()
        if self.looks >= self.appears_after:
            self.jobs |= self._hidden
            self._hidden = {}
        return Listing(dict(self.jobs), untold=set(self.untold))

    async def outlook(self, job_ids: Collection[str]) -> Mapping[str, Outlook]:
        await asyncio.sleep(0)
        self.looks_ahead.append(set(job_ids))
        self._ask()
        if self.no_outlook is not None:
            raise self.no_outlook
        return {each: self.outlooks[each] for each in job_ids if each in self.outlooks}

    async def find(self, name: str) -> str | None:
        jobs = (await self.list_jobs()).jobs.values()
        return max((job.job_id for job in jobs if job.name == name), default=None, key=int)

    async def describe_end(self, job_id: str) -> JobInfo | None:
        await asyncio.sleep(0)
        self.described.append(job_id)
        self._ask()
        told = self.details.get(job_id)
        if isinstance(told, Exception):
            raise told
        return told

    async def cancel(self, jobs: Mapping[str, str]) -> None:
        await asyncio.sleep(0)
        self._ask()
        for job_id, name in jobs.items():
            assert job_id not in self.jobs or self.jobs[job_id].name == name
            self.cancelled.append(job_id)
            if self.ignores_cancel:
                self.ignores_cancel -= 1
            elif job_id in self.jobs and self.jobs[job_id].state != JobState.ENDED:
                self.end(job_id, EndReason.CANCELLED, -15)

    def notify(self, changed: Callable[[], None]) -> None:
        self.changed = changed

    async def close(self) -> None:
        """Nothing to release."""

    def _ask(self) -> None:
        if self.down is not None:
            raise self.down


class FakeTransport:
    """Files in a dict. ``down`` is raised while it is set; ``stage_fault`` by the next staging."""

    follow_interval = 0.005

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.down: ClusterError | None = None
        self.stage_fault: ClusterError | None = None
        self.remove_faults = 0

    def session(self, row: SessionRow) -> "FakeApplication":
        return FakeApplication(self, row.directory)

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float) -> Completed:
        raise NotImplementedError

    async def home(self) -> str:
        self._ask()
        return "/home/alice"

    async def stage(self, directory: str, files: Mapping[str, StagedFile]) -> None:
        await asyncio.sleep(0)
        self._ask()
        fault, self.stage_fault = self.stage_fault, None
        if fault is not None:
            raise fault
        self.files |= {f"{directory}/{name}": file.content for name, file in files.items()}

    async def read(self, wanted: Sequence[Slice]) -> list[bytes | None]:
        await asyncio.sleep(0)
        self._ask()
        return [self._slice(each) for each in wanted]

    def _slice(self, wanted: Slice) -> bytes | None:
        data = self.files.get(wanted.path)
        if data is None:
            return None
        start = wanted.offset if wanted.offset >= 0 else max(0, len(data) + wanted.offset)
        return data[start : start + wanted.limit]

    async def remove(self, directory: str) -> None:
        await asyncio.sleep(0)
        self._ask()
        if self.remove_faults:
            self.remove_faults -= 1
            raise ClusterError("The directory is busy.")
        for path in [path for path in self.files if path.startswith(f"{directory}/")]:
            del self.files[path]

    async def close(self) -> None:
        """Nothing to release."""

    def _ask(self) -> None:
        if self.down is not None:
            raise self.down


@dataclasses.dataclass
class FakeApplication:
    """What the application of a session writes into its directory."""

    transport: FakeTransport
    directory: str

    def prints(self, text: str) -> None:
        path = f"{self.directory}/output.log"
        self.transport.files[path] = self.transport.files.get(path, b"") + text.encode()

    def tells(self, text: str) -> None:
        self.transport.files[f"{self.directory}/status"] = text.encode()


class FlakyStore(Store):
    """The real store, which can be made to fail."""

    failing = False

    async def update(self, row: SessionRow, **changes: Any) -> bool:
        if self.failing:
            raise StoreError("The database is locked.")
        return await super().update(row, **changes)


class FakePublisher:
    """A front end. ``failing`` counts the failures to come."""

    def __init__(self) -> None:
        self.routes: dict[str, str] = {}
        self.failing = 0

    async def start(self, routes: Routes) -> None:
        await self.publish(routes)

    async def publish(self, routes: Routes) -> None:
        if self.failing:
            self.failing -= 1
            raise RouteError("The map cannot be written.")
        self.routes = {key: str(route.address) for key, route in routes.items()}

    async def close(self) -> None:
        self.routes = {}


class FakeFiles:
    """What is staged, without templates."""

    def __init__(self) -> None:
        self.fault: BridgeError | None = None

    def for_session(self, *_: Any) -> dict[str, StagedFile]:
        if self.fault is not None:
            raise self.fault
        return {"job.sh": StagedFile(b"#!/bin/sh\n", 0o700)}


def fake_cluster(grace: float = 0.1) -> Cluster:
    """A cluster of fakes, watched and followed by the real parts; tunnels lead to this machine."""
    scheduler, transport = FakeScheduler(), FakeTransport()
    watcher = Watcher(scheduler)
    return Cluster(
        name="fake",
        settings=LocalCluster(scheduler="local", session_root="/s", grace=grace),
        transport=transport,
        scheduler=scheduler,
        tunnels=Tunnels(None, None, None),
        watcher=watcher,
        follower=Follower(transport, watcher.wake),
    )
