"""Settings that clusters have in common, whatever batch system they run."""

import re
from typing import Literal, Self

from pydantic import Field, model_validator

from hpcbridge.config.fields import FilePath, Name, Pattern, Primitive, Seconds, Section
from hpcbridge.config.identity import IdentitySettings


class SSHLogin(Section):
    """As whom and with what SSH hosts are logged in to."""

    user: str | None = Field(
        None, description="Account; from the ssh config, or the service's own."
    )
    known_hosts: FilePath | None = Field(
        None, description="File of accepted host keys; ~/.ssh/known_hosts by default. Required."
    )
    config: FilePath | None = Field(None, description="ssh config file; ~/.ssh/config by default.")
    identity_files: list[FilePath] = Field(
        default_factory=list,
        description="Private keys; from the ssh config or the agent by default.",
    )
    connect_timeout: Seconds = Field(10, description="Seconds to wait for a connection.")
    keepalive_interval: Seconds = Field(5, description="Seconds between keepalive messages.")
    keepalive_count: int = Field(
        3, ge=1, description="Unanswered keepalives after which the connection counts as lost."
    )


class SSHSettings(SSHLogin):
    """An SSH login."""

    host: str = Field(min_length=1, description="Host name, or a Host entry of the ssh config.")
    port: int | None = Field(None, ge=1, le=65535, description="Port; from the ssh config, or 22.")


class TunnelSettings(Section):
    """How the nodes are reached from this host."""

    via: Literal["node", "login", "direct"] = Field(
        "node",
        description="node: SSH to the node (through the login host, if there is one), and there to "
        "127.0.0.1; login: SSH to the login host, and from there to the node's address; direct: "
        "plain TCP from this host to the node's address.",
    )
    node_pattern: Pattern = Field(
        r"[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9-]{1,63})*",
        description="Regular expression that a node's whole name must match to be connected to.",
    )
    node_port: int = Field(22, ge=1, le=65535, description="Port of sshd on the nodes.")
    backend: Literal["asyncssh", "openssh"] = Field(
        "asyncssh",
        description="What makes the SSH connections of tunnels: the service itself, or ssh(1), "
        "which has Kerberos and hardware keys, and needs less processor time for each byte.",
    )
    control_path: FilePath | None = Field(
        None,
        description="Control socket of an ssh to the login host that an admin opened by hand "
        "(ssh -fNM -S); tunnels go through it, and the service does not log in there for them. "
        "Needs backend = 'openssh'.",
    )
    linger: Seconds = Field(
        120, description="Seconds for which an unused connection to a node is kept."
    )


class ClusterSettings(Section):
    """What all clusters have."""

    scheduler: str = Field(description="The kind of batch system.")
    title: str = Field("", description="Name for people.")
    session_root: str | None = Field(
        None,
        pattern=r"^/",
        description="Directory on the cluster, shared with its nodes, that holds the sessions' "
        "directories; ~/.hpcbridge by default, and below state_dir for the local scheduler. "
        "{account} in it is filled in where each user's jobs are the user's own.",
    )
    options: dict[Name, Primitive] = Field(
        default_factory=dict,
        description="Values for the template's cluster.NAME, such as partition, account, qos.",
    )
    python: str | None = Field(
        None,
        description="Python of the nodes for templates that start one (bridge.python); python3 by "
        "default, and the service's own for the local scheduler.",
    )
    drain: str | None = Field(
        None,
        min_length=1,
        description="Why there are no new sessions for now, such as 'maintenance until Monday'; "
        "users are told. Those that are there go on.",
    )
    grace: Seconds = Field(
        10, description="Seconds after submission for which a job may be missing in the listing."
    )


class RemoteCluster(ClusterSettings):
    """What clusters have whose jobs run on other machines than this one."""

    ssh: SSHSettings | None = Field(
        None, description="Login host on which the commands run; this machine by default."
    )
    tunnel: TunnelSettings = Field(
        default_factory=TunnelSettings, description="How nodes are reached."
    )
    identity: IdentitySettings = Field(
        default_factory=IdentitySettings, description="As whom jobs run."
    )
    command_timeout: Seconds = Field(
        8, description="Seconds to wait for a command that asks; one that changes gets twice that."
    )

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.tunnel.via == "login" and self.ssh is None:
            raise ValueError(
                "tunnel.via = 'login' needs an [ssh] section that names the login host"
            )
        return self

    @model_validator(mode="after")
    def _by_openssh(self) -> Self:
        tunnel, mode = self.tunnel, self.identity.mode
        if tunnel.control_path is not None and tunnel.backend != "openssh":
            raise ValueError("tunnel.control_path needs tunnel.backend = 'openssh'")
        if tunnel.control_path is not None and self.ssh is None:
            raise ValueError(
                "tunnel.control_path needs an [ssh] section that names the login host it leads to"
            )
        if tunnel.backend == "openssh" and mode.startswith("ssh-"):
            raise ValueError(
                f"tunnel.backend = 'openssh' is not for identity.mode = '{mode}': ssh(1) would "
                "need the users' keys in files; use 'asyncssh', or the mode 'sudo' or 'service'"
            )
        return self

    @model_validator(mode="after")
    def _as_whom(self) -> Self:
        identity, root = self.identity, self.session_root
        if identity.mode.startswith("ssh-") and self.ssh is None:
            raise ValueError(
                f"identity.mode = '{identity.mode}' needs an [ssh] section that names the login "
                "host: who logs in there is the job's owner"
            )
        if identity.personal and self.ssh is not None and self.ssh.user is None:
            raise ValueError(
                f"identity.mode = '{identity.mode}' needs ssh.user: the service's own account "
                "there, which asks for all jobs"
            )
        if identity.personal and root is not None and "{account}" not in root:
            raise ValueError(
                f"session_root = '{root}' would be one user's, and closed to all others: put "
                "'{account}' in it, such as '/scratch/{account}/hpcbridge'"
            )
        if identity.mode == "sudo" and not re.fullmatch(r"[A-Za-z0-9_./{}-]*", root or ""):
            raise ValueError(
                "session_root may only have letters, digits, and _ . - / with identity.mode = "
                "'sudo': it becomes a part of a rule of sudoers"
            )
        return self


def bind_address(settings: ClusterSettings) -> str:
    """Where applications listen: loopback, unless they are reached from another host."""
    far = isinstance(settings, RemoteCluster) and settings.tunnel.via != "node"
    return "0.0.0.0" if far else "127.0.0.1"  # noqa: S104
