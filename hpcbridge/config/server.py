"""The section ``[server]``: where the service listens, and what its replies are."""

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from hpcbridge.config.fields import FilePath, Folder, HostName, Network, Origin, Primitive, Section

MONITORING = ("livez", "readyz", "status", "metrics")
"""Paths at the top that monitoring asks for."""


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
    tls_certificate: FilePath | None = Field(
        None,
        description="Certificate (PEM, the chain's others behind it) with which the service itself "
        "speaks HTTPS on host and port; read again within some seconds when it or tls_key changes.",
    )
    tls_key: FilePath | None = Field(
        None,
        description="Its private key (PEM, no passphrase); this account's or root's file, mode "
        "0600.",
    )
    hsts: str | None = Field(
        None,
        pattern=r"^max-age=[0-9]{1,10}(; includeSubDomains)?(; preload)?$",
        description="Strict-Transport-Security of all replies, as 'max-age=31536000'; needs "
        "tls_certificate. Browsers keep it: begin with a small one.",
    )
    endpoint: str = Field(
        "/paraview",
        pattern=r"^/[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$",
        description="Path of the launcher API.",
    )
    state_dir: FilePath = Field(
        default_factory=default_state_directory,
        description="Directory (0700) of the database, local jobs and, by default, sockets.",
        json_schema_extra={"default": "$STATE_DIRECTORY, else ~/.local/state/hpcbridge"},
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
    reply: dict[str, Primitive] = Field(
        default_factory=dict,
        description="Texts that a launch reply has besides, by key. Filled in: ${id}, ${host} and "
        "${port} of the route, ${application}, ${param.NAME} as posted; a text of which something "
        "is not known is left out.",
    )
    session_url: str | None = Field(
        None,
        description="Address given to clients. Filled in: ${id}, ${host} and ${port} of the route, "
        "${request_host} and ${request_hostname} of the request, ${ws_scheme}, and ${server_name} "
        "of the front end. USE_HOST and USE_HOSTNAME are left for the client to fill in. By "
        "default ${ws_scheme}://${request_host}/proxy?sessionId=${id} for Apache, and with "
        "&path=ws behind it for the built-in front end.",
    )
    max_body: int = Field(65536, ge=256, description="Largest request body, in bytes.")
    cors_origins: list[Origin] = Field(
        default_factory=list,
        description="Origins of other sites whose pages may call the launcher, or ['*'].",
    )
    host_names: list[HostName] = Field(
        default_factory=list,
        description="Further names under which browsers reach this service, besides "
        "frontend.server_name, localhost, this machine's own name and addresses. A request for any "
        "other gets 421, for a page may have had its name lead here. ['*'] takes all.",
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
    log_format: Literal["text", "json"] = Field(
        "text",
        description="text: lines for people; json: an object a line, for programs. Either way one "
        "event is one line.",
    )

    @property
    def folders(self) -> dict[str, Path]:
        """The directories of static files, by their paths; the most particular path first."""
        if self.content is None:
            return {}
        found = self.content if isinstance(self.content, dict) else {"/": self.content}
        return dict(sorted(found.items(), key=lambda each: len(each[0]), reverse=True))

    @property
    def scheme(self) -> str:
        """Of the service's own addresses: http or https."""
        return "http" if self.tls_certificate is None else "https"

    @model_validator(mode="after")
    def _tls_is_whole(self) -> "ServerSettings":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together; one of them is missing")
        if self.tls_certificate is not None and self.unix_socket is not None:
            raise ValueError(
                "tls_certificate: a unix_socket has no TLS; the web server that connects to it has"
            )
        if self.hsts is not None and self.tls_certificate is None:
            raise ValueError(
                "hsts: needs tls_certificate; where another program speaks TLS, it sends this"
            )
        return self

    @field_validator("content")
    @classmethod
    def _beside_the_portal(cls, value: Path | dict[str, Path] | None) -> Any:
        for each in value if isinstance(value, dict) else ():
            if each.split("/")[1] in ("portal", "proxy", "session"):
                raise ValueError(f"{each}: this path is the portal's")
            if each.split("/")[1] in MONITORING:
                raise ValueError(f"{each}: this path is for monitoring")
        return value

    @field_validator("endpoint")
    @classmethod
    def _beside_monitoring(cls, value: str) -> str:
        if value.split("/")[1] in MONITORING:
            raise ValueError(f"{value}: this path is for monitoring")
        return value

    @field_validator("reply")
    @classmethod
    def _free_keys(cls, value: dict[str, Primitive]) -> dict[str, Primitive]:
        if taken := sorted(value.keys() & {"id", "secret", "sessionURL", "error"}):
            raise ValueError(f"{', '.join(taken)}: reserved by the launcher API")
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
