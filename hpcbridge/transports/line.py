"""What tunnels need of a host that SSH leads to, whatever makes the connection."""

import time
from collections.abc import Callable
from typing import Any, Protocol


class Connection(Protocol):
    """A connection that is up."""

    async def create_connection(
        self, session_factory: Callable[[], Any], remote_host: str, remote_port: int
    ) -> Any:
        """Connect to a port as the host sees it.

        Raises asyncssh's ChannelOpenError where the host refuses, and OSError.
        """
        ...

    async def wait_closed(self) -> None:
        """Return when it is gone."""
        ...


class Line(Protocol):
    """A host that is connected to when first needed, and again after the connection was lost."""

    name: str
    #: How often it was connected to.
    connects: int

    async def connection(self) -> Connection:
        """The live connection. Raises :class:`~hpcbridge.errors.ClusterUnreachable`."""
        ...

    async def round_trip(self) -> float | None:
        """Seconds until the host has answered over the connection that is up; None without one."""
        ...

    @property
    def connected(self) -> bool:
        """Whether a connection is up now."""
        ...

    async def close(self) -> None:
        """Close the connection and all that runs over it."""
        ...


class Meter:
    """How long a host takes to answer, as it was last measured."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._last: float | None = None
        self._asked: float | None = None

    async def measure(self) -> None:
        """Ask once; for as long as there is no answer, the time since then counts."""
        self._asked = time.monotonic()
        try:
            self._last = await self._line.round_trip()
        finally:
            self._asked = None

    @property
    def seconds(self) -> float | None:
        """The round trip; None where it is not known, or there is no connection."""
        if not self._line.connected:
            return None
        waiting = time.monotonic() - self._asked if self._asked is not None else 0.0
        return max(self._last or 0.0, waiting) if self._last or waiting > 1 else None
