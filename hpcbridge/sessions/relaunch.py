"""A launch that begins again because another process has got the port of its application."""

import logging
import time
from typing import NoReturn

from hpcbridge.clusters.watcher import Watch
from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.errors import ClusterError, SessionFailed
from hpcbridge.sessions import messages
from hpcbridge.sessions.progress import Progress
from hpcbridge.sessions.submission import Submission
from hpcbridge.sessions.termination import Termination, silent_too_long
from hpcbridge.states import EndReason, State

log = logging.getLogger(__name__)


class Relaunch(Exception):
    """The session begins again from where its row says it is."""


async def on_another_port(
    progress: Progress,
    submission: Submission,
    application: ApplicationSettings,
    watch: Watch,
    port: int | None,
) -> NoReturn:
    """End the job, with proof, and have the launch begin again; the next job picks another port.

    Always raises: :class:`Relaunch`, or :class:`~hpcbridge.sessions.termination.Termination` when
    there have been enough attempts, the cluster does not answer in time, or a client wants the
    session's end meanwhile. Whoever listens on the port has got nothing: no connection was made,
    and the secret was not sent.
    """
    session = progress.session
    row, watcher = session.row, session.cluster.watcher
    told = messages.port_taken(row.host or "its node", port)
    if submission.exhausted:
        raise Termination(EndReason.FAILED, SessionFailed(f"{told} Launch again."))
    log.warning("session %s: %s It is launched again.", row.job_name, told)
    row.message = f"{told} It is launched again on another port."
    watch.hurry()
    while not watch.ended:
        progress.check_stop()
        if time.monotonic() > session.deadline(application):
            raise silent_too_long(application, watcher.trouble)
        if watch.ours:
            try:
                await session.cluster.scheduler.cancel({watch.job_id: watch.name})
            except ClusterError as error:
                log.warning("session %s: %s", row.job_name, error)
        watcher.wake()
        await progress.pause()
    session.let_go()  # of the job that is over: no reason to end the session
    await progress.written(
        lambda: submission.begin_anew(
            state=State.SUBMITTING, job_id=None, host=None, port=None, message=row.message
        )
    )
    session.context.census.put(row)
    raise Relaunch
