"""Whether a cluster can be worked on as its users: their keys, their rules, and one of them."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

from hpcbridge.clusters.cluster import Cluster
from hpcbridge.config.clusters import RemoteCluster
from hpcbridge.doctor import cluster as cluster_checks
from hpcbridge.doctor.findings import Finding, bad, good
from hpcbridge.errors import BridgeError
from hpcbridge.identity.logins import authority_of
from hpcbridge.schedulers.kinds import kind_of

LIMIT = 10.0
"""Seconds that a command may take."""


async def look(cluster: Cluster, state_dir: Path, user: str | None) -> AsyncIterator[Finding]:
    """What ``mode`` needs; and all that a launch of ``user`` needs, where one is named."""
    settings = cluster.settings
    if not isinstance(settings, RemoteCluster) or not settings.identity.personal:
        return
    what = f"{cluster.name}: identity"
    if settings.identity.mode == "ssh-ca":
        authority = authority_of(cluster.name, settings.identity)
        yield good(
            what,
            f"Certificates of the CA {authority.fingerprint} let users in for "
            f"{authority.lifetime:g} s. sshd needs its key in TrustedUserCAKeys: "
            f"{authority.public_line}",
        )
    elif settings.identity.mode == "sudo":
        yield await _sudo(what, cluster, settings)
    else:
        yield good(what, f"Users log in with the keys {settings.identity.keys}.")
    if user is not None:
        async for finding in _user(cluster, state_dir, user):
            yield finding


async def _sudo(what: str, cluster: Cluster, settings: RemoteCluster) -> Finding:
    """The rules that sudo itself tells (``sudo -l``); it runs nothing."""
    identity = settings.identity
    cure = "Install what 'hpcbridge sudoers' prints."
    try:
        told = await cluster.transport.run(["sudo", "-n", "-l"], timeout=LIMIT)
        there = await cluster.transport.run(["test", "-x", identity.helper], timeout=LIMIT)
    except BridgeError as error:
        return bad(what, str(error))
    wanted = [f"{identity.commands_dir}/{each}" for each in kind_of(settings).commands]
    missing = [each for each in [*wanted, identity.helper] if each not in told.out]
    if told.exit_status != 0:
        return bad(what, f"sudo has no rules for this account. {cure}")
    if missing:
        return bad(what, f"sudo's rules lack {', '.join(missing)}. {cure}")
    if there.exit_status != 0:
        return bad(
            what,
            f"{identity.helper} is no program there. Install what 'hpcbridge sudoers --helper' "
            "prints (root:root 0755).",
        )
    return good(what, f"sudo has rules for the helper and {len(wanted)} commands.")


async def _user(cluster: Cluster, state_dir: Path, user: str) -> AsyncIterator[Finding]:
    try:
        account = await cluster.account_of(user)
    except BridgeError as error:
        yield bad(f"{cluster.name}: user {user!a}", str(error))
        return
    with cluster.held(account) as view:
        named = dataclasses.replace(view, name=f"{cluster.name} as {account}")
        try:
            async for finding in cluster_checks.look(named, state_dir):
                yield finding
        except BridgeError as error:
            yield bad(named.name, str(error))
