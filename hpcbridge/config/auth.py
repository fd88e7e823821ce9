"""Settings of who may ask: the section ``[auth]``."""

import ipaddress
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hpcbridge.config.fields import FilePath, Pattern, Section

HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{1,63}$")]

TAKEN = {"authorization", "cookie", "forwarded", "host", "origin", "x-forwarded-for"}
"""Headers that mean something else to us or to a web server."""


class AuthSettings(Section):
    """Who may ask. Without ``accept``, whoever reaches the service is its one user."""

    accept: list[Literal["header", "token"]] = Field(
        default_factory=list,
        description="How users are known: header: the front end names them, with a secret; token: "
        "API tokens of 'hpcbridge token create'. None by default: then there are no users.",
    )
    user_header: HeaderName = Field(
        "X-Remote-User", description="Header in which the front end names the user."
    )
    secret_header: HeaderName = Field(
        "X-Hpcbridge-Secret", description="Header by which the front end proves that it is it."
    )
    secret_file: FilePath | None = Field(
        None,
        description="File of that secret: a line of 32 characters or more, of mode 0600, owned by "
        "the service's account or root.",
    )
    users_allowed: Pattern = Field(
        r"[a-z_][a-z0-9_.-]{0,31}",
        description="Regular expression that a user's whole name must match. Whatever it says, a "
        "name has at most 64 of the characters A-Z a-z 0-9 _ . @ + - and begins with none of .@+-",
    )
    least_uid: int = Field(
        1000,
        ge=1,
        description="Users whose account on this host has a lower uid are refused, as root is.",
    )
    operators: list[str] = Field(
        default_factory=list, description="Users who see and stop everybody's sessions."
    )
    audit_file: FilePath | None = Field(
        None,
        description="File (0600) of JSON lines: who did what, where and from where. The service's "
        "log by default.",
    )
    failures: int = Field(
        20,
        ge=1,
        description="Credentials that one address may get wrong in a minute; then it gets 429.",
    )

    @property
    def on(self) -> bool:
        """Whether there are users."""
        return bool(self.accept)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        names = [self.user_header.lower(), self.secret_header.lower()]
        if names[0] == names[1] or TAKEN & set(names):
            raise ValueError(
                "user_header and secret_header must be two headers that nothing else uses"
            )
        if "header" in self.accept and self.secret_file is None:
            raise ValueError(
                "accept = ['header'] needs secret_file: without a secret, any program on a trusted "
                "address could name any user"
            )
        return self


def proxies_wrong(addresses: list[str]) -> str | None:
    """Why these addresses must not be believed when they name a user; None where they may."""
    for each in addresses:
        try:
            network = ipaddress.ip_network(each, strict=False)
        except ValueError:
            return f"'{each}' is no address or network"
        if network.prefixlen == 0:
            return f"'{each}' is everybody"
    return None
