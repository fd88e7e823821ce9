"""The service: everything put together, started in order, stopped in reverse."""

import asyncio
import contextlib
import fcntl
import functools
import grp
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from hpcbridge.api import create_app
from hpcbridge.clusters import cluster as clusters
from hpcbridge.config.installation import replica
from hpcbridge.config.settings import Settings
from hpcbridge.database.engine import sqlite_file
from hpcbridge.errors import ConfigError
from hpcbridge.files.directories import closed_to_others
from hpcbridge.frontends.address import session_addresses
from hpcbridge.frontends.base import Publisher
from hpcbridge.frontends.door import behind_tls
from hpcbridge.frontends.embedded import front_protocol
from hpcbridge.frontends.localend import local_end
from hpcbridge.frontends.origin import HostNames
from hpcbridge.frontends.table import RouteTable
from hpcbridge.frontends.textmap import TextMap
from hpcbridge.frontends.timed import TimedProtocol
from hpcbridge.instruments import Instruments
from hpcbridge.jobscripts.stage import JobFiles
from hpcbridge.network.addresses import UNIX_PATH_LIMIT
from hpcbridge.network.counts import Counts
from hpcbridge.network.descriptors import Complaints, raise_limit, room
from hpcbridge.sessions.context import SessionContext, Timing
from hpcbridge.sessions.logs import Logs
from hpcbridge.sessions.manager import Sessions
from hpcbridge.sessions.uploads import Uploads
from hpcbridge.store import Store
from hpcbridge.web.access import Access
from hpcbridge.web.certificates import Certificates
from hpcbridge.web.listener import listening
from hpcbridge.web.reloading import Current, Reloader
from hpcbridge.web.sessionaccess import SessionAccess

log = logging.getLogger(__name__)

TIMING = Timing()
"""How soon sessions try again what has failed."""
GRACEFUL = 3
"""Seconds that open requests get when the service stops."""


async def serve(
    settings: Settings,
    *,
    end_sessions: bool,
    ready: Callable[[str], None],
    reread: Callable[[], Settings] | None = None,
) -> None:
    """Run until SIGINT or SIGTERM; ``ready`` is called with the service's URL when it accepts
    requests. At SIGHUP ``reread`` reads the settings anew; without it, and where there is a
    terminal that may have been closed, SIGHUP ends the service, too.

    Raises :class:`~hpcbridge.errors.BridgeError` when it cannot start.
    """
    server = settings.server
    descriptors = raise_limit()
    certificates = Certificates(server) if server.tls_certificate else None
    asyncio.get_running_loop().set_exception_handler(Complaints())
    with listening(server, _group(settings.frontend.group)) as (listener, url):
        async with running(settings, end_sessions=end_sessions) as (sessions, routes):
            access = Access(settings, sessions)
            current = Current(create_app(settings, sessions, access))
            config = uvicorn.Config(
                current,
                http=_protocol(settings, routes, sessions, access, descriptors, certificates),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # api.py has its own, which remember the peer
                timeout_graceful_shutdown=GRACEFUL,
                server_header=False,
            )
            reloader = None
            if reread is not None and not _has_terminal():
                make = functools.partial(create_app, sessions=sessions, access=access)
                reloader = Reloader(settings, sessions, current, reread, make)
            web = _Web(config, sessions.leave, reloader.ask if reloader else None)
            asyncio.get_running_loop().call_soon(_announce, web, ready, url)
            async with (
                _beside(certificates.watch() if certificates else None),
                _beside(reloader.run() if reloader else None),
            ):
                await web.serve(sockets=[listener])


def _has_terminal() -> bool:
    """Whether SIGHUP may mean that a terminal was closed (credentials(7))."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None] | None) -> AsyncIterator[None]:
    """Run ``work``, if there is any, until the end of the block."""
    task = asyncio.create_task(work) if work else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _protocol(
    settings: Settings,
    routes: RouteTable,
    sessions: Sessions,
    access: Access,
    descriptors: int,
    certificates: Certificates | None,
) -> Any:
    """What serves a connection: uvicorn's, or the built-in front end, perhaps behind TLS."""
    if not settings.frontend.built_in:
        return TimedProtocol
    limits = settings.limits
    counts = Counts(
        limits.connections or room(descriptors),
        limits.connections_per_address,
        limits.connections_per_session,
        access.front_ends,
    )
    front = _front(settings, routes, sessions, access, counts)
    return behind_tls(front, certificates.context, counts) if certificates else front


def _front(
    settings: Settings, routes: RouteTable, sessions: Sessions, access: Access, counts: Counts
) -> type[H11Protocol]:
    """The built-in front end."""
    server, addresses = settings.server, session_addresses(settings)
    own = SessionAccess(settings, sessions, access, addresses) if addresses else None
    return front_protocol(
        routes,
        allowed_origins=server.cors_origins,
        own_names=HostNames(settings.own_names),
        websocket_paths=settings.frontend.websocket_paths,
        admits=access.admits,
        coming=sessions.coming,
        addresses=addresses,
        **({"enters": own.enter} if own else {}),
        counts=counts,
        hsts=server.hsts,
        # nginx before 1.29 takes 103 for the reply, and what follows for its body.
        hints=settings.frontend.kind != "nginx",
    )


class _Web(uvicorn.Server):
    """uvicorn without its own signal handling, which raises KeyboardInterrupt once it has stopped
    and so would cut the end of the sessions off. ``leave`` is called when it begins to stop, and
    ``reload`` at SIGHUP."""

    def __init__(
        self,
        config: uvicorn.Config,
        leave: Callable[[], None],
        reload: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(config)
        self._leave = leave
        self._reload = reload

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; launches that wait for their session are answered now."""
        self._leave()
        super().handle_exit(sig, frame)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGINT, SIGTERM and the end of a terminal (SIGHUP), which nohup(1) has ignored; a
        second one does not wait for open requests."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        if self._reload is not None:
            loop.add_signal_handler(signal.SIGHUP, self._reload)
        elif signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGHUP, self.handle_exit, signal.SIGHUP, None)
        yield


def _announce(web: uvicorn.Server, ready: Callable[[str], None], url: str) -> None:
    if web.started:
        ready(url)
    elif not web.should_exit:
        asyncio.get_running_loop().call_later(0.01, _announce, web, ready, url)


@contextlib.asynccontextmanager
async def running(
    settings: Settings, *, end_sessions: bool = False
) -> AsyncIterator[tuple[Sessions, RouteTable]]:
    """Sessions and routes at work, without the web server."""
    state_dir = settings.server.state_dir
    with alone(state_dir):
        group = _group(settings.frontend.group)
        if (file := sqlite_file(settings.store_url)) is not None:
            closed_to_others("store.url", file)
        store = await Store.open(settings.store_url, replica(settings))
        async with contextlib.AsyncExitStack() as opened:
            opened.push_async_callback(store.close)
            instruments = Instruments()
            routes = RouteTable(_publishers(settings), instruments.published)
            await opened.enter_async_context(_beside(instruments.watch_loop()))
            _socket_directory(settings, group)
            await routes.start()
            built = {
                name: clusters.build(name, each, state_dir, instruments)
                for name, each in settings.clusters.items()
            }
            for each in built.values():
                opened.push_async_callback(each.close)
            opened.push_async_callback(routes.close)
            socket_dir = settings.socket_dir if settings.frontend.local_end == "unix" else None
            logs = Logs(settings.log_dir, settings.logs)
            logs.prepare()
            addresses = session_addresses(settings)
            context = SessionContext(
                store,
                routes,
                JobFiles(settings.template_dirs),
                socket_dir,
                group,
                TIMING,
                logs,
                _uploads(settings),
                serve=lambda row: local_end(row, settings, addresses),
                instruments=instruments,
            )
            sessions = Sessions(settings, context, built)
            opened.push_async_callback(sessions.close, end_sessions=end_sessions)
            await sessions.start()
            yield sessions, routes


def _uploads(settings: Settings) -> Uploads | None:
    if settings.uploads.directory is None:
        return None
    uploads = Uploads(settings.uploads.directory, settings.uploads)
    uploads.prepare()
    return uploads


def _publishers(settings: Settings) -> list[Publisher]:
    if settings.frontend.map_file is None:
        return []
    closed_to_others("frontend.map_file", settings.frontend.map_file)
    return [TextMap(settings.frontend.map_file, group=settings.frontend.group)]


def _group(name: str | None) -> int | None:
    if name is None:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise ConfigError(f"frontend.group: there is no group '{name}' on this machine.") from error


def _socket_directory(settings: Settings, group: int | None) -> None:
    """Make the directory of unix sockets: only the front end's group can enter, none can list."""
    if settings.frontend.local_end != "unix":
        return
    if group is not None and settings.frontend.socket_dir is None:
        raise ConfigError(
            "frontend.socket_dir: needed with frontend.group, since state_dir, where the sockets "
            "would be, is closed to other accounts."
        )
    directory = settings.socket_dir
    longest = len(os.fsencode(directory / f"{'x' * 40}.sock"))
    if longest > UNIX_PATH_LIMIT:
        raise ConfigError(
            f"frontend.socket_dir: {directory} is too long: sockets in it would have names of "
            f"{longest} bytes, and the system allows {UNIX_PATH_LIMIT}."
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if group is not None:
            os.chown(directory, -1, group)
        directory.chmod(0o700 if group is None else 0o2710)
        closed_to_others("frontend.socket_dir", directory / "x.sock")
        for stale in directory.glob("*.sock"):
            stale.unlink()
    except OSError as error:
        raise ConfigError(
            f"frontend.socket_dir: {directory} cannot be prepared: {error.strerror}."
        ) from error


@contextlib.contextmanager
def alone(state_dir: Path) -> Iterator[None]:
    """Hold the state directory: two services on one database would both drive every session."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"server.state_dir: {state_dir} cannot be written: {error.strerror}."
        ) from error
    try:
        closed_to_others("server.state_dir", state_dir / "lock")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"Another hpcbridge is running with the state directory {state_dir}. Stop it, or "
                "give this one its own: server.state_dir, or HPCBRIDGE_SERVER__STATE_DIR in its "
                "environment."
            ) from error
        yield
    finally:
        os.close(handle)
