"""The section ``[frontend]``: the web server that users reach."""

from typing import Literal

from pydantic import Field, model_validator

from hpcbridge.config.fields import FilePath, Section


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

    @model_validator(mode="after")
    def _found_by_apache(self) -> "FrontEndSettings":
        if self.kind == "apache" and self.map_file is None and self.local_end != "unix":
            raise ValueError("kind = 'apache' needs map_file, or local_end = 'unix'")
        return self
