"""Settings: one TOML file, with ``HPCBRIDGE_SECTION__KEY`` environment variables above it.

Every field's description is its documentation; ``hpcbridge config show`` prints what is in force.
"""

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from sqlalchemy import URL

from hpcbridge.config.adapters import SETTINGS
from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.config.auth import AuthSettings, proxies_wrong
from hpcbridge.config.batchsystems import LocalCluster
from hpcbridge.config.clusters import ClusterSettings, RemoteCluster
from hpcbridge.config.fields import FilePath, Name
from hpcbridge.config.frontend import FrontEndSettings
from hpcbridge.config.hosts import HostsCluster
from hpcbridge.config.limits import LimitSettings
from hpcbridge.config.logs import LogSettings
from hpcbridge.config.metrics import MetricsSettings
from hpcbridge.config.server import ServerSettings
from hpcbridge.config.store import StoreSettings
from hpcbridge.config.uploads import UploadSettings
from hpcbridge.config.warmrules import warm_wrong

if TYPE_CHECKING:
    Cluster = ClusterSettings
else:
    Cluster = Annotated[Union[SETTINGS], Field(discriminator="scheduler")]  # noqa: UP007


class Settings(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        env_prefix="HPCBRIDGE_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    server: ServerSettings = Field(default_factory=ServerSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    frontend: FrontEndSettings = Field(default_factory=FrontEndSettings)
    auth: AuthSettings = Field(default_factory=AuthSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    logs: LogSettings = Field(default_factory=LogSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    uploads: UploadSettings = Field(default_factory=UploadSettings)
    template_dirs: list[FilePath] = Field(
        default_factory=list, description="Directories of the admin's job templates, first wins."
    )
    clusters: dict[Name, Cluster] = Field(
        min_length=1, description="The batch systems, by name: [clusters.NAME]."
    )
    applications: dict[Name, ApplicationSettings] = Field(
        min_length=1, description="What users can ask for, by name: [applications.NAME]."
    )

    @model_validator(mode="after")
    def _clusters_exist(self) -> "Settings":
        for name, application in self.applications.items():
            for cluster in application.cluster:
                if cluster not in self.clusters:
                    raise ValueError(
                        f"applications.{name}.cluster is '{cluster}'; "
                        f"clusters: {', '.join(self.clusters)}"
                    )
        return self

    @model_validator(mode="after")
    def _tls_is_spoken(self) -> "Settings":
        if self.server.tls_certificate is not None and self.frontend.kind != "embedded":
            raise ValueError(
                f"server.tls_certificate: with frontend.kind = '{self.frontend.kind}', that web "
                "server speaks TLS, and this service is behind it"
            )
        return self

    @model_validator(mode="after")
    def _metrics_are_somebodys(self) -> "Settings":
        if self.metrics.access == "token" and "token" not in self.auth.accept:
            raise ValueError("metrics.access: 'token' needs 'token' in auth.accept")
        return self

    @model_validator(mode="after")
    def _applications_are_seen(self) -> "Settings":
        frontend, tops = self.frontend, [path.rstrip("/") for path in self.server.folders]
        if frontend.session_address == "path" and self.auth.on and not frontend.trust_applications:
            raise ValueError(
                "frontend.session_address: with 'path', every application can act as the users who "
                "log in at the portal. Use 'host', or say frontend.trust_applications = true"
            )
        for name, each in self.applications.items():
            if each.viewer == "page" and not self.has_session_addresses:
                raise ValueError(
                    f"applications.{name}.viewer: 'page' needs addresses of sessions; set "
                    "frontend.session_domain"
                )
            if each.page and not any(each.page.startswith(f"{path}/") for path in tops):
                raise ValueError(
                    f"applications.{name}.page: {each.page} is in no folder of server.content"
                )
        return self

    @model_validator(mode="after")
    def _replicas_reach_all(self) -> "Settings":
        here = [key for key, each in self.clusters.items() if not isinstance(each, RemoteCluster)]
        if here and str(self.store_url).startswith("postgresql"):
            raise ValueError(
                f"clusters.{here[0]}.scheduler: jobs of this batch runner run on one machine and "
                "belong to its service, and a PostgreSQL database is there to be shared by several "
                "services. Use a batch system, or leave store.url out for SQLite"
            )
        return self

    @model_validator(mode="after")
    def _replicas_mean_the_same_hosts(self) -> "Settings":
        shared = str(self.store_url).startswith("postgresql")
        for key, each in self.clusters.items():
            if shared and isinstance(each, HostsCluster) and each.has_this_machine:
                raise ValueError(
                    f"clusters.{key}.hosts: 'localhost' is another machine for each of the "
                    "services that share a PostgreSQL database. Name it as all of them know it"
                )
        return self

    @model_validator(mode="after")
    def _jobs_are_not_the_service(self) -> "Settings":
        for name, each in self.clusters.items():
            ours = isinstance(each, LocalCluster) and not (each.run_as or each.trust_jobs)
            if self.auth.on and ours:
                raise ValueError(
                    f"clusters.{name}: its jobs run as the service's own account, so they can "
                    "read its secrets and be any user of [auth]. Set run_as to another account, "
                    "or say trust_jobs = true"
                )
            if self.auth.on and isinstance(each, HostsCluster) and each.has_this_machine:
                raise ValueError(
                    f"clusters.{name}.hosts: jobs on 'localhost' run as the service's own account, "
                    "so they can read its secrets and be any user of [auth]. Name the machine as "
                    "SSH takes it, with another account in access.user"
                )
        return self

    @model_validator(mode="after")
    def _warm_sessions_are_somebodys(self) -> "Settings":
        for name, application in self.applications.items():
            if application.warm is None:
                continue
            clusters = [self.clusters[each] for each in application.cluster]
            wrong = warm_wrong(
                application.warm,
                walltime=application.walltime,
                keep_ended=self.store.keep_ended,
                has_users=self.auth.on,
                modes={each.identity.mode for each in clusters if isinstance(each, RemoteCluster)},
            )
            if wrong:
                raise ValueError(f"applications.{name}.warm: {wrong}")
        return self

    @model_validator(mode="after")
    def _uploads_are_somebodys(self) -> "Settings":
        if self.uploads.on and self.auth.on != self.uploads.by_user:
            raise ValueError(
                "uploads.directory: with users each needs a folder, so {user} must be in it, as in "
                "/shared/uploads/{user}"
                if self.auth.on
                else "uploads.directory: {user} needs users; set auth.accept, or leave it out"
            )
        for name, application in self.applications.items():
            for key, each in application.parameters.items():
                wrong = each.upload and self._upload_wrong(application)
                if wrong:
                    raise ValueError(f"applications.{name}.parameters.{key}.upload: {wrong}")
        return self

    def _upload_wrong(self, application: ApplicationSettings) -> str:
        """Why the application's jobs cannot read uploaded files; "" where they can."""
        if not self.uploads.on:
            return "nothing receives files; set uploads.directory"
        for name in application.cluster:
            cluster = self.clusters[name]
            if isinstance(cluster, LocalCluster) and cluster.run_as:
                return (
                    f"jobs on '{name}' run as '{cluster.run_as}', who cannot read files of the "
                    "service's account"
                )
            if isinstance(cluster, RemoteCluster) and cluster.identity.personal:
                return (
                    f"jobs on '{name}' are their users' (identity.mode = "
                    f"'{cluster.identity.mode}'), who cannot read files of the service's account"
                )
        return ""

    @model_validator(mode="after")
    def _users_are_known(self) -> "Settings":
        if not self.auth.on:
            limited = {f"applications.{key}": each for key, each in self.applications.items()}
            for key, each in ({"limits": self.limits} | limited).items():
                for limit in ("per_user", "waiting_per_user"):
                    if getattr(each, limit) is not None:
                        raise ValueError(f"{key}.{limit} needs users: set auth.accept")
            for name, cluster in self.clusters.items():
                if isinstance(cluster, RemoteCluster) and cluster.identity.personal:
                    raise ValueError(
                        f"clusters.{name}.identity.mode = '{cluster.identity.mode}' needs users: "
                        "set auth.accept"
                    )
        if "header" in self.auth.accept:
            self._only_the_front_end_is_believed()
        return self

    def _only_the_front_end_is_believed(self) -> None:
        server = self.server
        if wrong := proxies_wrong(server.trusted_proxies):
            raise ValueError(f"server.trusted_proxies: {wrong}; with auth.accept they name users")
        if "*" in server.cors_origins:
            raise ValueError("server.cors_origins: '*' would let every web page act for users")
        if server.unix_socket is None and server.host in ("0.0.0.0", "::", ""):  # noqa: S104
            raise ValueError(
                f"server.host: '{server.host}' shows everybody the port that the front end names "
                "users to; set one address, or server.unix_socket"
            )

    def take_over(self, fresh: "Settings") -> None:
        """Have from now on what may change while the service runs, as ``fresh`` has it: whoever
        holds these settings sees it. See :mod:`hpcbridge.config.reload`."""
        applications, clusters = dict(fresh.applications), dict(fresh.clusters)
        self.applications.clear()
        self.applications.update(applications)
        self.clusters.clear()
        self.clusters.update(clusters)
        self.__dict__.update(limits=fresh.limits, server=fresh.server)

    @property
    def store_url(self) -> str | URL:
        """The database's URL, password included."""
        if self.store.url is not None:
            return self.store.url.get_secret_value()
        database = self.server.state_dir / "hpcbridge.sqlite"
        return URL.create("sqlite+aiosqlite", database=str(database))

    @property
    def session_url(self) -> str:
        """The address that clients are given, yet to be filled in. See ``server.session_url``."""
        if self.server.session_url is not None:
            return self.server.session_url
        address = "${ws_scheme}://${request_host}/proxy?sessionId=${id}"
        # What Apache prints takes both. The old documentation's rule for ParaView's Visualizer
        # takes all that stands behind "sessionId=" for the id.
        path = f"&path={self.frontend.websocket_paths[0]}" if self.frontend.built_in else ""
        return f"{address}{path}"

    @property
    def session_domain(self) -> str | None:
        """Below which sessions have their names; None where nothing is known."""
        frontend = self.frontend
        local = frontend.server_name == "localhost" and frontend.kind == "embedded"
        return frontend.session_domain or ("localhost" if local else None)

    @property
    def has_session_addresses(self) -> bool:
        """Whether a session has an address of its own."""
        return self.frontend.session_address == "path" or self.session_domain is not None

    @property
    def own_names(self) -> list[str]:
        """The names under which browsers may reach this service; ``*`` is any."""
        return [self.frontend.server_name, *self.server.host_names, socket.gethostname()]

    @property
    def log_dir(self) -> Path:
        """Where the output of ended sessions is kept."""
        return self.logs.directory or self.server.state_dir / "logs"

    @property
    def socket_dir(self) -> Path:
        """Where tunnels end when ``frontend.local_end`` is ``unix``."""
        return self.frontend.socket_dir or self.server.state_dir / "sockets"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment goes above the file, whose content comes as keyword arguments."""
        return env_settings, init_settings
