"""All sessions of this service: what the API asks for, and what a restart takes up again."""

import asyncio
import hashlib
import json
import logging
import secrets
import time
from collections.abc import Mapping
from typing import Any

from hpcbridge.clusters import Cluster
from hpcbridge.config import ApplicationSettings, Settings
from hpcbridge.errors import (
    KeyReused,
    NoCapacity,
    SessionFailed,
    SessionNotFound,
    StillStarting,
    StoreError,
    UnknownApplication,
)
from hpcbridge.fields import Primitive
from hpcbridge.installation import job_name, mark
from hpcbridge.life import Life
from hpcbridge.means import Means
from hpcbridge.parameters import check_parameters
from hpcbridge.store import SessionRow, State

log = logging.getLogger(__name__)

PRUNE_BEAT = 3600.0
"""Seconds between two looks for sessions that ended long ago."""
END_LIMIT = 30.0
"""Seconds that ending all sessions may take when the service stops."""

_LEAVING = "The service is stopping. Launch again when it is back."


class Sessions:
    """The sessions that live, and the door to the store for those that have ended."""

    def __init__(self, settings: Settings, means: Means, clusters: Mapping[str, Cluster]) -> None:
        self._settings = settings
        self._mark = mark(settings)
        self._means = means
        self._clusters = clusters
        self._lives: dict[str, Life] = {}
        self._pruning: asyncio.Task[None] | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._leaving = asyncio.Event()
        self._launching = asyncio.Lock()

    async def launch(
        self,
        application: str,
        posted: Mapping[str, Any],
        *,
        client: str = "",
        key: str | None = None,
    ) -> Life:
        """Write the intent down and begin; returns before the job is submitted.

        A request that is repeated joins the session that it began: with an Idempotency-Key ``key``
        always, without one where the same ``client`` asks again for what it waited for and left.

        Raises :class:`~hpcbridge.errors.RequestError` for what the client got wrong,
        :class:`~hpcbridge.errors.NoCapacity` when the limit of sessions is reached, and
        :class:`~hpcbridge.errors.StoreError` when the intent cannot be written.
        """
        wanted = self._settings.applications.get(application)
        if wanted is None:
            names = ", ".join(self._settings.applications)
            raise UnknownApplication(
                f"There is no application '{application[:64]}'. Applications: {names}."
            )
        parameters = check_parameters(wanted.parameters, posted)
        request = _digest(client if key is None else "", application, parameters)
        async with self._launching:
            if self._leaving.is_set():
                raise NoCapacity(_LEAVING)
            if life := await self._joined(request, key):
                return life
            return await self._begin(application, wanted, parameters, request, key)

    async def _joined(self, request: str, key: str | None) -> Life | None:
        """The session that this request began before, if it still can be had."""
        if key is not None:
            row = await self._means.store.by_key(_digest(key))
            if row is None:
                return None
            if row.request != request:
                raise KeyReused(
                    "This Idempotency-Key was used for another request. Make a new one."
                )
            if life := self._lives.get(row.id):
                return life
            raise SessionFailed(f"The session of this Idempotency-Key has ended: {row.message}")
        for life in self._lives.values():
            if life.row.request == request and not life.stopping and life.interest.join():
                return life
        return None

    async def _begin(
        self,
        application: str,
        wanted: ApplicationSettings,
        parameters: dict[str, Primitive],
        request: str,
        key: str | None,
    ) -> Life:
        running = sum(not life.stopping for life in self._lives.values())
        if running >= self._settings.limits.sessions:
            raise NoCapacity(
                f"All {running} sessions that this service allows are taken. "
                "Try again when one has ended."
            )
        alike = sum(
            life.row.application == application and not life.stopping
            for life in self._lives.values()
        )
        if wanted.sessions is not None and alike >= wanted.sessions:
            raise NoCapacity(
                f"All {alike} sessions that are allowed of '{application}' are taken. "
                "Try again when one has ended."
            )
        session_id = secrets.token_hex(20)  # lower case: some clients lower the whole sessionURL
        row = SessionRow(
            id=session_id,
            secret=secrets.token_hex(24),  # no "-" at its beginning: it becomes an argument
            application=application,
            cluster=wanted.cluster,
            parameters=parameters,
            job_name=job_name(session_id, self._mark),
            message=f"Submitting the job to {wanted.cluster}.",
            request=request,
            idempotency_key=_digest(key) if key is not None else None,
            submitting_at=time.time(),
        )
        life = self._take(row, new=True)
        try:
            await self._means.store.add(row)
        except BaseException:
            del self._lives[session_id]
            raise
        self._drive(life)
        return life

    async def ready(self, life: Life) -> str:
        """Wait until the session is ready, and claim it for the caller; returns its secret.

        Raises what ended it, and :class:`~hpcbridge.errors.StillStarting` after the application's
        ``hold`` seconds.
        """
        application = self._settings.applications[life.row.application]
        waits = [asyncio.create_task(each.wait()) for each in (life.settled, self._leaving)]
        with life.interest.waiting():
            try:
                await asyncio.wait(
                    waits, return_when=asyncio.FIRST_COMPLETED, timeout=application.hold
                )
            finally:
                for each in waits:
                    each.cancel()
            if life.settled.is_set() and life.row.state == State.READY and life.row.secret:
                secret = life.row.secret
                await life.claim()
                return secret
        if self._leaving.is_set():
            raise NoCapacity(_LEAVING)
        if life.settled.is_set():
            raise life.error or SessionFailed(life.row.message)
        raise StillStarting(
            f"The session is not ready yet: {life.row.message} Ask again for the same.",
            session_id=life.row.id,
            state=life.row.state,
            reason=life.row.message,
        )

    async def get(self, session_id: str) -> SessionRow:
        """A session, live or ended. Raises :class:`~hpcbridge.errors.SessionNotFound`."""
        life = self._lives.get(session_id)
        if life is not None:
            life.interest.touch()
        row = life.row if life else await self._means.store.get(session_id)
        if row is None:
            raise SessionNotFound("There is no such session.")
        return row

    def life(self, session_id: str) -> Life | None:
        """A session in this service's hands; None where it is over or unknown."""
        return self._lives.get(session_id)

    async def stop(self, session_id: str) -> SessionRow:
        """Begin to end a session; when this returns, no crash can make it forgotten.

        Raises :class:`~hpcbridge.errors.SessionNotFound` and
        :class:`~hpcbridge.errors.StoreError`; the session then ends all the same, if it can.
        """
        life = self._lives.get(session_id)
        if life is None or life.stopping:
            raise SessionNotFound("There is no such session, or it has ended.")
        try:
            await self._means.store.update(life.row, stopped=True)
        finally:
            life.stop()
        return life.row

    async def start(self) -> None:
        """Take up what an earlier service left: live sessions, and jobs that are still to end."""
        self._pruning = asyncio.create_task(self._prune(), name="forget old sessions")
        for row in await self._means.store.unfinished():
            if row.cluster in self._clusters:
                self._drive(self._take(row))
            else:
                log.warning("session %s: no cluster '%s' any more", row.job_name, row.cluster)

    async def _prune(self) -> None:
        while True:
            try:
                await self._means.store.prune(self._settings.store.keep_ended)
            except StoreError as error:
                log.warning("old sessions cannot be forgotten: %s", error)
            await asyncio.sleep(PRUNE_BEAT)

    @property
    def leaving(self) -> bool:
        """Whether the service is stopping."""
        return self._leaving.is_set()

    def leave(self) -> None:
        """The service begins to stop: whoever waits for a session is told now."""
        self._leaving.set()

    async def close(self, *, end_sessions: bool = False) -> None:
        """Let go of all sessions: their jobs go on, unless they are to be ended as well."""
        self.leave()
        async with self._launching:  # whoever is in there begins a session before it is closed
            tasks, lives = list(self._tasks.values()), list(self._lives.values())
        if end_sessions and tasks:
            for life in lives:
                life.stop()
            await asyncio.wait(tasks, timeout=END_LIMIT)
        if self._pruning is not None:
            tasks.append(self._pruning)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(life.release() for life in lives))

    def _take(self, row: SessionRow, *, new: bool = False) -> Life:
        application = self._settings.applications.get(row.application)
        life = Life(row, self._means, self._clusters[row.cluster], application, new=new)
        self._lives[row.id] = life
        return life

    def _drive(self, life: Life) -> None:
        task = asyncio.create_task(life.run(), name=f"session {life.row.job_name}")
        self._tasks[life.row.id] = task
        task.add_done_callback(lambda _: self._forget(life.row.id))

    def _forget(self, session_id: str) -> None:
        self._tasks.pop(session_id, None)
        self._lives.pop(session_id, None)


def _digest(*parts: Any) -> str:
    """Tells whether two things are the same without telling what they are."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
