"""The section ``[frontend]``: the web server that users reach."""

from typing import Literal

from pydantic import Field, model_validator

from hpcbridge.config.fields import Domain, FilePath, Section


class FrontEndSettings(Section):
    """The web server that users reach, and how it learns where sessions live."""

    kind: Literal["embedded", "apache", "nginx", "haproxy", "traefik"] = Field(
        "embedded",
        description="embedded: this service serves sessions itself; nginx, haproxy, "
        "traefik: it does, behind that web server, which hands all on to it; apache: Apache "
        "connects to sessions.",
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
        "too. Further names are server.host_names; under others nothing is answered.",
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

    @property
    def built_in(self) -> bool:
        """Whether this service serves sessions itself, perhaps behind a web server."""
        return self.kind != "apache"

    @model_validator(mode="after")
    def _found_by_apache(self) -> "FrontEndSettings":
        if self.kind == "apache" and self.map_file is None and self.local_end != "unix":
            raise ValueError("kind = 'apache' needs map_file, or local_end = 'unix'")
        return self
