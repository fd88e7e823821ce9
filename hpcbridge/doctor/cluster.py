"""One cluster, from the login to the batch system's answer."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path

from hpcbridge.clusters.cluster import Cluster
from hpcbridge.config.batchsystems import LocalCluster
from hpcbridge.config.clusters import RemoteCluster
from hpcbridge.doctor.findings import Finding, bad, good
from hpcbridge.doctor.host import not_writable
from hpcbridge.doctor.ssh import reached
from hpcbridge.errors import BridgeError, ClusterError
from hpcbridge.schedulers.base import JobState, Listing
from hpcbridge.schedulers.hosts import HostsScheduler
from hpcbridge.schedulers.local import recorded
from hpcbridge.transports.base import Slice, StagedFile, Transport
from hpcbridge.transports.line import Line

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sacct")
VERSION_LIMIT = 10.0
"""Seconds that a command may take to tell its version."""


async def look(cluster: Cluster, state_dir: Path) -> AsyncIterator[Finding]:
    """Everything that a launch on ``cluster`` needs, in the order in which it needs it."""
    name = cluster.name
    if cluster.login is not None:
        found = await reached(f"{name}: SSH", cluster.login)
        yield found
        if not found.good:
            return  # nothing else can be asked
    if (line := cluster.tunnels.own_login) is not None:
        yield await _tunnels(name, line)
    if cluster.names is None:  # else they are the users' own
        async for finding in _directories(cluster):
            yield finding
    if cluster.settings.scheduler == "slurm":
        yield await _versions(name, cluster.transport)
    yield await _scheduler(cluster, state_dir)


async def jobs(cluster: Cluster, state_dir: Path) -> Listing:
    """The cluster's listing, without starting anything; that of the embedded runner is read, for it
    is the service's own."""
    if isinstance(cluster.settings, LocalCluster):
        return await asyncio.to_thread(recorded, state_dir / "local" / cluster.name)
    if isinstance(cluster.scheduler, HostsScheduler):
        return await cluster.scheduler.told()
    return await cluster.scheduler.list_jobs()


async def _tunnels(name: str, line: Line) -> Finding:
    what = f"{name}: tunnels"
    try:
        await line.connection()
    except BridgeError as error:
        return bad(what, str(error))
    return good(what, f"{line.name} is reached by OpenSSH.")


async def _directories(cluster: Cluster) -> AsyncIterator[Finding]:
    name, transport = cluster.name, cluster.transport
    if cluster.settings.session_root is None and cluster.default_root is None:
        try:
            yield good(f"{name}: home", f"It is {await transport.home()}.")
        except ClusterError as error:
            yield bad(f"{name}: home", str(error))
            return
    root = await cluster.session_root()
    what = f"{name}: session_root"
    if not isinstance(cluster.settings, RemoteCluster):
        unwritable = not_writable(Path(root))
        yield bad(what, unwritable) if unwritable else good(what, f"{root} can be written.")
        return
    probe, content = f"{root}/doctor-{secrets.token_hex(8)}", b"hpcbridge doctor\n"
    try:
        await transport.stage(probe, {"probe": StagedFile(content)})
        yield good(what, f"{root} can be written.")
        yield await _reading(cluster, f"{probe}/probe", content)
    except ClusterError as error:
        yield bad(what, str(error))
    finally:
        with contextlib.suppress(ClusterError):
            await transport.remove(probe)


async def _reading(cluster: Cluster, path: str, content: bytes) -> Finding:
    what = f"{cluster.name}: {'SFTP' if cluster.login else 'files'}"
    began = time.monotonic()
    try:
        found = await cluster.transport.read([Slice(path, 0, 100)])
    except ClusterError as error:
        return bad(what, f"{error} sshd needs a line 'Subsystem sftp internal-sftp'.")
    if found != [content]:
        return bad(what, f"{path} was written and cannot be read back. Is it on another disk?")
    return good(what, f"A file was read back in {(time.monotonic() - began) * 1000:.0f} ms.")


async def _versions(name: str, transport: Transport) -> Finding:
    what = f"{name}: commands"
    try:
        answers = await asyncio.gather(
            *(transport.run([each, "--version"], timeout=VERSION_LIMIT) for each in COMMANDS)
        )
    except BridgeError as error:
        return bad(what, str(error))
    missing = [
        command
        for command, done in zip(COMMANDS, answers, strict=True)
        if done.exit_status != 0 and command != "sacct"  # accounting is optional
    ]
    if missing:
        return bad(
            what,
            f"{', '.join(missing)} cannot be run where the commands run. Put Slurm's directory in "
            "the PATH of a non-interactive login.",
        )
    told = sorted({done.out.strip() for done in answers if done.exit_status == 0})
    return good(what, f"{', '.join(told)}.")


async def _scheduler(cluster: Cluster, state_dir: Path) -> Finding:
    what = f"{cluster.name}: scheduler"
    began = time.monotonic()
    try:
        listing = await jobs(cluster, state_dir)
    except BridgeError as error:
        return bad(what, str(error))
    took = (time.monotonic() - began) * 1000
    living = sum(job.state != JobState.ENDED for job in listing.jobs.values())
    return good(what, f"It answered in {took:.0f} ms; living jobs of this account: {living}.")
