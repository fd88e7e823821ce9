"""Prints what nginx (1.18 and later) needs to hand requests on to the service."""

from pathlib import Path
from typing import Literal

from hpcbridge.errors import ConfigError
from hpcbridge.frontends.parsing import ask
from hpcbridge.frontends.printing import TLS, Behind, Listen, file_name, render

Part = Literal["http", "portal", "sessions"]

LOG = Path("/var/log/nginx/hpcbridge.log")
"""In the directory of Debian's and Red Hat's nginx, which rotates what is there."""

_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def site(behind: Behind, listen: Listen, tls: TLS | None, *, login: Path, log: Path = LOG) -> str:
    """A file for the ``http`` block of nginx (``conf.d``): the portal's and the sessions' servers.

    Without ``tls`` they speak plain HTTP. ``login`` is the file that says who is logged in, read
    where ``behind`` has a user header. Raises :class:`~hpcbridge.errors.ConfigError`.
    """
    return _render(behind, None, login, log, listen=listen, tls=tls)


def snippet(behind: Behind, part: Part, *, login: Path, log: Path = LOG) -> str:
    """A part of that, for a site's own configuration.

    ``http`` belongs into its ``http`` block; ``portal`` are the locations of the portal's name, and
    ``sessions`` those of the domain of sessions. Raises :class:`~hpcbridge.errors.ConfigError`.
    """
    if part == "sessions" and behind.session_domain is None:
        raise ConfigError(
            "There is no domain of sessions: frontend.session_domain is not set, or "
            "frontend.session_address is 'path'."
        )
    return _render(behind, part, login, log)


def _render(behind: Behind, part: Part | None, login: Path, log: Path, **more: object) -> str:
    address = behind.address
    return render(
        "nginx.conf.j2" if part is None else "nginx-snippet.conf.j2",
        behind=behind,
        part=part,
        target=f"unix:{address}:" if isinstance(address, Path) else f"{address[0]}:{address[1]}",
        login=file_name("login_conf", login),
        log=file_name("log", log),
        **more,
    )


def check(printed: str) -> str:
    """What ``nginx -t`` says of :func:`site`; see :func:`~hpcbridge.frontends.parsing.ask`.

    As nginx's master does, it reads certificates and opens logs and ports: as root, then.
    """
    return ask("nginx", lambda directory: _test(directory, printed))


def _test(directory: Path, printed: str) -> list[str]:
    included, main = directory / "hpcbridge.conf", directory / "nginx.conf"
    included.write_text(printed)
    kept = "".join(f"    {each}_temp_path {directory}/{each};\n" for each in _TEMPORARY)
    main.write_text(
        f"pid {directory}/nginx.pid;\nevents {{}}\nhttp {{\n{kept}    include {included};\n}}\n"
    )
    return ["nginx", "-t", "-q", "-e", "stderr", "-c", str(main)]
