"""What all sessions of a service work with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hpcbridge.frontends.table import RouteTable
from hpcbridge.instruments import Instruments
from hpcbridge.jobscripts.stage import JobFiles
from hpcbridge.network.relay import Serve
from hpcbridge.sessions.census import Census
from hpcbridge.sessions.logs import Logs
from hpcbridge.sessions.uploads import Uploads
from hpcbridge.store import SessionRow, Store


@dataclass(frozen=True)
class Timing:
    """Seconds before a second attempt; each further one takes twice as long, up to the limit.

    ``retry`` is for what has to succeed some day, ``away_limit`` for a store that is away, and
    ``reopen`` for a tunnel of a session that another replica drives.
    """

    retry: float = 2.0
    retry_limit: float = 60.0
    away_limit: float = 5.0
    reopen: float = 2.0
    reopen_limit: float = 60.0


@dataclass(frozen=True)
class SessionContext:
    """Made once by the service. ``socket_dir`` None puts tunnels on TCP ports; ``group`` is the gid
    of the front end, which may connect to sockets. Without ``logs`` no output is kept, and without
    ``uploads`` no files are received. ``serve`` makes what sees to the clients of a session's local
    end; None there lets bytes pass as they are. ``census`` counts the sessions, ``instruments``
    what becomes of them.
    """

    store: Store
    routes: RouteTable
    files: JobFiles
    socket_dir: Path | None = None
    group: int | None = None
    timing: Timing = field(default_factory=Timing)
    logs: Logs | None = None
    uploads: Uploads | None = None
    serve: Callable[[SessionRow], Serve | None] = lambda _: None
    census: Census = field(default_factory=Census)
    instruments: Instruments = field(default_factory=Instruments)
