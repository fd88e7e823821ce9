"""The hosts that ProxyJump of an ssh_config(5) leads through."""

from hpcbridge.config.clusters import SSHSettings
from hpcbridge.errors import ClusterUnreachable
from hpcbridge.transports.sshconfig import Entry

HOPS = 8
"""Hosts that ProxyJump may lead through."""


def jumps_of(
    entry: Entry, settings: SSHSettings, name: str, hop_for: tuple[str, ...]
) -> list[SSHSettings]:
    """The settings of each hop on the way to ``name``, the nearest first; none without ProxyJump.

    ``hop_for`` are the hosts that ``name`` is a hop for. Raises
    :class:`~hpcbridge.errors.ClusterUnreachable` where the way leads in a circle.
    """
    way = (*hop_for, name)
    if len(way) > HOPS or any(each.host in way for each in entry.hops):
        if hop_for:  # as with ssh(1), a "Host *" does not send a hop to itself
            return []
        raise ClusterUnreachable(
            f"The SSH host {name} cannot be reached: ProxyJump leads in a circle.", lasting=True
        )
    return [
        settings.model_copy(update={"host": hop.host, "port": hop.port, "user": hop.user})
        for hop in entry.hops
    ]
