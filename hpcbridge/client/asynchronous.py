"""The same client for asyncio: alike on purpose, call by call, but for ``await``."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any, Self, TypeVar

import httpx
from httpx_sse import EventSource, SSEError

from hpcbridge.client import operations
from hpcbridge.client.connection import STREAM_TIMEOUT, TIMEOUT, connection
from hpcbridge.client.errors import ClientError, LaunchFailed, NotHpcbridge, ServiceBusy
from hpcbridge.client.operations import Operation
from hpcbridge.client.patience import PAUSE, Patience
from hpcbridge.client.replies import Application, Log, Session, SessionPage
from hpcbridge.states import State

T = TypeVar("T")


class AsyncClient:
    """:class:`~hpcbridge.client.synchronous.Client` with methods to be awaited.

    Every method raises :class:`~hpcbridge.client.errors.ClientError`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        token_file: str | Path | None = None,
        socket: str | Path | None = None,
        ca: str | Path | None = None,
        cleartext: bool = False,
        timeout: float = TIMEOUT,
    ) -> None:
        self._to = connection(
            url,
            token=token,
            token_file=token_file,
            socket=socket,
            ca=ca,
            cleartext=cleartext,
            timeout=timeout,
        )
        uds = self._to.socket
        transport = httpx.AsyncHTTPTransport(uds=str(uds)) if uds else None
        self._http = httpx.AsyncClient(transport=transport, **self._to.options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def applications(self) -> list[Application]:
        """What can be launched, and what keeps sessions from its clusters."""
        return await self._do(operations.applications())

    async def sessions(
        self,
        state: str = "live",
        *,
        application: str | None = None,
        cluster: str | None = None,
        owner: str | None = None,
        limit: int | None = None,
        before: str | None = None,
    ) -> SessionPage:
        """One page of the list; ``state`` is ``live``, ``ended`` or ``all``.

        ``before`` is the ``next`` of the page before; ``owner`` is for operators.
        """
        return await self._do(
            operations.sessions(
                state=state,
                application=application,
                cluster=cluster,
                owner=owner,
                limit=limit,
                before=before,
            )
        )

    async def session(self, session_id: str) -> Session:
        """Where a session stands."""
        return await self._do(operations.session(session_id))

    async def stop(self, session_id: str) -> Session:
        """Stop a session and its job; as it was before."""
        return await self._do(operations.stop(session_id))

    async def launch(
        self,
        application: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        cluster: str | None = None,
        wait: bool = True,
        progress: Callable[[Session], None] | None = None,
    ) -> Session:
        """Launch an application and return its session when it is ready, with its secret.

        ``progress`` is called with each change until then. Without ``wait`` it is returned at once.
        A launch whose answer is lost is sent again, and is the same launch.

        Raises :class:`~hpcbridge.client.errors.LaunchFailed` when the session ended instead.
        """
        asked = operations.launch(application, parameters or {}, cluster, token_hex(16))
        begun = await self._insist(asked)
        return await self.ready(begun, progress) if wait else begun

    async def ready(
        self, begun: Session, progress: Callable[[Session], None] | None = None
    ) -> Session:
        """Wait for a session that was launched without ``wait``; the rest as of :meth:`launch`."""
        async with contextlib.aclosing(self.progress(begun.id)) as changes:
            async for now in changes:
                if progress is not None:
                    progress(now)
                if now.state == State.READY:
                    return now.model_copy(update={"secret": begun.secret})
        raise LaunchFailed(await self._insist(operations.session(begun.id)))

    async def progress(self, session_id: str) -> AsyncGenerator[Session, None]:
        """Where a session stands, now and at each change, until it has ended.

        A service that is restarted meanwhile is asked again for a minute.
        """
        patience = Patience()
        while True:
            try:
                async with contextlib.aclosing(
                    self._events(operations.events(session_id))
                ) as events:
                    async for now in events:
                        patience.heard()
                        yield now
                        if now.state == State.ENDED:
                            return
                await asyncio.sleep(PAUSE)
            except ServiceBusy:  # too many listen
                yield (now := await self.session(session_id))
                if now.state == State.ENDED:
                    return
                await asyncio.sleep(PAUSE)
            except ClientError as error:
                await asyncio.sleep(patience.after(error))

    async def changes(self) -> AsyncGenerator[Session, None]:
        """All sessions that one may see: each that lives, then each that changes, its end last.

        A service that is restarted meanwhile is asked again for a minute, and tells all anew. It
        ends only by an error, or where it is closed.
        """
        patience = Patience(busy=True)
        while True:
            try:
                async with contextlib.aclosing(self._events(operations.CHANGES)) as events:
                    async for now in events:
                        patience.heard()
                        yield now
                await asyncio.sleep(PAUSE)
            except ClientError as error:
                await asyncio.sleep(patience.after(error))

    async def log(self, session_id: str, offset: int = 0) -> Log:
        """What the application printed, from a byte on."""
        return await self._do(operations.log(session_id, offset))

    async def log_parts(
        self, session_id: str, offset: int = 0, *, follow: bool = False
    ) -> AsyncGenerator[Log, None]:
        """All that the application has printed; with ``follow`` until nothing will be added."""
        patience = Patience(busy=True)
        while True:
            try:
                part = await self.log(session_id, offset)
            except ClientError as error:
                await asyncio.sleep(patience.after(error))
                continue
            patience.heard()
            offset = part.next
            if part.data:
                yield part
            elif part.ended or not follow:
                return
            else:
                await asyncio.sleep(PAUSE)

    async def _events(self, path: str) -> AsyncGenerator[Session, None]:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        try:
            async with self._http.stream(
                "GET", path, headers=headers, timeout=STREAM_TIMEOUT
            ) as reply:
                if not reply.is_success:
                    await reply.aread()
                if refused := operations.refusal(reply):
                    raise refused
                async for each in EventSource(reply).aiter_sse():
                    yield operations.event(each.data)
        except SSEError as error:
            raise NotHpcbridge(f"{self._to.name} answers no events.") from error
        except httpx.HTTPError as error:
            raise self._to.lost(error) from error

    async def _insist(self, operation: Operation[T]) -> T:
        """The answer, also of a service that is restarted meanwhile."""
        patience = Patience()
        while True:
            try:
                return await self._do(operation)
            except ClientError as error:
                await asyncio.sleep(patience.after(error))

    async def _do(self, operation: Operation[T]) -> T:
        try:
            reply = await self._http.request(
                operation.method,
                operation.path,
                params=operation.params or None,
                content=operation.body,
                headers=operation.headers,
            )
        except httpx.HTTPError as error:
            raise self._to.lost(error) from error
        if refused := operations.refusal(reply):
            raise refused
        return operation.read(reply)
