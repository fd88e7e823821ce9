"""The life of one session, driven by one task.

::

    submitting -> queued -> starting -> ready -> ended
         \\___________\\__________\\_________\\____/

The task sleeps until something about the session moved (the watcher, the log follower, a stop, the
deadline), and then takes the step that follows. Every step is written to the store before it is
believed, so a new service goes on where an old one was cut off. While the store is away, a step
waits for it, and nothing ends for that.

Where several replicas share the store, one drives the session, and the others follow: see
:mod:`hpcbridge.presence`.
"""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from hpcbridge import endings, waiting
from hpcbridge.addresses import Address
from hpcbridge.applicationsettings import ApplicationSettings
from hpcbridge.clusters import Cluster
from hpcbridge.errors import (
    BridgeError,
    ClusterError,
    ClusterUnreachable,
    JobRejected,
    LeadershipLost,
    OutcomeUnknown,
    RouteError,
    SessionFailed,
    StoreError,
    UnexpectedReply,
)
from hpcbridge.limits import LOOK, next_look
from hpcbridge.means import Means
from hpcbridge.presence import Presence
from hpcbridge.readiness import Following
from hpcbridge.schedulers.base import EndReason, JobState, Outlook
from hpcbridge.store import SessionRow, State
from hpcbridge.submission import Submission
from hpcbridge.verdicts import End, job_over, silent_too_long, too_late
from hpcbridge.watcher import Watch

log = logging.getLogger(__name__)

RETRY = 2.0
"""Seconds before a second attempt at something that has to succeed some day."""
RETRY_LIMIT = 60.0
AWAY_LIMIT = 5.0
"""The most seconds between two attempts to write to a store that is away."""


class Life(Presence):
    """One session in this service's hands; :meth:`run` or :meth:`follow` is its task."""

    def __init__(
        self,
        row: SessionRow,
        means: Means,
        cluster: Cluster,
        application: ApplicationSettings | None,
        *,
        address: str | None = None,
    ) -> None:
        super().__init__(row, means, cluster, application, address=address)
        self._submission = Submission(row, means, cluster)
        # What the store did not take when the session ended.
        self._unwritten: dict[str, Any] = {}
        # What other replicas know of it that is no step.
        self._told: dict[str, Any] = {}

    async def run(self) -> None:
        """Drive the session from where its row says it is to its end, and clean up after it."""
        pause = RETRY
        while True:
            self.let_go()  # of what an attempt before this watched
            self._submission = Submission(self.row, self._means, self._cluster)
            self._told = self._to_tell()
            try:
                if self.row.state != State.ENDED:
                    await self._live()
                else:  # another replica's doing, or we were cut off then
                    await self._over()
                return await self._clean_up()
            except LeadershipLost:
                log.info("session %s: another replica drives it now", self.row.job_name)
                await asyncio.Event().wait()  # until this replica sees that, too
            except Exception:
                log.exception("session %s: its task failed and begins again", self.row.job_name)
            await self._fail(pause)
            pause = min(pause * 2, RETRY_LIMIT)

    async def _fail(self, pause: float) -> None:
        """Tell who waits that there is a fault of ours; and go on, for nobody else will."""
        if self.row.state != State.ENDED:
            self.error = BridgeError("Internal error; the service's log has details.")
            self.settled.set()
        await asyncio.sleep(pause)

    # -- from the launch to the end

    async def _live(self) -> None:
        self.error = None  # that of an attempt before this
        if not self._ready:
            self.settled.clear()
        while True:
            try:
                await self._go_on()
            except End as reached:
                end = reached
            except BridgeError as error:
                before = self.row.state == State.SUBMITTING
                end = End(EndReason.REJECTED if before else EndReason.FAILED, error)
            if await self._end(end):
                return
            self.let_go()  # and begin again from where the row says it is

    async def _go_on(self) -> None:
        """Take step after step until there is a reason to end, which is raised."""
        application = self._configured()
        self._check_stop()
        if self.row.state == State.SUBMITTING:
            await self._submit(application)
        await self._until_ready(application)
        while True:
            await self._check()
            self._check_limits()
            await self._wait(self._next_look(application))

    def _configured(self) -> ApplicationSettings:
        if self._application is None:
            gone = f"The application '{self.row.application}' is no longer configured."
            raise End(EndReason.STOPPED, SessionFailed(gone))
        return self._application

    async def _submit(self, application: ApplicationSettings) -> None:
        """submitting -> queued."""
        job_id = None
        while job_id is None:
            if self._submission.asked:  # an earlier service was cut off here, or we were
                job_id = await self._look_up(application)
                continue
            try:
                job_id = await self._submission.submit(application)
            except (OutcomeUnknown, UnexpectedReply) as lost:
                if not self._submission.asked:
                    raise
                log.warning("session %s: %s", self.row.job_name, lost)
            except StoreError as error:
                log.warning("session %s: %s", self.row.job_name, error)
                if time.monotonic() > self._deadline(application):
                    raise
                await self._wait(time.monotonic() + RETRY)
                self._check_stop()
        await self._step(State.QUEUED, "Waiting in the queue.", job_id=job_id)

    async def _look_up(self, application: ApplicationSettings) -> str | None:
        """The id of a job whose submission has an unknown outcome; None to submit another."""
        deadline = self._deadline(application)
        while True:
            job_id, sure = await self._submission.find()
            if job_id:
                return job_id
            self._check_stop()
            if sure and self._submission.exhausted:
                told = SessionFailed("The cluster did not take the job. Launch again.")
                raise End(EndReason.REJECTED, told)
            if time.monotonic() > deadline:
                raise silent_too_long(application)
            if sure:
                log.warning("session %s: its job did not arrive", self.row.job_name)
                await self._written(self._submission.begin_anew)
                return None
            await self._wait(min(deadline, time.monotonic() + RETRY))

    def _deadline(self, application: ApplicationSettings) -> float:
        """When the launch has taken too long, in monotonic seconds."""
        return self._ages.since(self.row.submitting_at or time.time()) + application.wait

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
                while not self._ready:
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
        row, watch = self.row, self.watch
        if watch is None or (job := watch.job) is None:
            return False
        if row.state == State.QUEUED:
            if job.state == JobState.RUNNING and job.host:
                message = f"Running on {job.host}; the application is starting."
                await self._step(State.STARTING, message, host=job.host)
                self._cluster.tunnels.warm(job.host)
                return True
            if watch.hopeless:
                raise End(EndReason.REJECTED, JobRejected(endings.hopeless(watch.hopeless)))
            row.message = waiting.told(job, self.outlook)
            return False
        if not following.ready.is_set() or following.port is None or row.host is None:
            return False
        host, port = row.host, following.port
        try:
            await self._written(lambda: self._unless_over(self.door.open(host, port)))
        except ClusterUnreachable as error:
            if error.lasting:
                raise
            log.warning("session %s: %s", row.job_name, error)
            row.message = f"The application is ready, but its node is not reached yet: {error}"
            asyncio.get_running_loop().call_later(RETRY, self._moved.set)
            return False
        await self._step(State.READY, "Ready.", port=following.port)
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

    @property
    def _ready(self) -> bool:
        return self.row.state == State.READY

    async def _reopen(self) -> None:
        """Open a ready session's tunnel again, on the same local end, however long it takes."""
        row, pause = self.row, RETRY
        if row.host is None or row.port is None:
            broken = SessionFailed("The record of this session is not complete.")
            raise End(EndReason.FAILED, broken)
        while True:
            await self._check()
            try:
                await self.door.reopen(row.host, row.port)
            except BridgeError as error:
                log.warning("session %s: %s", row.job_name, error)
            else:
                return
            await self._wait(time.monotonic() + pause)
            pause = min(pause * 2, RETRY_LIMIT)

    def _watch_job(self) -> Watch:
        row, grace = self.row, self._cluster.settings.grace
        self.watch = self._cluster.watcher.watch(
            row.job_id or "", row.attempt_name, grace, self._moved.set, row.account
        )
        return self.watch

    async def _wait(self, deadline: float | None) -> None:
        """Sleep until something moved, or until ``deadline`` (monotonic seconds)."""
        await self._tell()
        unwanted = None if self.stopping else self.interest.until
        limits = [each for each in (deadline, unwanted) if each is not None]
        left = max(0.0, min(limits) - time.monotonic()) if limits else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left):
                await self._moved.wait()
        self._moved.clear()
        self.news.ring()

    async def _tell(self) -> None:
        """Let other replicas know what is no step, and is remembered for nobody else."""
        told = self._to_tell()
        if self._means.store.shared and told != self._told and self.row.state != State.ENDED:
            with contextlib.suppress(StoreError):  # said again when it changes again
                await self._means.store.update(self.row, **told)
                self._told = told

    def _to_tell(self) -> dict[str, Any]:
        known = dataclasses.asdict(self.outlook) if self.outlook != Outlook() else None
        message, unknown_since = self.row.message, self.unknown_since
        return {"message": message, "unknown_since": unknown_since, "outlook": known}

    async def _step(self, state: State, message: str, **changes: Any) -> None:
        """Write a transition down. Every one of them is written here or in :meth:`_end`."""
        known = {"message": message, "outlook": None}
        now = time.time()
        self._ages.since(now)
        changes |= {f"{state}_at": now, "state": state, **known}
        await self._written(lambda: self._means.store.update(self.row, **changes))
        self._told |= known
        log.info("session %s: %s", self.row.job_name, state)
        self.news.ring()

    async def _written(self, write: Callable[[], Awaitable[object]]) -> None:
        """Write, as soon as the store can be written; the session may end meanwhile."""
        pause = RETRY
        while True:
            try:
                await write()
            except StoreError as error:
                log.warning("session %s: %s", self.row.job_name, error)
            else:
                return
            await self._wait(time.monotonic() + pause)
            await self._check()
            pause = min(pause * 2, AWAY_LIMIT)

    # -- reasons to end

    async def _check(self) -> None:
        """Raise when the session is to end, or when there is proof that its job has."""
        self._check_stop()
        if self.watch is not None and self.watch.ended and self.watch.job is not None:
            raise job_over(self.row, self.watch.job, await self._tail())

    def _check_stop(self) -> None:
        if self._stopping:
            raise End(EndReason.STOPPED, SessionFailed("The session was stopped."))
        if self.interest.over:
            raise End(EndReason.IDLE, SessionFailed("Nobody waited for the session any more."))

    def _check_limits(self) -> None:
        for limit in self.limits:
            if limit.over:
                raise End(limit.reason, SessionFailed(limit.message))

    def _next_look(self, application: ApplicationSettings) -> float | None:
        # While somebody is connected there is no idle limit, but there will be one.
        coming = time.monotonic() + LOOK if application.idle is not None else None
        known = next_look(self.limits)
        return min((each for each in (coming, known) if each is not None), default=None)

    async def _tail(self) -> str:
        """The end of the application's output, without the secret should it have printed it."""
        tail = await self._cluster.follower.tail(self.row.directory)
        return tail.replace(self.row.secret, "********") if self.row.secret else tail

    async def _too_late(self, application: ApplicationSettings) -> End:
        silent = self.unknown_since is not None
        started = self.row.state == State.STARTING and not silent
        tail = await self._tail() if started else ""
        return too_late(self.row, application, tail, silent=silent)

    # -- the end

    async def _end(self, end: End) -> bool:
        """any state -> ended. Whoever waits is told; the job is cleaned up afterwards.

        False where nobody seemed to want it any more, and a client of another replica does.
        """
        row = self.row
        changes: dict[str, Any] = {"state": State.ENDED, "reason": end.reason, "message": str(end)}
        changes |= {"secret": None, "ended_at": time.time(), **end.facts}
        if not await self._write_end(changes, as_seen=end.reason == EndReason.IDLE):
            return False
        log.info("session %s: ended, %s", row.job_name, end.reason)
        await self._over(end.told)
        return True

    async def _write_end(self, changes: dict[str, Any], *, as_seen: bool) -> bool:
        """Write the end down, now or, where nobody else can take the session over, later."""
        store = self._means.store
        while True:
            try:
                if await store.update(self.row, as_seen=as_seen, **changes):
                    return True
                if row := await store.get(self.row.id):
                    self.seen(row, driven=True)
            except StoreError as error:
                log.warning("session %s: %s", self.row.job_name, error)
            else:
                return False
            if not store.shared:
                self._unwritten = changes
                for key, value in changes.items():
                    setattr(self.row, key, value)
                return True
            await asyncio.sleep(RETRY)

    async def _clean_up(self) -> None:
        """Leave nothing on the cluster, however long the cluster cannot be asked."""
        pause = RETRY
        while True:
            try:
                await self._end_job()
                await self._submission.remove()
                await self._means.routes.remove(self.row.id)  # if that failed at the end
                await self._means.store.drop_doors(self.row.id)
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
            if watch.ours:  # never another job that has got the id
                await cluster.scheduler.cancel([row.job_id])
            cluster.watcher.stir()
            await self._wait(time.monotonic() + RETRY)
        cluster.watcher.drop(watch)
