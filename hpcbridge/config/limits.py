"""The section ``[limits]``: how many sessions there may be."""

from pydantic import Field

from hpcbridge.config.fields import Section


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
