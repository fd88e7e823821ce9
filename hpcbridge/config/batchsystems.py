"""Settings of clusters by the batch system that they run: embedded, Slurm, PBS, Grid Engine.

Those of slurmrestd have a module of their own (:mod:`hpcbridge.config.slurmrest`).
"""

from typing import Literal

from pydantic import Field, model_validator

from hpcbridge.config.clusters import ClusterSettings, RemoteCluster
from hpcbridge.config.fields import Seconds


class LocalCluster(ClusterSettings):
    """The embedded batch runner: jobs of this machine."""

    scheduler: Literal["local"] = Field(description="This machine, by the embedded batch runner.")
    slots: int = Field(4, ge=1, description="Jobs that may run at once.")
    queue: int = Field(32, ge=0, description="Jobs that may wait for a slot.")
    environment: list[str] = Field(
        default_factory=list,
        description="Variables of the service's environment that jobs get too, such as DISPLAY.",
    )
    run_as: str | None = Field(
        None,
        pattern=r"^[a-z_][a-z0-9_.-]{0,31}$",
        description="Account of the jobs, of which they have the rights and no others; the service "
        "must be root, and session_root outside of state_dir. By default jobs are the service's "
        "own account's, and can read its secrets and database.",
    )
    trust_jobs: bool = Field(
        False,
        description="Whether applications, and whoever writes what runs in them, are trusted with "
        "the service's own account; needed with [auth] where run_as is not set.",
    )

    @model_validator(mode="after")
    def _account_has_a_place(self) -> "LocalCluster":
        if self.run_as is not None and self.session_root is None:
            raise ValueError("run_as needs session_root, a directory that this account can enter")
        return self


class SlurmCluster(RemoteCluster):
    """Slurm by its commands, on this machine or over SSH."""

    scheduler: Literal["slurm"] = Field(description="Slurm, by sbatch, squeue and scancel.")


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


class GridEngineCluster(RemoteCluster):
    """Grid Engine by its commands, on this machine or over SSH."""

    scheduler: Literal["gridengine"] = Field(
        description="Grid Engine, by qsub, qstat, qdel and qacct."
    )
    bin: str | None = Field(
        None,
        pattern=r"^/",
        description="Directory of qsub and qstat on the cluster; by default they are looked for in "
        "the PATH of a non-interactive login, which seldom reads Grid Engine's settings.sh.",
    )
    root: str | None = Field(
        None, pattern=r"^/", description="SGE_ROOT, where the login does not set it."
    )
    cell: str | None = Field(
        None, pattern=r"^[\w.-]+$", description="SGE_CELL, where it is not 'default'."
    )
    # The master lists what it accepted, and no job that has ended: one that is missing is over.
    grace: Seconds = Field(
        2, description="Seconds after submission for which a job may be missing in the listing."
    )
    verify: bool = Field(
        True,
        description="Refuse at once what no queue could ever take (qsub -w e). Turn it off where "
        "nodes that offer what jobs ask for come and go.",
    )
