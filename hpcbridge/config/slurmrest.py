"""What a site configures to have Slurm spoken to by slurmrestd."""

import re
from typing import Annotated, Literal, Self

import httpx
from pydantic import AfterValidator, Field, model_validator

from hpcbridge.config.clusters import RemoteCluster
from hpcbridge.config.fields import FilePath
from hpcbridge.config.slurmrestversions import KNOWN, is_speakable

_SOCKET = "unix:"


def _speakable(text: str) -> str:
    if text.startswith(_SOCKET):
        if not text.startswith(f"{_SOCKET}/"):
            raise ValueError("a socket is named by its absolute path, as in unix:/run/slurmrestd")
        return text
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as error:
        raise ValueError(f"not a URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("allowed are http://HOST:PORT, https://HOST:PORT and unix:/PATH")
    if url.userinfo or url.query or url.fragment:
        raise ValueError("it may have a path, but no user, password, query or fragment")
    return text.rstrip("/")


Address = Annotated[str, AfterValidator(_speakable)]


class SlurmRestCluster(RemoteCluster):
    """Slurm by slurmrestd. Files still travel by ``ssh``, and tunnels as with any cluster."""

    scheduler: Literal["slurmrest"] = Field(description="Slurm, by its REST service slurmrestd.")
    url: Address = Field(
        description="Where slurmrestd listens: http://HOST:PORT, https://HOST:PORT or unix:/PATH."
    )
    user: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_.@-]{0,63}$",
        description="Account whose jobs they are; the one that owns the sessions' directories.",
    )
    version: str | None = Field(
        None,
        pattern=r"^v0\.0\.[0-9]{2,3}$",
        description="Version of the interface, such as v0.0.40; by default the newest that "
        "slurmrestd offers and hpcbridge knows. A newer one than those is tried as it is.",
    )
    token_file: FilePath | None = Field(
        None,
        description="File with the account's token (mode 0600, owned by the service's account or "
        "root), or a line SLURM_JWT=TOKEN; read again when it changes.",
    )
    token_command: list[str] | None = Field(
        None,
        min_length=1,
        description="Command that prints a token, such as scontrol token lifespan=3600; it runs "
        "where the other commands of a cluster run.",
    )
    jwt_key_file: FilePath | None = Field(
        None,
        description="The site's HS256 key (jwt_hs256.key, mode 0600, owned by the service's "
        "account or root): tokens are signed with it here.",
    )
    ca: FilePath | None = Field(
        None, description="Certificates that sign slurmrestd's own; those of the system by default."
    )
    answer_limit: int = Field(
        64,
        ge=1,
        le=4096,
        description="Mebibytes that an answer may have. slurmrestd lists all users' jobs: 1,000 of "
        "them have 4 to 10 MiB.",
    )
    environment: dict[str, str] = Field(
        default_factory=dict,
        description="Variables of the jobs' environment, beside PATH, HOME, USER, LOGNAME and "
        "SHELL, which can be set here as well.",
    )

    @property
    def socket(self) -> str | None:
        """The path of the Unix socket, where it is one."""
        return self.url.removeprefix(_SOCKET) if self.url.startswith(_SOCKET) else None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        given = [
            name
            for name in ("token_file", "token_command", "jwt_key_file")
            if getattr(self, name) is not None
        ]
        if len(given) > 1:
            raise ValueError(f"set one of {' and '.join(given)}, not several")
        if not given and self.socket is None:
            raise ValueError(
                "slurmrestd wants a token: set token_file, token_command or jwt_key_file (a socket "
                "with rest_auth/local needs none)"
            )
        if self.identity.personal and self.jwt_key_file is None:
            raise ValueError(
                f"identity.mode = '{self.identity.mode}' needs jwt_key_file: only with the site's "
                "key can a token be made for each user"
            )
        if self.version is not None and not is_speakable(self.version):
            raise ValueError(f"version is one of {', '.join(KNOWN)}, or newer")
        if self.ca is not None and not self.url.startswith("https:"):
            raise ValueError("ca is for a url that begins with https:")
        wrong = [name for name in self.environment if not re.fullmatch(r"[A-Za-z_]\w*", name)]
        if wrong or any("\0" in value for value in self.environment.values()):
            raise ValueError(f"environment has no variable like this: {', '.join(wrong) or 'NUL'}")
        return self
