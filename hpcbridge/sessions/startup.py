"""From the launch of a session to the moment when it is ready."""

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any

from hpcbridge.clusters.readiness import Following
from hpcbridge.clusters.watcher import Watch
from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.errors import (
    BridgeError,
    ClusterUnreachable,
    JobRejected,
    NotServing,
    OutcomeUnknown,
    SessionFailed,
    StoreError,
    UnexpectedReply,
)
from hpcbridge.schedulers.base import JobInfo, JobState, Outlook
from hpcbridge.sessions import messages
from hpcbridge.sessions.applicationend import ApplicationEnd
from hpcbridge.sessions.jobrun import JobRun
from hpcbridge.sessions.progress import Progress
from hpcbridge.sessions.relaunch import on_another_port
from hpcbridge.sessions.submission import Submission
from hpcbridge.sessions.termination import Termination, silent_too_long, too_late
from hpcbridge.states import EndReason, State
from hpcbridge.tunnels import Probe

log = logging.getLogger(__name__)


class _Gone(Exception):
    """The application is over, or another process has its port, while it is connected to."""


class Startup:
    """submitting -> queued -> starting -> ready.

    Every method raises :class:`~hpcbridge.sessions.termination.Termination` when the session is to
    end, and :class:`~hpcbridge.errors.BridgeError` for what ends it.
    """

    def __init__(
        self, progress: Progress, submission: Submission, application: ApplicationSettings
    ) -> None:
        self._progress = progress
        self._submission = submission
        self._application = application
        self._session = progress.session
        self._row = progress.session.row
        self._cluster = progress.session.cluster
        self._timing = progress.session.context.timing
        self._run = JobRun(self._row)
        # What kept the application from being reached, at last.
        self._hindrance = ""
        # The run that was tried for as long as the launch may take.
        self._tried: Following | None = None

    async def submit(self) -> None:
        """submitting -> queued."""
        job_id = None
        while job_id is None:
            if self._submission.asked:  # an earlier service was cut off here, or we were
                job_id = await self._look_up()
                continue
            try:
                job_id = await self._submission.submit(self._application)
            except (OutcomeUnknown, UnexpectedReply) as lost:
                if not self._submission.asked:
                    raise
                log.warning("session %s: %s", self._row.job_name, lost)
            except StoreError as error:
                log.warning("session %s: %s", self._row.job_name, error)
                if time.monotonic() > self._deadline:
                    raise
                await self._progress.pause()
                self._progress.check_stop()
        await self._progress.step(State.QUEUED, "Waiting in the queue.", job_id=job_id)

    async def _look_up(self) -> str | None:
        """The id of a job whose submission has an unknown outcome; None to submit another."""
        deadline = self._deadline
        while True:
            job_id, sure = await self._submission.find()
            if job_id:
                return job_id
            self._progress.check_stop()
            if sure and self._submission.exhausted:
                error = SessionFailed("The cluster did not take the job. Launch again.")
                raise Termination(EndReason.REJECTED, error)
            if time.monotonic() > deadline:
                raise silent_too_long(self._application, self._submission.trouble)
            if sure:
                log.warning("session %s: its job did not arrive", self._row.job_name)
                await self._progress.written(self._submission.begin_anew)
                return None
            await self._progress.wait(min(deadline, time.monotonic() + self._timing.retry))

    @property
    def _deadline(self) -> float:
        return self._session.deadline(self._application)

    async def until_ready(self, watch: Watch) -> None:
        """queued -> starting -> ready; a job that goes back takes its session along."""
        if self._ready:  # taken up again after a restart
            await self._reopen(watch)
        while not self._ready:
            await self._through_a_run(watch)
        watch.quiet = True
        self._session.settled.set()

    async def _through_a_run(self, watch: Watch) -> None:
        """Until the session is ready, or its job has gone back to the queue."""
        following = self._cluster.follower.follow(
            self._row.directory,
            self._application.ready_lines,
            self._session.moved.set,
            self._run.former,
        )
        deadline, over = self._deadline, ApplicationEnd(self._progress)
        try:
            while not self._ready:
                if await self._taken(following, watch):
                    await on_another_port(
                        self._progress, self._submission, self._application, watch, following.port
                    )
                await self._progress.check()
                if self.went_back(watch, following):
                    return await self.go_back(watch, following.port)
                await over.check(following, watch)
                if not await self._advance(following):
                    if time.monotonic() > deadline:
                        raise await self._too_late(following)
                    await self._progress.wait(deadline)
        finally:
            self._cluster.follower.drop(following)

    async def _taken(self, following: Following, watch: Watch) -> bool:
        """Whether another process has the application's port; also if its job is over for that.

        A short run may be over before any listing had it as running, its session still queued.
        """
        if self._progress.session.stopping:
            return False
        return following.taken or (watch.over and (await self._progress.remains()).taken)

    def went_back(self, watch: Watch, following: Following) -> bool:
        """Whether the session's job is no longer the running one: by the scheduler, or because
        it has told another port, as a job does that ran again while nobody looked."""
        return self._run.went_back(watch) or following.rerun

    async def go_back(self, watch: Watch, port: int | None = None) -> None:
        """ready or starting -> queued: held, suspended, requeued, or already started anew.

        What the job's next run tells counts, and nothing that the one before has told.
        """
        self._session.settled.clear()
        self._run.left(watch, port)
        while not await self._session.endpoint.close():
            await self._progress.pause()
        watch.hurry(ending=False)
        message = "Waiting in the queue: its job is started again."
        await self._progress.step(State.QUEUED, message, host=None, port=None)

    @property
    def _ready(self) -> bool:
        return self._row.state == State.READY

    async def _advance(self, following: Following) -> bool:
        """Take the next step towards ready, if it is time; whether one was taken."""
        watch = self._session.watch
        if watch is None or (job := watch.job) is None:
            return False
        if job.state == JobState.RUNNING:
            self._cluster.follower.runs(following)
        if self._row.state == State.QUEUED:
            if watch.hopeless:
                hopeless = JobRejected(messages.hopeless(watch.hopeless))
                raise Termination(EndReason.REJECTED, hopeless)
            return await self._started(job, watch.outlook)
        if following.over is not None or not following.serving or self._row.host is None:
            return False
        if following is self._tried:
            return False
        return await self._opened(self._row.host, following)

    async def _started(self, job: JobInfo, outlook: Outlook | None) -> bool:
        """queued -> starting, if the job runs; whether it does."""
        if job.state != JobState.RUNNING or not job.host:
            self._session.note_wait(job, outlook)
            return False
        message = f"Running on {job.host}; the application is starting."
        self._run.began(job)
        await self._progress.step(State.STARTING, message, host=job.host)
        self._cluster.tunnels.warm(job.host)
        return True

    async def _opened(self, host: str, following: Following) -> bool:
        """starting -> ready, if the application can be reached; whether it can."""
        port, application = following.port or 0, self._application
        said = bool(application.ready_lines)
        patience = None if said else max(0.0, self._deadline - time.monotonic())
        probe = Probe(patience, application.ready_path)
        try:
            await self._progress.written(
                lambda: self._unless_over(self._served(host, port, probe, following), following)
            )
        except _Gone:
            return True  # to be looked at anew
        except NotServing as error:
            if said:
                raise
            self._hindrance, self._tried = str(error), following
            return False
        except ClusterUnreachable as error:
            told = messages.not_reached(str(error))
            if error.lasting:
                raise ClusterUnreachable(told, lasting=True) from error
            log.warning("session %s: %s", self._row.job_name, error)
            self._hindrance = told
            self._row.message = (
                f"The application is ready, but its node is not reached yet: {error}"
            )
            moved = self._session.moved.set
            asyncio.get_running_loop().call_later(self._timing.retry, moved)
            return False
        if following.wide:
            log.warning("session %s: %s", self._row.job_name, messages.WIDE)
        message = messages.WIDE if following.wide else "Ready."
        await self._progress.step(State.READY, message, port=port)
        return True

    async def _served(self, host: str, port: int, probe: Probe, following: Following) -> None:
        """Reach the application, and see that it was the job's own that answered.

        Where readiness is not a line, the port may answer before its job has told that it will
        tell who listens: what it has told since is asked for.
        """
        endpoint = self._session.endpoint
        await endpoint.open(host, port, probe)
        if following.listening is None:
            await self._cluster.follower.look(following)
            if not following.serving:
                await endpoint.close()
                raise _Gone

    async def _unless_over(self, opening: Coroutine[Any, Any, None], following: Following) -> None:
        """Open the tunnel; given up as soon as the session is to end, its job is over, or the
        application is."""
        task = asyncio.ensure_future(opening)
        task.add_done_callback(lambda _: self._session.moved.set())
        try:
            while not task.done():
                await self._progress.check()
                if following.over is not None or following.taken:
                    raise _Gone
                await self._progress.wait(None)
            task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _reopen(self, watch: Watch) -> None:
        """Open a ready session's tunnel again, on the same local end, however long it takes."""
        row, pause = self._row, self._timing.retry
        if row.host is None or row.port is None:
            broken = SessionFailed("The record of this session is not complete.")
            raise Termination(EndReason.FAILED, broken)
        while True:
            await self._progress.check()
            try:
                await self._session.endpoint.reopen(row.host, row.port)
            except BridgeError as error:
                log.warning("session %s: %s", row.job_name, error)
            else:
                return
            await self._progress.wait(time.monotonic() + pause)
            if self._run.went_back(watch):
                return
            pause = min(pause * 2, self._timing.retry_limit)

    async def _too_late(self, following: Following) -> Termination:
        silent = self._session.unknown_since is not None
        started = self._row.state == State.STARTING and not silent
        tail = await self._progress.tail() if started else ""
        cause = self._cluster.watcher.trouble if silent else self._cause(following)
        return too_late(self._row, self._application, tail, silent=silent, cause=cause)

    def _cause(self, following: Following) -> str:
        """Why a session is not ready though its application may be; "" where none is known."""
        if not following.ready.is_set():
            trouble = self._cluster.follower.trouble
            return messages.unread(trouble) if trouble else ""
        if following.port is None:
            return messages.no_port()
        if not following.serving:
            return messages.not_listening(following.port)
        return self._hindrance
