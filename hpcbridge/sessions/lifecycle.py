"""The life of one session, driven by one task.

::

    submitting -> queued -> starting -> ready -> ended
         \\___________\\__________\\_________\\____/

The task sleeps until something about the session moved (the watcher, the log follower, a stop, the
deadline), and then takes the step that follows.

Where several replicas share the store, one drives the session, and the others follow: see
:mod:`hpcbridge.sessions.following`.
"""

import asyncio
import logging
import time

from hpcbridge.clusters.watcher import Watch
from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.errors import BridgeError, LeadershipLost, SessionFailed
from hpcbridge.sessions.applicationend import ApplicationEnd
from hpcbridge.sessions.expiry import CHECK_INTERVAL, next_check
from hpcbridge.sessions.progress import Progress
from hpcbridge.sessions.relaunch import Relaunch
from hpcbridge.sessions.session import Session
from hpcbridge.sessions.startup import Startup
from hpcbridge.sessions.submission import Submission
from hpcbridge.sessions.teardown import Teardown
from hpcbridge.sessions.termination import Termination
from hpcbridge.states import EndReason, State

log = logging.getLogger(__name__)


async def drive(session: Session) -> None:
    """Drive a session from where its row says it is to its end, and clean up after it."""
    timing = session.context.timing
    pause = timing.retry
    while True:
        session.let_go()  # of what an attempt before this watched
        try:
            return await _Lifecycle(session).run()
        except LeadershipLost:
            log.info("session %s: another replica drives it now", session.row.job_name)
            await asyncio.Event().wait()  # until this replica sees that, too
        except Exception:
            log.exception("session %s: its task failed and begins again", session.row.job_name)
        # Whoever waits is told that there is a fault of ours; and it goes on, for nobody else will.
        if session.row.state != State.ENDED:
            session.error = BridgeError("Internal error; the service's log has details.")
            session.settled.set()
        await asyncio.sleep(pause)
        pause = min(pause * 2, timing.retry_limit)


class _Lifecycle:
    """One attempt to drive a session to its end."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._progress = Progress(session)
        self._submission = Submission(session.row, session.context, session.cluster)
        self._teardown = Teardown(self._progress, self._submission)

    async def run(self) -> None:
        if self._session.row.state != State.ENDED:
            await self._live()
        else:  # another replica's doing, or we were cut off then
            await self._session.over()
        await self._teardown.clean_up()

    async def _live(self) -> None:
        session = self._session
        session.error = None  # that of an attempt before this
        if session.row.state != State.READY:
            session.settled.clear()
        while True:
            try:
                await self._go_on()
            except Termination as reached:
                end = reached
            except BridgeError as error:
                before = session.row.state == State.SUBMITTING
                end = Termination(EndReason.REJECTED if before else EndReason.FAILED, error)
            except Relaunch:
                session.let_go()
                continue
            if await self._teardown.end(end):
                return
            session.let_go()  # and begin again from where the row says it is

    async def _go_on(self) -> None:
        """Take step after step until there is a reason to end, which is raised."""
        application = self._configured()
        self._progress.check_stop()
        startup = Startup(self._progress, self._submission, application)
        if self._session.row.state == State.SUBMITTING:
            await startup.submit()
        watch = self._progress.watch_job()
        while True:
            await startup.until_ready(watch)
            await self._while_ready(startup, watch, application)
            await startup.go_back(watch)

    async def _while_ready(
        self, startup: Startup, watch: Watch, application: ApplicationSettings
    ) -> None:
        """Until the job is no longer the running one."""
        session, over = self._session, ApplicationEnd(self._progress)
        follower = session.cluster.follower
        row = session.row
        following = follower.follow_end(row.directory, session.moved.set, row.port)
        try:
            while not startup.went_back(watch, following):
                await self._progress.check()
                await over.check(following, watch)
                self._check_expiry()
                await self._progress.wait(self._next_check(application))
        finally:
            follower.drop(following)

    def _configured(self) -> ApplicationSettings:
        if self._session.application is None:
            gone = f"The application '{self._session.row.application}' is no longer configured."
            raise Termination(EndReason.STOPPED, SessionFailed(gone))
        return self._session.application

    def _check_expiry(self) -> None:
        for expiry in self._session.expiries:
            if expiry.over:
                raise Termination(expiry.reason, SessionFailed(expiry.message))

    def _next_check(self, application: ApplicationSettings) -> float | None:
        # While somebody is connected it does not become idle, but it will.
        coming = time.monotonic() + CHECK_INTERVAL if application.idle is not None else None
        known = next_check(self._session.expiries)
        return min((each for each in (coming, known) if each is not None), default=None)
