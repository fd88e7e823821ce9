"""``hpcbridge lookup``: what a front end finds of one session, whoever it belongs to."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from hpcbridge.config.installation import replica
from hpcbridge.config.settings import Settings
from hpcbridge.doctor import database
from hpcbridge.doctor.audit import is_locked
from hpcbridge.doctor.findings import Finding, bad, good
from hpcbridge.errors import RouteError, SessionNotFound
from hpcbridge.frontends.textmap import parse_map
from hpcbridge.network.addresses import Address, UnixAddress, parse_address
from hpcbridge.network.httpprobe import status_of
from hpcbridge.network.stream import open_stream
from hpcbridge.states import State
from hpcbridge.store import SessionRow

PATIENCE = 5.0
"""Seconds that each step of a question may take."""


async def look(settings: Settings, name: str) -> AsyncIterator[Finding]:
    """A finding for each thing on the way to the session with this id or job's name.

    Its application gets a GET for ``/``. Raises :class:`~hpcbridge.errors.SessionNotFound` where
    there is no such session, and :class:`~hpcbridge.errors.StoreError`.
    """
    found = None
    if database.exists(settings.store_url):
        found = await database.session(settings.store_url, name)
    if found is None:
        kept = settings.store.keep_ended / 86400
        raise SessionNotFound(
            "There is no session with this id or job's name. Front ends say 404. Ended ones are "
            f"forgotten after {kept:g} days (store.keep_ended)."
        )
    row, ends = found
    yield _session(row)
    if row.state != State.READY:
        return
    yield _service(settings)
    mine = ends.get(replica(settings)) or ends.get("")
    yield _end(row, mine, len(ends))
    if mine is None:
        return
    if settings.frontend.map_file is not None and not mine.startswith("unix:"):
        yield _map(settings, row, mine)
    yield await _answer(parse_address(mine))


def _session(row: SessionRow) -> Finding:
    whose = f" of {row.user}" if row.user else ""
    what = f"{row.job_name}, {row.application}{whose} on {row.cluster}"
    if row.state == State.ENDED:
        message = f" {row.message}" if row.message else ""
        reason = row.reason or "for no known reason"
        ended = f"ended{_at('at', row.ended_at)}: {reason}.{message}"
        return bad("session", f"{what}, {ended} Front ends say 404. Launch another.")
    if row.state == State.READY:
        node = f"; its application is on {row.host}, port {row.port}" if row.port else ""
        return good("session", f"{what}, is ready{_at('since', row.ready_at)}{node}.")
    return bad(
        "session",
        f"{what}, is {row.state} and not ready yet: there is nothing to connect to. Wait, or look "
        "into its log.",
    )


def _at(word: str, seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f" {word} {datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _service(settings: Settings) -> Finding:
    """Tunnels are the service's, and so are sessions behind most web servers."""
    if not is_locked(settings.server.state_dir):
        return bad("service", "None is running on this state directory, so no tunnel is open.")
    frontend = settings.frontend
    if frontend.kind == "apache":
        return good("service", "It is running; Apache connects to the local end itself.")
    server = settings.server
    where = str(server.unix_socket) if server.unix_socket else f"{server.host}:{server.port}"
    web = "" if frontend.kind == "embedded" else f"{frontend.kind} hands requests on to {where}; "
    return good("service", f"It is running; {web}it connects to the local end and asks who may.")


def _end(row: SessionRow, mine: str | None, there: int) -> Finding:
    if mine is not None:
        return good("local end", _shown(row, mine))
    if there:
        return bad(
            "local end", f"This replica has none; {there} of the others have. Look at its log."
        )
    return bad("local end", "No replica has one. The service's log says why its tunnel is shut.")


def _shown(row: SessionRow, address: str) -> str:
    """The id opens the session where there are no users."""
    return address.replace(row.id, "ID")


def _map(settings: Settings, row: SessionRow, mine: str) -> Finding:
    path = settings.frontend.map_file
    assert path is not None
    try:
        routes = parse_map(path.read_text("ascii", "replace"))
    except OSError as error:
        return bad("map", f"{path} cannot be read: {error.strerror}.")
    except RouteError as error:
        return bad("map", f"{path}: {error} Restart the service: it writes the map anew.")
    route = routes.get(row.id)
    if str(route) == mine:
        return good("map", f"{path} leads there.")
    leads = f"leads to {route}" if route else "does not have it"
    return bad("map", f"{path} {leads}. Restart the service: it writes the map anew.")


async def _answer(address: Address) -> Finding:
    began = time.monotonic()
    try:
        stream = await open_stream(address, PATIENCE)
        status = await status_of(stream, "localhost", "/", PATIENCE)
    except TimeoutError:
        return bad("answer", f"None within {PATIENCE:g} s. Is the application busy, or stopped?")
    except OSError as error:
        return bad(
            "answer", f"Nothing can be connected to: {error.strerror or error}.{_cure(address)}"
        )
    took = (time.monotonic() - began) * 1000
    if status is None:
        return bad(
            "answer",
            "The connection is taken, and what comes is no HTTP. The application may speak "
            "something else, or have gone: its log and the service's tell.",
        )
    return good("answer", f"GET / is answered with HTTP {status}, after {took:.0f} ms.")


def _cure(address: Address) -> str:
    if isinstance(address, UnixAddress) and address.path.exists():
        return " Run this as the service's account."
    return " The service's log says why its tunnel is shut."
