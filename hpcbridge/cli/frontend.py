"""``hpcbridge frontend``: configuration for the web server that users reach."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpcbridge.cli.options import Config

if TYPE_CHECKING:
    from hpcbridge.frontends.printing import TLS, Behind

app = typer.Typer(no_args_is_help=True, help="Print configuration for web servers.")


Listen = Annotated[str, typer.Option(help="Port, or address and port, to listen on.")]
Plain = Annotated[
    bool, typer.Option("--plain", help="No TLS, for a test or behind another proxy that has it.")
]
Certificate = Annotated[
    Path | None,
    typer.Option(help="Certificate (PEM); /etc/ssl/certs/SERVER_NAME.pem by default."),
]
Key = Annotated[
    Path | None,
    typer.Option(help="Its private key; /etc/ssl/private/SERVER_NAME.key by default."),
]
Check = Annotated[
    bool,
    typer.Option("--check", help="Print nothing; ask the server's own parser. Run it as root."),
]


class NginxPart(StrEnum):
    """What of nginx's configuration is printed for a site's own one."""

    HTTP = "http"
    PORTAL = "portal"
    SESSIONS = "sessions"


@app.callback()
def _group() -> None:
    pass


@app.command("apache")
def apache(
    config: Config,
    listen: Annotated[str, typer.Option(help="Address and port of the virtual host.")] = "*:80",
    secret_conf: Annotated[
        Path, typer.Option(help="File of Apache's that sets auth.secret_header; for its users.")
    ] = Path("/etc/apache2/hpcbridge-secret.conf"),
    check: Check = False,
) -> None:
    """Print an Apache virtual host that forwards to this service and to its sessions."""
    from hpcbridge.config import file as configfile
    from hpcbridge.frontends import apache as web

    settings = configfile.load(config)
    server, frontend = settings.server, settings.frontend
    longest = max(each.wait for each in settings.applications.values())
    host = f"[{server.host}]" if ":" in server.host else server.host
    tcp = f"http://{host}:{server.port}"
    users = "header" in settings.auth.accept
    printed = web.virtual_host(
        server_name=frontend.server_name,
        host_names=server.host_names,
        listen=listen,
        api_url=f"unix:{server.unix_socket}|http://hpcbridge" if server.unix_socket else tcp,
        endpoint=server.endpoint,
        map_file=frontend.map_file,
        socket_dir=settings.socket_dir if frontend.local_end == "unix" else None,
        document_root=server.folders.get("/"),
        portal=server.portal,
        content=[path for path in server.folders if path != "/"],
        allowed_origins=[each for each in server.cors_origins if each != "*"],
        websocket_path=frontend.websocket_paths[0],
        timeout=int(longest) + 60,
        user_header=settings.auth.user_header if users else None,
        secret_header=settings.auth.secret_header if users else None,
        secret_conf=secret_conf if users else None,
    )
    _show(printed, web.check if check else None)


@app.command("nginx")
def nginx(
    config: Config,
    listen: Listen = "443",
    certificate: Certificate = None,
    key: Key = None,
    plain: Plain = False,
    login_conf: Annotated[
        Path, typer.Option(help="File of nginx's that says who is logged in; for its users.")
    ] = Path("/etc/nginx/hpcbridge-login.conf"),
    snippet: Annotated[
        NginxPart | None,
        typer.Option(help="Print only this part, for a server block that you have."),
    ] = None,
    check: Check = False,
) -> None:
    """Print nginx's configuration: it hands requests on to this service, which serves sessions."""
    from hpcbridge.errors import ConfigError
    from hpcbridge.frontends import nginx as server
    from hpcbridge.frontends.printing import Listen

    behind = _behind(config)
    if snippet is not None:
        if check:
            raise ConfigError("--check is for all of the configuration, without --snippet.")
        print(server.snippet(behind, snippet.value, login=login_conf), end="")
        return
    tls = None if plain else _tls(behind, certificate, key)
    printed = server.site(behind, Listen.parse(listen), tls, login=login_conf)
    _show(printed, server.check if check else None)


@app.command("haproxy")
def haproxy(
    config: Config,
    listen: Listen = "443",
    certificate: Annotated[
        Path | None,
        typer.Option(
            help="PEM file with the certificate and its key; /etc/haproxy/SERVER_NAME.pem by "
            "default."
        ),
    ] = None,
    plain: Plain = False,
    secret_map: Annotated[
        Path, typer.Option(help="HAProxy's map file that has auth.secret_file's line; for users.")
    ] = Path("/etc/haproxy/hpcbridge-secret.map"),
    userlist: Annotated[
        str | None, typer.Option(help="The userlist of those who log in with a password.")
    ] = None,
    snippet: Annotated[
        bool, typer.Option("--snippet", help="Leave 'global' out, for a site that has it.")
    ] = False,
    check: Check = False,
) -> None:
    """Print HAProxy's configuration: it hands requests on to this service."""
    from hpcbridge.frontends import haproxy as server
    from hpcbridge.frontends.printing import Listen

    behind = _behind(config)
    pem = certificate or Path(f"/etc/haproxy/{behind.names[0]}.pem")
    printed = server.configuration(
        behind,
        Listen.parse(listen),
        None if plain else pem,
        secret_map=secret_map,
        userlist=userlist,
        whole=not snippet,
    )
    _show(printed, server.check if check else None)


@app.command("traefik")
def traefik(
    config: Config,
    listen: Listen = "443",
    certificate: Certificate = None,
    key: Key = None,
    plain: Plain = False,
    login_conf: Annotated[
        Path,
        typer.Option(
            help="File, beside the printed one, that says who is logged in; for its users."
        ),
    ] = Path("/etc/traefik/hpcbridge/login.yml"),
    static: Annotated[
        bool,
        typer.Option("--static", help="Print traefik.yml, which says where the other file is."),
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Print nothing; start Traefik with it for a moment."),
    ] = False,
) -> None:
    """Print Traefik's configuration: it hands requests on to this service."""
    from hpcbridge.errors import ConfigError
    from hpcbridge.frontends import traefik as server
    from hpcbridge.frontends.printing import Listen

    behind, place = _behind(config), Listen.parse(listen)
    if static:
        if check:
            raise ConfigError("--check is for the other file, without --static.")
        print(server.static(place, tls=not plain, directory=login_conf.parent), end="")
        return
    tls = None if plain else _tls(behind, certificate, key)
    printed = server.dynamic(behind, tls, login=login_conf)

    def ask(text: str) -> str:
        return server.check(text, tls, login=login_conf if behind.user_header else None)

    _show(printed, ask if check else None)


def _behind(config: Path) -> "Behind":
    from hpcbridge.config import file as configfile
    from hpcbridge.frontends.printing import behind

    return behind(configfile.load(config))


def _tls(behind: "Behind", certificate: Path | None, key: Path | None) -> "TLS":
    from hpcbridge.frontends.printing import TLS

    name = behind.names[0]
    return TLS(
        certificate or Path(f"/etc/ssl/certs/{name}.pem"),
        key or Path(f"/etc/ssl/private/{name}.key"),
    )


def _show(printed: str, check: Callable[[str], str] | None) -> None:
    if check is None:
        print(printed, end="")
        return
    said = check(printed)
    print(f"{said}\nThe server takes it." if said else "The server takes it.")
