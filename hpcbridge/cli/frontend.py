"""``hpcbridge frontend``: configuration for the web server that users reach."""

from pathlib import Path
from typing import Annotated

import typer

from hpcbridge.cli.options import Config

app = typer.Typer(no_args_is_help=True, help="Print configuration for web servers.")


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
) -> None:
    """Print an Apache virtual host that forwards to this service and to its sessions."""
    from hpcbridge.config import file as configfile
    from hpcbridge.frontends.apache import virtual_host

    settings = configfile.load(config)
    server, frontend = settings.server, settings.frontend
    longest = max(each.wait for each in settings.applications.values())
    host = f"[{server.host}]" if ":" in server.host else server.host
    tcp = f"http://{host}:{server.port}"
    users = "header" in settings.auth.accept
    printed = virtual_host(
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
    print(printed, end="")
