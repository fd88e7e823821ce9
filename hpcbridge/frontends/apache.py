"""Prints the virtual host with which Apache 2.4 serves the API and the sessions."""

import re
import shutil
from collections.abc import Collection
from pathlib import Path

from hpcbridge.errors import ConfigError
from hpcbridge.frontends.parsing import PATH, ask
from hpcbridge.frontends.printing import (
    ENDPOINT,
    HEADER,
    HOST,
    SERVER_NAME,
    checked,
    file_name,
    render,
)

_LISTEN = re.compile(rf"(?:\*|{HOST}):[0-9]{{1,5}}")
# Behind a unix socket the name says nothing, but must not be that of the sessions (localhost):
# mod_proxy would send their requests to this socket.
_API_URL = re.compile(rf"https?://{HOST}(?::[0-9]{{1,5}})?|unix:[^|]*\|http://hpcbridge")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?")
_PATH = re.compile(r"[A-Za-z0-9_-]+(?:[./][A-Za-z0-9_-]+)*")

# What sites use to tell an application who the user is, and what tells it where the user is.
_USER_HEADERS = (
    *("X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups"),
    *("X-Forwarded-Preferred-Username", "X-Forwarded-For", "X-Forwarded-Host"),
    *("X-Forwarded-Server", "Forwarded", "Remote-User", "REMOTE_USER", "X-Remote-User"),
    *("X-Remote-Group", "X-Remote-Groups", "X-Auth-Request-User", "X-Auth-Request-Email"),
    *("X-Authenticated-User", "X-WebAuth-User", "X-User", "X-Real-IP"),
)
_PRIVATE_HEADERS = (
    *("Cookie", "Authorization", "Proxy-Authorization", "Referer"),
    *("X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Remote-User"),
    *("Remote-User", "REMOTE_USER"),
)
# What a session's reply would tell browsers of everything on this server.
_ORIGIN_HEADERS = (
    *("Set-Cookie", "Set-Cookie2", "Clear-Site-Data", "Strict-Transport-Security", "Alt-Svc"),
    *("NEL", "Report-To", "Reporting-Endpoints", "Service-Worker-Allowed", "WWW-Authenticate"),
)


def virtual_host(
    *,
    server_name: str,
    host_names: Collection[str] = (),
    listen: str,
    api_url: str,
    endpoint: str,
    map_file: Path | None = None,
    socket_dir: Path | None = None,
    document_root: Path | None = None,
    portal: bool = False,
    content: Collection[str] = (),
    allowed_origins: Collection[str] = (),
    websocket_path: str = "ws",
    timeout: int = 900,
    user_header: str | None = None,
    secret_header: str | None = None,
    secret_conf: Path | None = None,
) -> str:
    """A complete virtual host for ``listen`` (``*:443``), which has ``host_names`` besides.

    ``api_url`` is where the service listens (``http://127.0.0.1:8080``, or
    ``unix:/PATH|http://hpcbridge``) and ``endpoint`` the API's path there and here. Sessions are
    found in ``map_file``, in ``socket_dir`` or in both; ``allowed_origins`` are pages on other
    hosts that may use them. ``timeout`` is in seconds and must be above every application's wait.
    With ``portal``, the service's page is served too; ``content`` are the paths of further pages
    that it has. Nothing else is served without ``document_root``. ``user_header`` and
    ``secret_header`` are those of ``[auth]``, where this server names the users; ``secret_conf`` is
    the file of its configuration that sets the second.

    Raises :class:`~hpcbridge.errors.ConfigError` for a value that could mean something else in
    Apache's configuration.
    """
    if api_url.startswith("unix:"):
        file_name("api_url", Path(api_url.removeprefix("unix:").partition("|")[0]))
    if map_file is None and socket_dir is None:
        raise ConfigError(
            "Apache finds sessions by frontend.map_file, or by frontend.local_end = 'unix'; "
            "neither is set."
        )
    if isinstance(timeout, bool) or not 1 <= timeout <= 7 * 24 * 3600:
        raise ConfigError(f"timeout is {timeout!r}; it must be 1 to 604800 seconds.")
    # All addresses are known.
    known = [each for each in (server_name, "localhost", *host_names) if each[0] != "["]
    values = {
        "server_name": checked("server_name", server_name, SERVER_NAME, "a host name"),
        "host_names": []
        if "*" in host_names
        else [checked("host_names", each, SERVER_NAME, "a host name") for each in known],
        "listen": checked("listen", listen, _LISTEN, "an address and port, such as '*:443'"),
        "api_url": checked("api_url", api_url, _API_URL, "a URL such as 'http://127.0.0.1:8080'"),
        "endpoint": checked("endpoint", endpoint, ENDPOINT, "a path such as '/paraview'"),
        "websocket_path": checked("websocket_path", websocket_path, _PATH, "a path such as 'ws'"),
        "user_header": user_header and checked("user_header", user_header, HEADER, "a header"),
        "secret_conf": file_name("secret_conf", secret_conf),
        "map_file": file_name("map_file", map_file),
        "socket_dir": file_name("socket_dir", socket_dir),
        "document_root": file_name("document_root", document_root),
        "allowed_origins": [
            checked("allowed_origins", origin, _ORIGIN, "like 'https://portal.example.org'")
            for origin in allowed_origins
        ],
        "portal": portal and document_root is None,
        "content": [file_name("content", Path(path)) for path in content],
        "timeout": timeout,
        "secret_header": secret_header
        and checked("secret_header", secret_header, HEADER, "a header"),
        "user_headers": _with(_USER_HEADERS, user_header, secret_header),
        "origin_headers": _ORIGIN_HEADERS,
        "private_headers": _with(_PRIVATE_HEADERS, user_header, secret_header),
    }
    return render("apache.conf.j2", **values)


def check(printed: str) -> str:
    """What this machine's Apache says of a virtual host, with the modules and files that it has.

    Raises :class:`~hpcbridge.errors.ConfigError` with its words where it does not take it.
    """
    return ask("Apache", lambda directory: _test(directory, printed))


def _test(directory: Path, printed: str) -> list[str]:
    file = directory / "hpcbridge.conf"
    file.write_text(printed)
    # Debian's apache2 wants an environment, which its apache2ctl makes.
    program = "apache2ctl" if shutil.which("apache2ctl", path=PATH) else "httpd"
    return [program, "-t", "-c", f'Include "{file}"']


def _with(headers: Collection[str], *more: str | None) -> list[str]:
    known = {header.lower() for header in headers}
    return [*headers, *(each for each in more if each and each.lower() not in known)]
