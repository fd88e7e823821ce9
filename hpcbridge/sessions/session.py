"""What one service has of a session: its row, its endpoint here, and the clients that want it here.

Where several replicas share the store, each has this of every session. It stays as it is when
another of them begins to drive the session: tunnels, routes and waiting clients go on.
"""

import asyncio
import dataclasses
import logging
import math
import time
from contextlib import AbstractContextManager
from typing import Any

from hpcbridge.clusters import queuemessage
from hpcbridge.clusters.cluster import Cluster
from hpcbridge.clusters.watcher import Watch
from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.errors import BridgeError, SessionFailed
from hpcbridge.notifier import Notifier
from hpcbridge.schedulers.base import JobInfo, JobState, Outlook
from hpcbridge.sessions.clock import SessionClock
from hpcbridge.sessions.context import SessionContext
from hpcbridge.sessions.endpoint import Endpoint
from hpcbridge.sessions.expiry import Expiry, expiries_of
from hpcbridge.sessions.keepalive import Keepalive
from hpcbridge.sessions.termination import recorded
from hpcbridge.states import State
from hpcbridge.store import STALE, RemoteClients, SessionRow

log = logging.getLogger(__name__)

REMOTE_CLIENT_LIFE = STALE
"""Seconds for which a client of another replica is believed to be there."""

_CLIENTS = ("claimed", "stopped", "forsaken", "wanted_at", "version")
_HANDED_OVER = ("user", "visitor", "taken_at", "request", "idempotency_key", "secret")
"""Columns that any replica writes."""


class Session:
    """What a service has of a session, whether it drives it or follows.

    ``application`` None means that it is no longer configured: the session is then ended.
    ``address`` is the local end that its tunnel had here before.
    """

    def __init__(
        self,
        row: SessionRow,
        context: SessionContext,
        cluster: Cluster,
        application: ApplicationSettings | None,
        *,
        address: str | None = None,
    ) -> None:
        self.row = row
        #: Set when the session is ready or has ended.
        self.settled = asyncio.Event()
        #: What ended it, once it has ended.
        self.error: BridgeError | None = None
        self.watch: Watch | None = None
        self.context = context
        self.cluster = cluster
        self.application = application
        self.clock = SessionClock(row.submitting_at, row.starting_at, row.ready_at, row.taken_at)
        self.endpoint = Endpoint(row, context, cluster, address)
        #: Who is connected to it at other replicas, where there may be others.
        self.remote_clients = RemoteClients(0, math.inf) if context.store.shared else None
        self.moved = asyncio.Event()
        #: Notified when there may be something new to tell.
        self.news = Notifier()
        keep = application.keep if application else 0.0
        self.keepalive = Keepalive(claimed=row.claimed, keep=keep, changed=self.moved.set)
        self.stop_asked = row.stopped
        #: Columns of its end that the store did not take.
        self.unwritten: dict[str, Any] = {}
        if row.state in (State.READY, State.ENDED):
            self.settled.set()
        context.census.put(row)

    @property
    def stopping(self) -> bool:
        """Whether the session is ending or has ended."""
        return self.stop_asked or self.row.state == State.ENDED

    @property
    def tunnel_state(self) -> str | None:
        """``open`` or ``reconnecting`` while there is a tunnel."""
        return self.endpoint.state

    @property
    def outlook(self) -> Outlook:
        """What the session may expect while its job waits, as its ``message`` has it in words.

        Who follows has both from the leader, and so has a new leader until it has asked itself.
        """
        if self.row.state != State.QUEUED:
            return Outlook()
        return Outlook(**(self.row.outlook or {}))

    def note_wait(self, job: JobInfo, outlook: Outlook | None) -> None:
        """Its job is not running yet; ``outlook`` is None while that is not known.

        Both are put down at once: whoever asks gets numbers and words of one moment.
        """
        if outlook is not None or job.state != JobState.QUEUED:
            known = outlook if outlook is not None else Outlook()
            self.row.outlook = dataclasses.asdict(known) if known != Outlook() else None
        self.row.message = queuemessage.message(job, self.outlook)

    @property
    def expiries(self) -> list[Expiry]:
        """What will end this ready session, the first one first."""
        if self.application is None or self.row.state != State.READY:
            return []
        known = self.clock, self.endpoint.traffic, self.remote_clients
        return expiries_of(self.application, self.row, *known)

    def deadline(self, application: ApplicationSettings) -> float:
        """When the launch has taken too long, in monotonic seconds; or, of a session that was
        ready, the wait for it to be so again."""
        row = self.row
        begun, queued = row.submitting_at or time.time(), row.queued_at or 0.0
        if row.ready_at is not None and queued > row.ready_at:
            begun = queued
        return self.clock.since(begun) + application.wait

    @property
    def gives_up_at(self) -> float | None:
        """When the session is given up unless it is ready, in seconds since the epoch."""
        if self.application is None or self.row.state in (State.READY, State.ENDED):
            return None
        return self.clock.epoch(self.deadline(self.application))

    @property
    def unknown_since(self) -> float | None:
        """Since when its cluster could not be asked, in seconds since the epoch."""
        return self.watch.unknown_since if self.watch else self.row.unknown_since

    def client_waits(self) -> AbstractContextManager[None]:
        """A client waits for it, inside the ``with`` block."""
        return self.keepalive.client_waits()

    def wanted_here(self) -> bool:
        """Whether a client of this replica wants it, or has asked since this was last called."""
        return self.keepalive.here()

    async def report(self) -> None:
        """Tell the leader who is connected here, if that has changed."""
        await self.endpoint.report()

    async def claim(self) -> None:
        """A client is given the session: from now on it lives until it ends."""
        if self.keepalive.claimed:
            return
        noting = asyncio.ensure_future(self.context.store.note(self.row, claimed=True))
        try:
            if not await asyncio.shield(noting):
                raise SessionFailed("The session has just ended. Launch again.")
        except asyncio.CancelledError:  # the client has hung up, and does not have it
            if await noting and not self.keepalive.claimed:
                await self.context.store.note(self.row, claimed=False)
            raise
        self.keepalive.claimed = True

    def refresh(self, row: SessionRow, *, driven: bool) -> None:
        """The row as it is in the database; ``driven`` says that this replica leads.

        A leader knows it better, but for what clients did at other replicas.
        """
        if row.version < self.row.version:
            return  # read before our own last change
        wanted_at, secret = self.row.wanted_at, self.row.secret
        known = (*_CLIENTS, *(_HANDED_OVER if self.row.pool else ()))
        for name in known if driven else SessionRow.model_fields:
            setattr(self.row, name, getattr(row, name))
        self.context.census.put(self.row)
        if secret and self.row.secret not in (None, secret):
            self.cut()  # another replica has handed it over
        self.keepalive.claimed = row.claimed
        if row.wanted_at != wanted_at or row.forsaken:
            self.keepalive.elsewhere(0 if row.forsaken else REMOTE_CLIENT_LIFE)
        self.stop_asked = self.stop_asked or row.stopped
        self.moved.set()
        self.news.notify()

    def cut(self) -> None:
        """Drop whoever is connected to it here: it is somebody else's from now on."""
        self.endpoint.cut()

    def stop(self) -> None:
        """Begin to end it."""
        self.stop_asked = True
        self.moved.set()

    async def over(self, error: BridgeError | None = None) -> None:
        """It has ended: close the endpoint, and tell whoever waits for it."""
        await self.endpoint.close()
        self.error = error or recorded(self.row)
        self.settled.set()
        self.news.notify()

    def let_go(self) -> None:
        """Another replica drives the session from now on."""
        if self.watch is not None:
            self.cluster.watcher.drop(self.watch)
            self.watch = None

    async def release(self) -> None:
        """Close the tunnel's local end; for a service that stops while the job goes on."""
        await self.endpoint.release()
