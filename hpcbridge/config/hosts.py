"""Settings of clusters that are a list of machines, without a batch system."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from hpcbridge.config.clusters import RemoteCluster, SSHLogin, SSHSettings
from hpcbridge.config.fields import Section

HERE = "localhost"
"""The name of this machine, which is used without SSH."""


class HostSettings(Section):
    """One machine."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?$",
        description="Its name or address as SSH takes it; 'localhost' is this machine, without "
        "SSH.",
    )
    slots: int = Field(1, ge=0, description="Jobs that may run on it at once; 0 takes no new ones.")


class HostsCluster(RemoteCluster):
    """Named machines over SSH, which share ``session_root`` and have no batch system."""

    scheduler: Literal["hosts"] = Field(description="Named machines over SSH.")
    hosts: list[HostSettings] = Field(min_length=1, max_length=256, description="The machines.")
    queue: int = Field(32, ge=0, description="Jobs that may wait for a slot.")
    access: SSHLogin | None = Field(
        None,
        description="How the machines are logged in to, where that is not as the login host is "
        "(ssh) or as the ssh config says. Their port is tunnel.node_port.",
    )
    environment: dict[
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str
    ] = Field(
        default_factory=dict,
        description='Variables that jobs get, such as DISPLAY = ":0" for a GPU\'s X server.',
    )

    inherit: list[str] = Field(
        default_factory=list,
        description="Variables of the service's environment that jobs on 'localhost' get too.",
    )

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        names = [each.name.lower() for each in self.hosts]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"hosts has {', '.join(twice)} twice")
        if self.has_this_machine and self.ssh is not None:
            raise ValueError(
                "hosts cannot have 'localhost', this machine, where commands run on the login host "
                "of the [ssh] section: name it as it is known there"
            )
        if self.identity.personal:
            raise ValueError(
                f"identity.mode = '{self.identity.mode}' is not for scheduler = 'hosts': its jobs "
                "run as the account that the machines are logged in to as"
            )
        if self.tunnel.backend == "openssh":
            raise ValueError(
                "tunnel.backend = 'openssh' is not for scheduler = 'hosts', whose tunnels and "
                "commands share a connection; leave it out"
            )
        return self

    @property
    def has_this_machine(self) -> bool:
        """Whether this machine, used without SSH, is one of them."""
        return any(each.name == HERE for each in self.hosts)

    def login_to(self, name: str) -> SSHSettings | None:
        """How a machine is logged in to; None for this one."""
        if name == HERE:
            return None
        if self.access is not None:
            return SSHSettings(host=name, **self.access.model_dump())
        return self.ssh or SSHSettings(host=name)
