"""What one service has of a session: its row, its door here, and the clients that want it here.

Where several replicas share the store, each has this of every session. It stays as it is when
another of them begins to drive the session: tunnels, routes and waiting clients go on.
"""

import asyncio
import logging
import math

from hpcbridge.ages import Ages
from hpcbridge.applicationsettings import ApplicationSettings
from hpcbridge.clusters import Cluster
from hpcbridge.door import Door
from hpcbridge.errors import BridgeError, NotReadyInTime, SessionFailed
from hpcbridge.events import Bell
from hpcbridge.interest import Interest
from hpcbridge.limits import Limit, limits_of
from hpcbridge.means import Means
from hpcbridge.schedulers.base import EndReason, Outlook
from hpcbridge.store import STALE, SessionRow, State, Visitors
from hpcbridge.watcher import Watch

log = logging.getLogger(__name__)

HELD = STALE
"""Seconds for which a client of another replica is believed to be there."""
REOPEN = 2.0
"""Seconds before a second attempt to open a tunnel; each further one takes twice as long."""
REOPEN_LIMIT = 60.0

_CLIENTS = ("claimed", "stopped", "forsaken", "wanted_at", "version")
_HANDED_OVER = ("user", "taken_at", "request", "idempotency_key", "secret")
"""Columns that any replica writes."""


class Presence:
    """What a service has of a session, whether it drives it or follows.

    ``application`` None means that it is no longer configured: the session is then ended.
    ``address`` is the local end that its tunnel had here before.
    """

    def __init__(
        self,
        row: SessionRow,
        means: Means,
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
        self._means = means
        self._cluster = cluster
        self._application = application
        self._ages = Ages(row.submitting_at, row.starting_at, row.ready_at, row.taken_at)
        self.door = Door(row, means, cluster, address)
        #: Who is connected to it at other replicas, where there may be others.
        self.visitors = Visitors(0, math.inf) if means.store.shared else None
        self._moved = asyncio.Event()
        #: Rings when there may be something new to tell.
        self.news = Bell()
        keep = application.keep if application else 0.0
        self.interest = Interest(claimed=row.claimed, keep=keep, changed=self._moved.set)
        self._stopping = row.stopped
        if row.state in (State.READY, State.ENDED):
            self.settled.set()

    @property
    def stopping(self) -> bool:
        """Whether the session is ending or has ended."""
        return self._stopping or self.row.state == State.ENDED

    @property
    def tunnel_state(self) -> str | None:
        """``open`` or ``reconnecting`` while there is a tunnel."""
        return self.door.state

    @property
    def outlook(self) -> Outlook:
        """What the session may expect while its job waits, as far as that is known.

        Who follows has it from the leader, and so has a new leader until it has asked itself.
        """
        if self.row.state != State.QUEUED:
            return Outlook()
        asked = self.watch.outlook if self.watch else None
        return asked or Outlook(**(self.row.outlook or {}))

    @property
    def limits(self) -> list[Limit]:
        """What will end this ready session, the first one first."""
        if self._application is None or self.row.state != State.READY:
            return []
        known = self._ages, self.door.traffic, self.visitors
        return limits_of(self._application, self.row, *known)

    @property
    def unknown_since(self) -> float | None:
        """Since when its cluster could not be asked, in seconds since the epoch."""
        return self.watch.unknown_since if self.watch else self.row.unknown_since

    async def claim(self) -> None:
        """A client is given the session: from now on it lives until it ends."""
        if self.interest.claimed:
            return
        noting = asyncio.ensure_future(self._means.store.note(self.row, claimed=True))
        try:
            if not await asyncio.shield(noting):
                raise SessionFailed("The session has just ended. Launch again.")
        except asyncio.CancelledError:  # the client has hung up, and does not have it
            if await noting and not self.interest.claimed:
                await self._means.store.note(self.row, claimed=False)
            raise
        self.interest.claimed = True

    def seen(self, row: SessionRow, *, driven: bool) -> None:
        """The row as it is in the database; ``driven`` says that this replica leads.

        A leader knows it better, but for what clients did at other replicas.
        """
        if row.version < self.row.version:
            return  # read before our own last change
        wanted_at = self.row.wanted_at
        known = (*_CLIENTS, *(_HANDED_OVER if self.row.pool else ()))
        for name in known if driven else SessionRow.model_fields:
            setattr(self.row, name, getattr(row, name))
        self.interest.claimed = row.claimed
        if row.wanted_at != wanted_at or row.forsaken:
            self.interest.elsewhere(0 if row.forsaken else HELD)
        self._stopping = self._stopping or row.stopped
        self._moved.set()
        self.news.ring()

    def stop(self) -> None:
        """Begin to end it."""
        self._stopping = True
        self._moved.set()

    async def follow(self) -> None:
        """Have a tunnel and a route here while another replica drives the session to its end."""
        row, pause = self.row, REOPEN
        while row.state != State.ENDED:
            if row.state == State.READY and row.host and row.port:
                try:
                    await self.door.reopen(row.host, row.port)
                except Exception as error:
                    fault = None if isinstance(error, BridgeError) else error
                    log.warning("session %s: %s", row.job_name, error, exc_info=fault)
                    asyncio.get_running_loop().call_later(pause, self._moved.set)
                    pause = min(pause * 2, REOPEN_LIMIT)
                else:
                    self.settled.set()
            elif row.state == State.STARTING and row.host:
                self._cluster.tunnels.warm(row.host)
            await self._moved.wait()
            self._moved.clear()
        await self._over()
        while not await self.door.close():
            await asyncio.sleep(pause)
            pause = min(pause * 2, REOPEN_LIMIT)

    async def _over(self, told: BridgeError | None = None) -> None:
        """It has ended: close the door, and tell whoever waits for it."""
        await self.door.close()
        late = self.row.reason == EndReason.NEVER_READY
        message = self.row.message
        self.error = told or (NotReadyInTime(message) if late else SessionFailed(message))
        self.settled.set()
        self.news.ring()

    def let_go(self) -> None:
        """Another replica drives the session from now on."""
        if self.watch is not None:
            self._cluster.watcher.drop(self.watch)
            self.watch = None

    async def release(self) -> None:
        """Close the tunnel's local end; for a service that stops while the job goes on."""
        await self.door.release()
