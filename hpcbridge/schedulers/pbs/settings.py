"""Settings of a cluster that runs PBS or Torque."""

from typing import Literal

from pydantic import Field

from hpcbridge.clustersettings import RemoteCluster


class _PBSFamily(RemoteCluster):
    commands: str | None = Field(
        None,
        pattern=r"^/",
        description="Directory of qsub, qstat, qselect, qdel and pbsnodes on the cluster, such "
        "as /opt/pbs/bin; they are looked for in the PATH by default.",
    )
    server: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.:_-]*$",
        description="The PBS server to speak to, where a site has several (PBS_SERVER and "
        "PBS_DEFAULT); the one that the login host is configured for by default.",
    )
    node_domain: str = Field(
        "",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9.-]*)?$",
        description="Domain that makes the server's short names of nodes known here, such as "
        "cluster.example.org.",
    )


class PBSCluster(_PBSFamily):
    """OpenPBS or PBS Pro (18.1.4 or later) by its commands, on this machine or over SSH."""

    scheduler: Literal["pbs"] = Field(description="OpenPBS or PBS Pro, by qsub, qstat and qdel.")


class TorqueCluster(_PBSFamily):
    """Torque by its commands, on this machine or over SSH."""

    scheduler: Literal["torque"] = Field(description="Torque, by qsub, qstat and qdel.")
