"""The invariants of a site, checked while its service may be at work. Nothing is changed.

Everything is looked at one after the other, and meanwhile the site moves. So what looks wrong is
looked at again after a grace, and only what is wrong both times is told.
"""

import asyncio
import fcntl
import os
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hpcbridge.clusters.cluster import Cluster
from hpcbridge.config.installation import is_marked, job_name, mark, replica
from hpcbridge.config.settings import Settings
from hpcbridge.doctor import cluster as cluster_checks
from hpcbridge.doctor import database
from hpcbridge.doctor.findings import Finding, bad, good
from hpcbridge.errors import BridgeError, ClusterError, RouteError
from hpcbridge.frontends.textmap import parse_map
from hpcbridge.schedulers.base import JobState
from hpcbridge.states import State
from hpcbridge.store import SessionRow
from hpcbridge.transports.sudo import SudoTransport

SHOWN = 5
"""Names that a line tells at most."""
LIST_LIMIT = 20.0
"""Seconds that a cluster may take to list its session directories."""

#: Each invariant, and what to do where it does not hold.
CURES = {
    "one job at most for each session": "Cancel all but the one that the session's GET tells.",
    "no job without a session": "The running service ends them; start it, or cancel them.",
    "every ended session has a reason": "This is a defect of hpcbridge: please report it.",
    "secrets of ended sessions are erased": "This is a defect of hpcbridge: please report it.",
    "no session directory without a session": "Remove them once no job uses them.",
    "no route without a ready session": "Restart the service: it writes the map anew.",
    "no ready session without a route": "Look for the session in the service's log.",
    "no socket without a ready session": "Restart the service: it removes them.",
}
OF_SERVICE = {
    "no route without a ready session",
    "no ready session without a route",
    "no socket without a ready session",
}
"""What only holds while a service is at work."""


@dataclass
class Sight:
    """All that was seen in one look. Directories and living jobs are (cluster, name)."""

    rows: Collection[SessionRow]
    jobs: list[tuple[str, str]] = field(default_factory=list)
    directories: set[tuple[str, str]] = field(default_factory=set)
    #: The map, as session id to local end; None where there is none.
    routes: Mapping[str, str] | None = None
    #: The session ids of the sockets; None where there is no directory of them.
    sockets: set[str] | None = None
    #: The local ends that this service should have, by session id.
    endpoints: Mapping[str, str] = field(default_factory=dict)


async def audit(settings: Settings, clusters: Collection[Cluster]) -> AsyncIterator[Finding]:
    """A finding for each invariant, and one for each thing that could not be looked at."""
    if not database.exists(settings.store_url):
        yield good("audit", "There is no database yet, so nothing to compare.")
        return
    serving = is_locked(settings.server.state_dir)
    try:
        ours = await database.mark(settings.store_url, mark(settings))
        wrong = violations(await _see(settings, clusters), ours)
        if any(wrong.values()):
            await asyncio.sleep(max(each.settings.grace for each in clusters))
            again = violations(await _see(settings, clusters), ours)
            wrong = {what: names & again[what] for what, names in wrong.items()}
    except (BridgeError, OSError) as error:
        yield bad("audit", f"It could not be done: {error}")
        return
    for what, names in wrong.items():
        if what in OF_SERVICE and not serving:
            yield good(what, "Not checked: no service is running on this state directory.")
        elif names:
            told = ", ".join(sorted(names)[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
            yield bad(what, f"{len(names)} found: {told}. {CURES[what]}")
        else:
            yield good(what, "So it is.")


def violations(sight: Sight, mark: str) -> dict[str, set[str]]:
    """For each invariant the job names of those that break it; ids open sessions and stay here."""
    rows = {name for row in sight.rows for name in row.attempt_names}
    kept = {row.attempt_name for row in sight.rows if row.state != State.ENDED or not row.job_ended}
    ended = [row for row in sight.rows if row.state == State.ENDED]
    ready = {row.id: sight.endpoints.get(row.id) for row in sight.rows if row.state == State.READY}

    def ours(name: str) -> bool:
        return name in rows or is_marked(name, mark)

    def named(ids: Collection[str]) -> set[str]:
        by_id = {row.id: row.job_name for row in sight.rows}
        return {by_id.get(each) or job_name(each, mark) for each in ids}

    def unrouted(session_id: str, address: str | None) -> bool:
        if (address or "").startswith("unix:"):
            return sight.sockets is not None and session_id not in sight.sockets
        return sight.routes is not None and sight.routes.get(session_id) != address

    found = [
        {name for (_, name), count in Counter(sight.jobs).items() if count > 1 and ours(name)},
        {name for _, name in sight.jobs if ours(name) and name not in kept},
        {row.job_name for row in ended if row.reason is None},
        {row.job_name for row in ended if row.secret is not None},
        {name for _, name in sight.directories if ours(name) and name not in kept},
        named([key for key, end in (sight.routes or {}).items() if ready.get(key) != end]),
        named([key for key, end in ready.items() if unrouted(key, end)]),
        named((sight.sockets or set()) - ready.keys()),
    ]
    return dict(zip(CURES, found, strict=True))


async def _see(settings: Settings, clusters: Collection[Cluster]) -> Sight:
    sight = Sight(await database.sessions(settings.store_url))
    sight.endpoints = await database.endpoints(settings.store_url, replica(settings))
    for cluster in clusters:
        jobs = dict[str, str]()  # by id: one listing may tell what another has told
        whose = {row.account for row in sight.rows if row.cluster == cluster.name}
        for account in {None, *whose}:
            with cluster.held(account) as view:
                jobs |= await _see_account(sight, view, settings.server.state_dir)
        sight.jobs += [(cluster.name, name) for name in jobs.values()]
    frontend = settings.frontend
    if frontend.map_file is not None and frontend.map_file.exists():
        try:
            text = await asyncio.to_thread(frontend.map_file.read_text, "ascii", "replace")
            sight.routes = {key: str(end) for key, end in parse_map(text).items()}
        except RouteError as error:
            raise RouteError(f"{frontend.map_file}: {error}") from error
    if frontend.local_end == "unix" and settings.socket_dir.is_dir():
        sight.sockets = {path.stem for path in settings.socket_dir.glob("*.sock")}
    return sight


async def _see_account(sight: Sight, cluster: Cluster, state_dir: Path) -> dict[str, str]:
    """What there is of one account; returns its living jobs, as id to name."""
    listing = await cluster_checks.jobs(cluster, state_dir)
    if not isinstance(cluster.transport, SudoTransport):  # sudo's rules allow no ls
        sight.directories |= {(cluster.name, name) for name in await _session_directories(cluster)}
    return {key: job.name for key, job in listing.jobs.items() if job.state != JobState.ENDED}


async def _session_directories(cluster: Cluster) -> list[str]:
    root = await cluster.session_root()
    script = 'test ! -d "$1" || ls -1A -- "$1"'
    argv = ["/bin/sh", "-c", script, "hpcbridge", root]
    done = await cluster.transport.run(argv, timeout=LIST_LIMIT)
    if done.exit_status != 0:
        raise ClusterError(f"{root} of {cluster.name} cannot be listed: {done.err.strip()[-300:]}")
    return done.out.split("\n")


def is_locked(state_dir: Path) -> bool:
    """Whether a service is running with this state directory."""
    try:
        handle = os.open(state_dir / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # held for no longer than this function
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
