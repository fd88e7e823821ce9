"""The text map of ParaViewWeb's launcher: one line ``id host:port`` for each session.

Apache reads it as ``RewriteMap NAME txt:FILE`` and looks at the file again when it has changed.
"""

import asyncio
import grp
import os
import re
from contextlib import suppress
from pathlib import Path

from hpcbridge.errors import RouteError
from hpcbridge.frontends.base import LOOPBACK, SESSION_ID, Routes
from hpcbridge.network.addresses import TCPAddress

_LINE = re.compile(rf"({SESSION_ID.pattern}) {re.escape(LOOPBACK)}:([0-9]{{1,5}})")


def render_map(routes: Routes) -> str:
    """The map's text. Routes to unix sockets have no line: the front end finds those by name."""
    addresses = _tcp_addresses(routes).items()
    return "".join(f"{session_id} {to.host}:{to.port}\n" for session_id, to in addresses)


def parse_map(text: str) -> dict[str, TCPAddress]:
    """Read a map back.

    Raises :class:`~hpcbridge.errors.RouteError` for any line that is not exactly one valid route,
    a last line without its newline, or a session with two lines.
    """
    if text and not text.endswith("\n"):
        raise RouteError("The map's last line is not complete.")
    found: dict[str, TCPAddress] = {}
    for number, line in enumerate(text.split("\n")[:-1], 1):
        match = _LINE.fullmatch(line)
        if not match or match[1] in found or not 1 <= int(match[2]) <= 65535:
            raise RouteError(f"Line {number} of the map is not a new 'id host:port'.")
        found[match[1]] = TCPAddress(LOOPBACK, int(match[2]))
    return found


class TextMap:
    """Publishes the routes in a file that always holds a complete map.

    ``group`` is the front end's group by name or gid: it may read the file, others may not. Raises
    :class:`~hpcbridge.errors.RouteError` for a group that does not exist.
    """

    def __init__(self, path: Path, *, group: str | int | None = None, mode: int = 0o640) -> None:
        self.path = path
        self._mode = mode
        self._gid = _gid(group)

    async def start(self, routes: Routes) -> None:
        """Write the map anew, whatever is there."""
        await self.publish(routes)

    async def publish(self, routes: Routes) -> None:
        """Write beside, check, rename over. The old map stays when anything fails."""
        await asyncio.to_thread(self._write, routes)

    async def close(self) -> None:
        """Leave an empty map: the ports are free for others now, and must not get our users."""
        await asyncio.to_thread(self._write, {})

    def _write(self, routes: Routes) -> None:
        # One writer a map, so one name; what a crash left under it is replaced.
        temporary = self.path.with_name(f".{self.path.name}.new")
        try:
            temporary.unlink(missing_ok=True)
            self._fill(temporary, render_map(routes).encode("ascii"))
            _check(temporary, routes)
            temporary.replace(self.path)
            _sync_directory(self.path.parent)
        except OSError as error:
            raise RouteError(
                f"Cannot write the session map {self.path}: {error.strerror}. The service's "
                "account must be able to create files in that directory, with room on the disk, "
                "and be a member of the front end's group."
            ) from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _fill(self, path: Path, content: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            if self._gid is not None:
                os.fchown(descriptor, -1, self._gid)
            os.fchmod(descriptor, self._mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)


def _tcp_addresses(routes: Routes) -> dict[str, TCPAddress]:
    return {
        session_id: route.address
        for session_id, route in routes.items()
        if isinstance(route.address, TCPAddress)
    }


def _check(path: Path, routes: Routes) -> None:
    if parse_map(path.read_text("ascii", "replace")) != _tcp_addresses(routes):
        raise RouteError(f"The session map {path} reads back differently: is the disk failing?")


def _gid(group: str | int | None) -> int | None:
    if not isinstance(group, str):
        return group
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise RouteError(
            f"There is no group {group!r} on this machine. Name the group that the web server "
            "runs as, for example 'www-data'."
        ) from error


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
