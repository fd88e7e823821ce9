"""Prints what HAProxy (2.4 and later) needs to hand requests on to the service."""

import re
from pathlib import Path

from hpcbridge.frontends.parsing import ask
from hpcbridge.frontends.printing import Behind, Listen, checked, file_name, render

_USERLIST = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def configuration(
    behind: Behind,
    listen: Listen,
    certificate: Path | None,
    *,
    secret_map: Path,
    userlist: str | None = None,
    whole: bool = True,
) -> str:
    """A ``haproxy.cfg``, or without ``whole`` one without ``global``, to be read beside another.

    ``certificate`` is a PEM file with the chain and the key, None for plain HTTP. ``secret_map`` is
    a map file that has the service's secret; ``userlist`` names those who log in with a password.
    Raises :class:`~hpcbridge.errors.ConfigError`.
    """
    address = behind.address
    wanted = "a name of letters, digits and . _ -"
    return render(
        "haproxy.cfg.j2",
        behind=behind,
        bind=f"{listen.host}:{listen.port}",
        bind_plain=f"{listen.host}:80" if certificate and listen.port == 443 else None,
        certificate=file_name("certificate", certificate),
        secret_map=file_name("secret_map", secret_map),
        server=f"unix@{address}" if isinstance(address, Path) else f"{address[0]}:{address[1]}",
        userlist=userlist and checked("userlist", userlist, _USERLIST, wanted),
        whole=whole,
    )


def check(printed: str) -> str:
    """What ``haproxy -c`` says of it; see :func:`~hpcbridge.frontends.parsing.ask`.

    It reads the certificate and the map of the secret: as root, then.
    """
    return ask("haproxy", lambda directory: _test(directory, printed))


def _test(directory: Path, printed: str) -> list[str]:
    file = directory / "haproxy.cfg"
    file.write_text(printed)
    return ["haproxy", "-c", "-f", str(file)]
