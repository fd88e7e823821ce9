"""Settings: one TOML file, with ``HPCBRIDGE_SECTION__KEY`` environment variables above it.

Every field's description is its documentation; ``hpcbridge config show`` prints what is in force.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from sqlalchemy import URL

from hpcbridge.config.adapters import SETTINGS
from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.config.auth import AuthSettings, proxies_wrong
from hpcbridge.config.clusters import ClusterSettings, RemoteCluster
from hpcbridge.config.fields import (
    Domain,
    FilePath,
    Folder,
    Name,
    Network,
    Origin,
    Seconds,
    Section,
)
from hpcbridge.config.warmrules import warm_wrong


def default_state_directory() -> Path:
    """``$STATE_DIRECTORY`` (systemd.exec(5)), else ``hpcbridge`` in the XDG state home."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "hpcbridge"


class ServerSettings(Section):
    """Where the service listens and what it keeps."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(
        8080, ge=0, le=65535, description="TCP port to listen on; 0 picks a free one."
    )
    unix_socket: FilePath | None = Field(
        None,
        description="Unix socket to listen on instead of host and port; frontend.group, or else "
        "this account alone, may connect.",
    )
    endpoint: str = Field(
        "/paraview",
        pattern=r"^/[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$",
        description="Path of the launcher API.",
    )
    state_dir: FilePath = Field(
        default_factory=default_state_directory,
        description="Directory (0700) of the database, local jobs and, by default, sockets.",
    )
    instance: str | None = Field(
        None,
        min_length=1,
        description="Name of this installation. Job names begin with a mark made of it, by which "
        "forgotten jobs are found and ended; so it must differ between services that do not share "
        "a database but an account of a cluster. By default, the machine's id and name, state_dir "
        "and the database's URL are taken; to be set where those change (containers) or are the "
        "same elsewhere (cloned machines). Kept in the database from the first start on.",
    )
    content: FilePath | dict[Folder, FilePath] | None = Field(
        None,
        description="Directory of static files to serve at / instead of the portal page; or a "
        "table of several, each with its path beside that page, as '/visualizer' = '/opt/pvw'.",
    )
    portal: bool = Field(
        True, description="Serve the page with a button for each application at /."
    )
    fields: list[str] = Field(
        default_factory=list,
        description="Further keys in a launch reply: cluster, host, port, job_id, state.",
    )
    session_url: str = Field(
        "${ws_scheme}://${request_host}/proxy?sessionId=${id}&path=ws",
        description="Address given to clients. Filled in: ${id}, ${host} and ${port} of the route, "
        "${request_host} and ${request_hostname} of the request, ${ws_scheme}. USE_HOST and "
        "USE_HOSTNAME are left for the client to fill in.",
    )
    max_body: int = Field(65536, ge=256, description="Largest request body, in bytes.")
    cors_origins: list[Origin] = Field(
        default_factory=list,
        description="Origins of other sites whose pages may call the launcher, or ['*'].",
    )
    check_origin: bool = Field(
        True,
        description="Refuse requests from pages of other sites that are not in cors_origins.",
    )
    on_disconnect: Literal["keep", "cancel"] = Field(
        "keep",
        description="What becomes of a launch whose client hangs up: kept for the application's "
        "'keep' seconds, for the same client to ask again, or cancelled at once.",
    )
    trusted_proxies: list[Network] = Field(
        default_factory=lambda: ["127.0.0.1", "::1"],
        description="Addresses and networks of the front end: its X-Forwarded-For and "
        "X-Forwarded-Proto headers are believed, and its auth.user_header with the secret. The "
        "other end of unix_socket always is one.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe messages that are logged."
    )

    @property
    def folders(self) -> dict[str, Path]:
        """The directories of static files, by their paths; the most particular path first."""
        if self.content is None:
            return {}
        found = self.content if isinstance(self.content, dict) else {"/": self.content}
        return dict(sorted(found.items(), key=lambda each: len(each[0]), reverse=True))

    @field_validator("content")
    @classmethod
    def _beside_the_portal(cls, value: Path | dict[str, Path] | None) -> Any:
        for each in value if isinstance(value, dict) else ():
            if each.split("/")[1] in ("portal", "proxy", "session"):
                raise ValueError(f"{each}: this path is the portal's")
        return value

    @field_validator("fields")
    @classmethod
    def _known_fields(cls, value: list[str]) -> list[str]:
        allowed = {"cluster", "host", "port", "job_id", "state"}
        if unknown := sorted(set(value) - allowed):
            raise ValueError(
                f"{', '.join(unknown)} not known; allowed: {', '.join(sorted(allowed))}"
            )
        return value


class StoreSettings(Section):
    """The database of sessions."""

    url: SecretStr | None = Field(
        None,
        description="SQLAlchemy URL; hpcbridge.sqlite in state_dir (sqlite+aiosqlite) by default.",
    )
    keep_ended: Seconds = Field(
        30 * 86400,
        description="Seconds for which ended sessions, and expired and revoked tokens, stay in the "
        "database.",
    )


class FrontEndSettings(Section):
    """The web server that users reach, and how it learns where sessions live."""

    kind: Literal["embedded", "apache"] = Field(
        "embedded",
        description="embedded: this service forwards /proxy itself; apache: Apache does.",
    )
    local_end: Literal["tcp", "unix"] = Field(
        "tcp",
        description="Local end of tunnels: a port of 127.0.0.1, or a unix socket by session id.",
    )
    map_file: FilePath | None = Field(
        None, description="Text map 'id host:port' for Apache's RewriteMap; written when set."
    )
    socket_dir: FilePath | None = Field(
        None, description="Directory of unix sockets; 'sockets' in state_dir by default."
    )
    group: str | None = Field(
        None, description="Group of the front end, given access to the map and the sockets."
    )
    websocket_paths: list[str] = Field(
        default_factory=lambda: ["ws"],
        min_length=1,
        description="Paths of a session that WebSockets may ask for.",
    )
    server_name: str = Field(
        "localhost",
        description="Name under which browsers reach the front end; 'hpcbridge frontend' prints it "
        "too. Without [auth], pages of another name may launch nothing on a loopback host.",
    )

    session_address: Literal["host", "path"] = Field(
        "host",
        description="A session's own address: host: ID.session_domain, an origin of its own; path: "
        "/session/ID/ on the portal's own host, where each application can act as the portal. "
        "With [auth], path needs trust_applications.",
    )
    session_domain: Domain | None = Field(
        None,
        description="Domain below which sessions have their names, such as sessions.example.org "
        "(wildcard name and certificate; no other service's cookies are to be set for it). By "
        "default 'localhost' where that is server_name and kind is 'embedded'; else none.",
    )
    trust_applications: bool = Field(
        False,
        description="Whether applications, and whoever writes what runs in them, are trusted with "
        "the portal and all its users' sessions.",
    )

    @model_validator(mode="after")
    def _found_by_apache(self) -> "FrontEndSettings":
        if self.kind == "apache" and self.map_file is None and self.local_end != "unix":
            raise ValueError("kind = 'apache' needs map_file, or local_end = 'unix'")
        return self


class LimitSettings(Section):
    """How much may run at once."""

    sessions: int = Field(200, ge=1, description="Sessions that may wait or run at once, in all.")
    per_user: int | None = Field(
        None, ge=1, description="Sessions of one user that may wait or run at once; needs [auth]."
    )
    waiting: int | None = Field(
        None, ge=1, description="Sessions whose jobs may wait for their start at once, in all."
    )
    waiting_per_user: int | None = Field(
        None, ge=1, description="The same for one user; needs [auth]."
    )
    connections: int | None = Field(
        None,
        ge=1,
        description="Connections that the service takes at once; by default what its descriptors "
        "(ulimit -n) allow.",
    )
    connections_per_address: int = Field(
        256,
        ge=1,
        description="The same from one address, but for those of server.trusted_proxies.",
    )
    connections_per_session: int = Field(
        256, ge=1, description="Connections to one session, through the built-in front end."
    )


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

    @property
    def store_url(self) -> str | URL:
        """The database's URL, password included."""
        if self.store.url is not None:
            return self.store.url.get_secret_value()
        database = self.server.state_dir / "hpcbridge.sqlite"
        return URL.create("sqlite+aiosqlite", database=str(database))

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
    def own_names(self) -> list[str] | None:
        """The names of this host that its own pages may have; None where any will do.

        Where there are no users, a port that only this machine reaches must not be open to every
        page whose name was made to lead here (DNS rebinding).
        """
        server = self.server
        loopback = server.host in ("localhost", "::1") or server.host.startswith("127.")
        guarded = loopback and server.unix_socket is None and not self.auth.on
        return [self.frontend.server_name] if guarded else None

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
