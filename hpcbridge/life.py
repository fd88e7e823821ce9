"""The life of one session, driven by one task.

::

    submitting -> queued -> starting -> ready -> ended
         \\___________\\__________\\_________\\____/

The task sleeps until something about the session moved (the watcher, the log follower, a stop, the
deadline), and then takes the step that follows. Every step is written to the store before it is
believed, so a new service goes on where an old one was cut off.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Mapping
from typing import Any

from hpcbridge import endings
from hpcbridge.addresses import Address
from hpcbridge.clusters import Cluster
from hpcbridge.config import ApplicationSettings
from hpcbridge.door import Door
from hpcbridge.errors import (
    BridgeError,
    ClusterError,
    ClusterUnreachable,
    NotReadyInTime,
    OutcomeUnknown,
    RouteError,
    SessionFailed,
    StoreError,
    UnexpectedReply,
)
from hpcbridge.events import Bell
from hpcbridge.interest import Interest
from hpcbridge.limits import LOOK, Limit, limits_of, next_look
from hpcbridge.means import Means
from hpcbridge.readiness import Following
from hpcbridge.schedulers.base import EndReason, JobInfo, JobState
from hpcbridge.store import SessionRow, State
from hpcbridge.submission import Submission
from hpcbridge.watcher import Watch

log = logging.getLogger(__name__)

RETRY = 2.0
"""Seconds before a second attempt at something that has to succeed some day."""
RETRY_LIMIT = 60.0


class _End(Exception):
    """Ends the session. ``told`` is what a client that still waits for it gets to hear.

    ``facts`` are columns of the row that are written with the end.
    """

    def __init__(
        self, reason: EndReason, told: BridgeError, facts: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(str(told))
        self.reason = reason
        self.told = told
        self.facts = dict(facts or {})


class Life:
    """One session in this service's hands; :meth:`run` is its task.

    ``application`` None means that it is no longer configured: the session is then ended. ``new``
    says that its client has just asked for it.
    """

    def __init__(
        self,
        row: SessionRow,
        means: Means,
        cluster: Cluster,
        application: ApplicationSettings | None,
        *,
        new: bool = False,
    ) -> None:
        self.row = row
        #: Set when the session is ready or has ended.
        self.settled = asyncio.Event()
        #: What ended it, once it has ended.
        self.error: BridgeError | None = None
        self.watch: Watch | None = None
        self._means = means
        self._cluster = cluster
        self._application = application
        self._door = Door(row, means, cluster)
        self._moved = asyncio.Event()
        #: Rings when there may be something new to tell.
        self.news = Bell()
        keep = application.keep if application else 0.0
        self.interest = Interest(
            claimed=row.claimed, left=not new, keep=keep, changed=self._moved.set
        )
        self._stopping = row.stopped
        self._submission = Submission(row, means, cluster)
        # What the store did not take when the session ended.
        self._unwritten: dict[str, Any] = {}
        if row.state in (State.READY, State.ENDED):
            self.settled.set()

    @property
    def stopping(self) -> bool:
        """Whether the session is ending or has ended."""
        return self._stopping or self.row.state == State.ENDED

    @property
    def tunnel_state(self) -> str | None:
        """``open`` or ``reconnecting`` while there is a tunnel."""
        return self._door.state

    @property
    def limits(self) -> list[Limit]:
        """What will end this ready session, the first one first."""
        if self._application is None or not self._is_ready():
            return []
        return limits_of(self._application, self.row, self._door.traffic)

    async def claim(self) -> None:
        """A client is given the session: from now on it lives until it ends."""
        if not self.interest.claimed:
            self.interest.claimed = True
            try:
                await self._means.store.update(self.row, claimed=True)
            except BaseException:
                self.interest.claimed = False  # the client is told an error, and does not have it
                raise

    def stop(self) -> None:
        """Begin to end it."""
        self._stopping = True
        self._moved.set()

    async def run(self) -> None:
        """Drive the session from where its row says it is to its end, and clean up after it."""
        try:
            if self.row.state != State.ENDED:
                await self._live()
            await self._clean_up()
        except Exception:
            log.exception("session %s: its task failed", self.row.job_name)
            self.error = BridgeError("Internal error; the service's log has details.")
            self.settled.set()

    async def release(self) -> None:
        """Close the tunnel's local end; for a service that stops while the job goes on."""
        await self._door.release()

    # -- from the launch to the end

    async def _live(self) -> None:
        try:
            application = self._configured()
            if self.row.state == State.SUBMITTING:
                await self._submit(application)
            await self._until_ready(application)
            while True:
                await self._check()
                self._check_limits()
                await self._wait(self._next_look(application))
        except _End as end:
            await self._end(end)
        except BridgeError as error:
            before = self.row.state == State.SUBMITTING
            await self._end(_End(EndReason.REJECTED if before else EndReason.FAILED, error))

    def _configured(self) -> ApplicationSettings:
        if self._application is None:
            gone = f"The application '{self.row.application}' is no longer configured."
            raise _End(EndReason.STOPPED, SessionFailed(gone))
        return self._application

    async def _submit(self, application: ApplicationSettings) -> None:
        """submitting -> queued."""
        if self.row.directory:  # an earlier service was cut off here: the job may be there
            job_id = await self._look_up(application)
        else:
            try:
                job_id = await self._submission.submit(application)
            except (OutcomeUnknown, UnexpectedReply) as lost:
                if not self._submission.asked:
                    raise
                log.warning("session %s: %s", self.row.job_name, lost)
                job_id = await self._look_up(application)
        await self._step(State.QUEUED, "Waiting in the queue.", job_id=job_id)

    async def _look_up(self, application: ApplicationSettings) -> str:
        """The id of a job whose submission has an unknown outcome."""
        deadline = self._deadline(application)
        while True:
            job_id, sure = await self._submission.find()
            if job_id:
                return job_id
            self._check_stop()
            if sure:
                told = SessionFailed("The cluster did not take the job. Launch again.")
                raise _End(EndReason.REJECTED, told)
            if time.monotonic() > deadline:
                told = NotReadyInTime(endings.silent_cluster(application.wait))
                raise _End(EndReason.NEVER_READY, told)
            await self._wait(min(deadline, time.monotonic() + RETRY))

    def _deadline(self, application: ApplicationSettings) -> float:
        """When the launch has taken too long, in monotonic seconds."""
        waited = time.time() - (self.row.submitting_at or time.time())
        return time.monotonic() + application.wait - waited

    async def _until_ready(self, application: ApplicationSettings) -> None:
        """queued -> starting -> ready."""
        row, cluster = self.row, self._cluster
        watch = self._watch_job()
        if row.state == State.READY:  # taken up again after a restart
            await self._reopen()
        else:
            following = cluster.follower.follow(
                row.directory, application.ready_line, self._moved.set
            )
            deadline = self._deadline(application)
            try:
                while not self._is_ready():
                    await self._check()
                    if not await self._advance(following):
                        if time.monotonic() > deadline:
                            raise await self._too_late(application)
                        await self._wait(deadline)
            finally:
                cluster.follower.drop(following)
        watch.settled = True
        self.settled.set()

    async def _advance(self, following: Following) -> bool:
        """Take the next step towards ready, if it is time; whether one was taken."""
        row, job = self.row, self.watch.job if self.watch else None
        if job is None:
            return False
        if row.state == State.QUEUED:
            if job.state == JobState.RUNNING and job.host:
                message = f"Running on {job.host}; the application is starting."
                await self._step(State.STARTING, message, host=job.host)
                self._cluster.tunnels.warm(job.host)
                return True
            row.message = f"Waiting in the queue: {job.detail}." if job.detail else row.message
            return False
        if not following.ready.is_set() or following.port is None or row.host is None:
            return False
        opening = self._door.open(row.host, following.port)
        try:
            address = await self._unless_over(opening)
        except ClusterUnreachable as error:
            if error.lasting:
                raise
            log.warning("session %s: %s", row.job_name, error)
            row.message = f"The application is ready, but its node is not reached yet: {error}"
            asyncio.get_running_loop().call_later(RETRY, self._moved.set)
            return False
        await self._step(State.READY, "Ready.", port=following.port, address=str(address))
        return True

    async def _unless_over(self, opening: Coroutine[Any, Any, Address]) -> Address:
        """The tunnel's local end; given up as soon as the session is to end or its job is over."""
        task = asyncio.ensure_future(opening)
        task.add_done_callback(lambda _: self._moved.set())
        try:
            while not task.done():
                await self._check()
                await self._wait(None)
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})

    def _is_ready(self) -> bool:
        return self.row.state == State.READY

    async def _reopen(self) -> None:
        """Open a ready session's tunnel again, on the same local end, however long it takes."""
        row, pause = self.row, RETRY
        if row.host is None or row.port is None or row.address is None:
            broken = SessionFailed("The record of this session is not complete.")
            raise _End(EndReason.FAILED, broken)
        while True:
            await self._check()
            try:
                await self._door.reopen(row.host, row.port)
            except BridgeError as error:
                log.warning("session %s: %s", row.job_name, error)
            else:
                return
            await self._wait(time.monotonic() + pause)
            pause = min(pause * 2, RETRY_LIMIT)

    def _watch_job(self) -> Watch:
        row, grace = self.row, self._cluster.settings.grace
        self.watch = self._cluster.watcher.watch(
            row.job_id or "", row.job_name, grace, self._moved.set
        )
        return self.watch

    async def _wait(self, deadline: float | None) -> None:
        """Sleep until something moved, or until ``deadline`` (monotonic seconds)."""
        unwanted = None if self.stopping else self.interest.until
        limits = [each for each in (deadline, unwanted) if each is not None]
        left = max(0.0, min(limits) - time.monotonic()) if limits else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left):
                await self._moved.wait()
        self._moved.clear()
        self.news.ring()

    async def _step(self, state: State, message: str, **changes: Any) -> None:
        """Write a transition down. Every one of them is written here or in :meth:`_end`."""
        changes[f"{state}_at"] = time.time()
        await self._means.store.update(self.row, state=state, message=message, **changes)
        log.info("session %s: %s", self.row.job_name, state)
        self.news.ring()

    # -- reasons to end

    async def _check(self) -> None:
        """Raise when the session is to end, or when there is proof that its job has."""
        self._check_stop()
        if self.watch is not None and self.watch.ended and self.watch.job is not None:
            raise await self._job_over(self.watch.job)

    def _check_stop(self) -> None:
        if self._stopping:
            raise _End(EndReason.STOPPED, SessionFailed("The session was stopped."))
        if self.interest.over:
            raise _End(EndReason.IDLE, SessionFailed("Nobody waited for the session any more."))

    def _check_limits(self) -> None:
        for limit in self.limits:
            if limit.over:
                raise _End(limit.reason, SessionFailed(limit.message))

    def _next_look(self, application: ApplicationSettings) -> float | None:
        # While somebody is connected there is no idle limit, but there will be one.
        coming = time.monotonic() + LOOK if application.idle is not None else None
        known = next_look(self.limits)
        return min((each for each in (coming, known) if each is not None), default=None)

    async def _job_over(self, job: JobInfo) -> _End:
        tail = await self._tail()
        facts = {"exit_status": job.exit_status, "log_tail": tail}
        reason = job.reason or EndReason.FINISHED
        if self.row.state == State.READY:
            return _End(reason, SessionFailed(endings.ended_later(job)), facts)
        if reason == EndReason.FINISHED:
            reason = EndReason.FAILED
        return _End(reason, SessionFailed(endings.died_early(job, tail)), facts)

    async def _tail(self) -> str:
        """The end of the application's output, without the secret should it have printed it."""
        tail = await self._cluster.follower.tail(self.row.directory)
        return tail.replace(self.row.secret, "********") if self.row.secret else tail

    async def _too_late(self, application: ApplicationSettings) -> _End:
        facts = {}
        if self.watch and self.watch.unknown_since:
            message = endings.silent_cluster(application.wait)
        elif self.row.state == State.QUEUED:
            message = endings.still_queued(application.wait, self.row.message)
        else:
            tail = await self._tail()
            facts = {"log_tail": tail}
            message = endings.never_ready(application.wait, application.ready_line, tail)
        return _End(EndReason.NEVER_READY, NotReadyInTime(message), facts)

    # -- the end

    async def _end(self, end: _End) -> None:
        """any state -> ended. Whoever waits is told; the job is cleaned up afterwards."""
        row = self.row
        await self._door.close()
        log.info("session %s: ended, %s", row.job_name, end.reason)
        changes: dict[str, Any] = {"state": State.ENDED, "reason": end.reason, "message": str(end)}
        changes |= {"secret": None, "address": None, "ended_at": time.time(), **end.facts}
        try:
            await self._means.store.update(row, **changes)
        except StoreError as error:
            log.warning("session %s: %s", row.job_name, error)
            self._unwritten = changes
            for key, value in changes.items():
                setattr(row, key, value)
        self.error = end.told
        self.settled.set()
        self.news.ring()

    async def _clean_up(self) -> None:
        """Leave nothing on the cluster, however long the cluster cannot be asked."""
        pause = RETRY
        while True:
            try:
                await self._end_job()
                if self.row.directory:
                    await self._cluster.transport.remove(self.row.directory)
                await self._means.routes.remove(self.row.id)  # if that failed at the end
                await self._means.store.update(self.row, **self._unwritten, job_ended=True)
            except (ClusterError, RouteError, StoreError) as error:
                log.warning("session %s: cleaning up: %s", self.row.job_name, error)
            else:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_LIMIT)

    async def _end_job(self) -> None:
        """Cancel the job until there is proof that it is over."""
        row, cluster = self.row, self._cluster
        while row.job_id is None and self._submission.asked:
            job_id, sure = await self._submission.find()
            if job_id:
                await self._means.store.update(row, job_id=job_id)
            elif not sure:
                await self._wait(time.monotonic() + RETRY)
        if row.job_id is None:
            return
        watch = self.watch or self._watch_job()
        watch.hurry()
        while not watch.ended:
            if watch.ours:  # never somebody else's job that has got the id
                await cluster.scheduler.cancel([row.job_id])
            cluster.watcher.stir()
            await self._wait(time.monotonic() + RETRY)
        cluster.watcher.drop(watch)
