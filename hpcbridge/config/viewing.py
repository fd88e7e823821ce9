"""How an application is looked at, and what passes between its pages and their clients."""

import re
from string import Template
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from hpcbridge.config.fields import Section

KNOWN = {"id", "secret", "session_url"}
"""What values of ``inject`` may name as ``${...}``."""
_OURS = {"connection", "content-length", "host", "transfer-encoding", "upgrade"}


def _is_filled(text: str) -> str:
    template = Template(text)
    if not template.is_valid() or (unknown := set(template.get_identifiers()) - KNOWN):
        what = f"${{{min(unknown)}}} is not known" if template.is_valid() else "a $ stands alone"
        known = ", ".join(f"${{{each}}}" for each in sorted(KNOWN))
        raise ValueError(f"{what}; there are {known}, and $$ for a $")
    if not text.isascii() or not text.isprintable():
        raise ValueError("must be printable ASCII")
    return text


def _is_header(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,63}", text) or text.lower() in _OURS:
        raise ValueError(f"'{text}' is no header that an application may be given")
    return text


def _is_page(text: str) -> str:
    if not re.fullmatch(r"/[\x21-\x7e]*", text) or "\\" in text or text.startswith("//"):
        raise ValueError(f"'{text}' is no path, such as /lab")
    return text


Filled = Annotated[str, AfterValidator(_is_filled)]
Page = Annotated[str, AfterValidator(_is_page)]


class InjectSettings(Section):
    """What the application gets from the bridge, and no user has to have."""

    headers: dict[Annotated[str, AfterValidator(_is_header)], Filled] = Field(
        default_factory=dict,
        description="Headers of every request that reaches the application at its session's own "
        "address, such as Authorization = 'token ${secret}'. Filled in: ${secret}, ${id}, and "
        "${session_url}, the WebSocket's address.",
    )
    query: dict[str, Filled] = Field(
        default_factory=dict,
        description="Arguments that are added, on the way, to the query of every such request.",
    )
    launched: bool = Field(
        False,
        description="Whether its pages hear of this very session when they POST to paraview/ for "
        "one, as trame's and ParaViewWeb's do: so they begin no second one, and get the secret "
        "without an address that tells it.",
    )


class ViewSettings(Section):
    """How an application is looked at."""

    viewer: Literal["portal", "page", "content"] = Field(
        "portal",
        description="portal: the portal draws the pictures that it pushes; page: it has a page of "
        "its own, at its session's own address; content: a page in a folder of server.content.",
    )
    page_path: Page = Field(
        "/", description="Path, and query, of the page that is opened with viewer = 'page'."
    )
    page: Page | None = Field(
        None, description="Path of the page with viewer = 'content', such as /visualizer/."
    )
    strip_prefix: bool = Field(
        True,
        description="Where a session's address is a path: whether the application gets paths "
        "without it (X-Forwarded-Prefix tells), or is set to serve below it.",
    )
    cookies: list[str] | None = Field(
        None,
        description="Names of the cookies that pass between the application and its clients; * "
        "stands for any ending. By default none where a session's address is a path, since the "
        "portal's are the same there; else all but ours and those of known logins.",
    )
    inject: InjectSettings = Field(
        default_factory=InjectSettings, description="What the application gets from the bridge."
    )

    @model_validator(mode="after")
    def _has_a_page(self) -> "ViewSettings":
        if (self.viewer == "content") != (self.page is not None):
            raise ValueError("page and viewer = 'content' need each other")
        return self
