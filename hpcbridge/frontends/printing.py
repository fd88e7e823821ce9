"""What all printed configurations of web servers have in common.

Each value is checked before it is printed: it must not be able to mean something else in any of
their languages.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import jinja2

from hpcbridge.config.settings import Settings
from hpcbridge.errors import ConfigError

HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"
"""A name or an address, as in a URL."""
SERVER_NAME = re.compile(HOST)
ENDPOINT = re.compile(r"/[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*")
HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_FILE = re.compile(r"(?:/[A-Za-z0-9_+@=,-][A-Za-z0-9._+@=,-]*)+")
_LISTEN = re.compile(rf"(?:(?P<host>\*|{HOST}):)?(?P<port>[0-9]{{1,5}})")

_DAY = 24 * 3600

_environment = jinja2.Environment(
    loader=jinja2.PackageLoader("hpcbridge.frontends"),
    undefined=jinja2.StrictUndefined,
    autoescape=False,  # noqa: S701 - not HTML; every value is checked
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def render(template: str, **values: object) -> str:
    """The text of one of our templates."""
    return _environment.get_template(template).render(values)


def checked(name: str, value: str, pattern: re.Pattern[str], wanted: str) -> str:
    """``value``, the whole of which matches. Raises :class:`~hpcbridge.errors.ConfigError`."""
    if not pattern.fullmatch(value):
        raise ConfigError(f"{name} is {value!r}; it must be {wanted}.")
    return value


def file_name(name: str, path: Path | None) -> str | None:
    """A path of characters that mean nothing else. Raises ConfigError."""
    if path is None:
        return None
    return checked(name, str(path), _FILE, "an absolute path of letters, digits and . _ + @ = , -")


@dataclass(frozen=True)
class Listen:
    """Where a web server listens: ``443``, ``*:443``, ``127.0.0.1:8443``, ``[::1]:443``.

    ``host`` is "*" for all addresses.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Listen":
        """Raises :class:`~hpcbridge.errors.ConfigError`."""
        found = _LISTEN.fullmatch(text)
        if found is None or not 1 <= int(found["port"]) <= 65535:
            raise ConfigError(
                f"listen is {text!r}; it must be a port, or an address and a port, such as '443' "
                "or '192.0.2.1:443'."
            )
        return cls(found["host"] or "*", int(found["port"]))


@dataclass(frozen=True)
class TLS:
    """Where a web server has its certificate, with the chain's others behind it, and its key."""

    certificate: Path
    key: Path

    def __post_init__(self) -> None:
        """Raise :class:`~hpcbridge.errors.ConfigError` for paths that could mean something else."""
        file_name("certificate", self.certificate)
        file_name("key", self.key)


@dataclass(frozen=True)
class Behind:
    """A service whose built-in front end serves all that a web server hands on to it.

    Raises :class:`~hpcbridge.errors.ConfigError` for a value that could mean something else in a
    web server's configuration.
    """

    #: The portal's names, the first being the one that people are told. Never ``*``.
    names: tuple[str, ...]
    #: Whether the service answers to all names.
    any_name: bool
    #: Where the service listens: a host and a port, or a unix socket.
    address: tuple[str, int] | Path
    #: The path of the launcher API.
    endpoint: str
    #: Further paths that are served: pages of the site.
    content: tuple[str, ...] = ()
    #: Whether there is a page at ``/``.
    page: bool = False
    #: Whether there is the portal.
    portal: bool = False
    #: Whether sessions are at ``/session/ID/``.
    session_paths: bool = False
    #: The domain below which sessions have their names; None where they have none.
    session_domain: str | None = None
    #: The header that names the user, and the one that proves it; None where users do not log in
    #: at the web server.
    user_header: str | None = None
    secret_header: str | None = None
    #: Seconds of silence after which a connection may be ended: above every application's wait.
    silence: int = _DAY

    def __post_init__(self) -> None:
        for name in self.names:
            checked("server_name", name, SERVER_NAME, "a host name")
        if isinstance(self.address, Path):
            file_name("unix_socket", self.address)
        else:
            checked("host", self.address[0], SERVER_NAME, "a host name or an address")
            if not 1 <= self.address[1] <= 65535:
                raise ConfigError("server.port is 0, any free one; a web server needs one to find.")
        checked("endpoint", self.endpoint, ENDPOINT, "a path such as '/paraview'")
        for path in self.content:
            file_name("content", Path(path))
        if self.session_domain is not None:
            checked("session_domain", self.session_domain, SERVER_NAME, "a host name")
        for header in (self.user_header, self.secret_header):
            if header is not None:
                checked("header", header, HEADER, "a header's name")

    @property
    def believed(self) -> list[str]:
        """Headers that the service believes of a web server, which no client may send through it.

        Besides ``X-Forwarded-For`` and ``X-Forwarded-Proto``, which each of them sets.
        """
        given = [each for each in (self.user_header, self.secret_header) if each]
        return ["X-Forwarded-Host", "Forwarded", *given]

    @property
    def api(self) -> list[str]:
        """Paths at which the service looks at API tokens, and what is below them.

        At all others a login must not be left out for a token: nobody would look at it.
        """
        return [self.endpoint, "/proxy"]

    @property
    def tops(self) -> list[str]:
        """Paths that the service has, besides ``/``, and what is below them."""
        return [*self.api, *(["/portal"] if self.portal else []), *self.content]


def behind(settings: Settings) -> Behind:
    """What a configuration printed for these settings has to know.

    Raises :class:`~hpcbridge.errors.ConfigError`.
    """
    server, frontend = settings.server, settings.frontend
    if not frontend.built_in:
        raise ConfigError(
            f"frontend.kind is '{frontend.kind}', for which the service does not serve sessions "
            "itself. Set it to the web server that is to be in front of it."
        )
    if server.tls_certificate is not None:
        raise ConfigError(
            "server.tls_certificate: the service speaks TLS itself; leave it out where a web "
            "server in front does."
        )
    users = "header" in settings.auth.accept
    host = f"[{server.host}]" if ":" in server.host else server.host
    names = [frontend.server_name, *(each for each in server.host_names if each != "*")]
    longest = max(each.wait for each in settings.applications.values())
    paths = frontend.session_address == "path"
    return Behind(
        names=tuple(dict.fromkeys(names)),
        any_name="*" in server.host_names,
        address=server.unix_socket or (host, server.port),
        endpoint=server.endpoint,
        content=tuple(path for path in server.folders if path != "/"),
        page="/" in server.folders or server.portal,
        portal=server.portal and "/" not in server.folders,
        session_paths=paths,
        session_domain=None if paths else settings.session_domain,
        user_header=settings.auth.user_header if users else None,
        secret_header=settings.auth.secret_header if users else None,
        silence=max(_DAY, int(longest) + 60),
    )
