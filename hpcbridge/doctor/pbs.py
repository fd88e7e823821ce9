"""A PBS server, by what it says of itself: pbs_server_attributes(7B)."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

from hpcbridge.clusters.cluster import Cluster
from hpcbridge.config.clusters import RemoteCluster
from hpcbridge.doctor.findings import Finding, bad, good
from hpcbridge.errors import BridgeError
from hpcbridge.schedulers.pbs.scheduler import PBSScheduler

STATUS = Path("/proc/self/status")


async def look(cluster: Cluster) -> AsyncIterator[Finding]:
    """What of the server's settings keeps jobs away, or their ends untold."""
    settings, scheduler = cluster.settings, cluster.scheduler
    if not isinstance(scheduler, PBSScheduler) or not isinstance(settings, RemoteCluster):
        return
    what = f"{cluster.name}: PBS server"
    try:
        server = await scheduler.server()
        done = await cluster.transport.run(["id", "-u"], timeout=settings.command_timeout)
    except BridgeError as error:
        status = await asyncio.to_thread(STATUS.read_text)
        here = cluster.login is None and unprivileged(status)
        yield bad(what, f"{error}{NO_NEW_PRIVILEGES if here else ''}")
        return
    others = settings.identity.personal and settings.identity.listing == "service"
    personal = settings.identity.personal
    for finding in findings(
        what,
        server,
        root=done.out.strip() == "0" and not personal,
        others=others,
        keeps=bool(scheduler.history),
    ):
        yield finding


NO_NEW_PRIVILEGES = (
    " This process runs with no new privileges, so that pbs_iff, which is set-user-ID root, cannot "
    "prove to the server who asks: set NoNewPrivileges=no in the service's unit, or reach PBS over "
    "SSH."
)


def unprivileged(status: str) -> bool:
    """Whether programs that are set-user-ID gain nothing: proc_pid_status(5), NoNewPrivs."""
    return "NoNewPrivs:\t1" in status


def findings(
    what: str, server: Mapping[str, str], *, root: bool, others: bool, keeps: bool
) -> Iterator[Finding]:
    """``root`` submits jobs, and those of ``others`` are listed; ``keeps`` is a kind of server that
    can keep a history."""
    if root and not server.get("acl_roots"):
        yield bad(
            what,
            "It takes no jobs of root's, which submits here. Name another account in the cluster's "
            "ssh.user, or run the service as another one.",
        )
    elif others and server.get("query_other_jobs") == "False":
        yield bad(
            what,
            "It tells the service's account nothing of users' jobs (query_other_jobs = False). Set "
            "the cluster's identity.listing to 'user', or: qmgr -c 'set server query_other_jobs = "
            "True'.",
        )
    elif keeps and server.get("job_history_enable") != "True":
        yield good(
            what,
            "It keeps no history, so how a job ended is told only by what it left behind. With one "
            "(qmgr -c 'set server job_history_enable = True') PBS tells walltime, memory, signals "
            "and who ended it.",
        )
    else:
        yield good(what, f"PBS {server.get('pbs_version', 'of a version that it does not tell')}.")
