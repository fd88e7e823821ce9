"""What all sessions of a service work with."""

from dataclasses import dataclass
from pathlib import Path

from hpcbridge.frontends.table import RouteTable
from hpcbridge.jobscripts.stage import JobFiles
from hpcbridge.store import Store


@dataclass(frozen=True)
class Means:
    """Made once by the service. ``socket_dir`` None puts tunnels on TCP ports; ``group`` is the gid
    of the front end, which may connect to sockets."""

    store: Store
    routes: RouteTable
    files: JobFiles
    socket_dir: Path | None = None
    group: int | None = None
