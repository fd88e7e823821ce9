"""``hpcbridge serve``: the service in the foreground."""

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from hpcbridge.cli.options import Config

if TYPE_CHECKING:
    from hpcbridge.config.settings import Settings


def serve(
    config: Config,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="TCP port instead of the file's.")
    ] = None,
    end_sessions: Annotated[
        bool,
        typer.Option("--end-sessions", help="When stopped, end all sessions; else they go on."),
    ] = False,
) -> None:
    """Run the service in the foreground until Ctrl-C or SIGTERM.

    Without a terminal, SIGHUP has it read the configuration again.

    Prints "hpcbridge ready on http://HOST:PORT/" when it accepts requests. Sessions outlive it: the
    next service with the same state directory takes them up again.
    """
    from hpcbridge import service
    from hpcbridge.cli.logformat import JSON, Text
    from hpcbridge.config import file as configfile

    def read() -> "Settings":
        settings = configfile.load(config)
        if port is None:
            return settings
        changed = settings.server.model_copy(update={"port": port})
        return settings.model_copy(update={"server": changed})

    settings = read()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSON() if settings.server.log_format == "json" else Text())
    logging.basicConfig(level=settings.server.log_level.upper(), handlers=[handler])
    for chatty in ("asyncssh", "aiosqlite", "uvicorn.error", "alembic", "httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)

    def ready(url: str) -> None:
        print(f"hpcbridge ready on {url}", flush=True)
        print(_first_steps(settings, url), flush=True)

    asyncio.run(service.serve(settings, end_sessions=end_sessions, ready=ready, reread=read))


def _first_steps(settings: "Settings", url: str) -> str:
    """What a person may do now."""
    if url.startswith("unix:"):
        return "  The front end connects to it. Ctrl-C stops the service."
    address = url.rstrip("/") + settings.server.endpoint
    name = next(iter(settings.applications))
    body = f'{{"application": "{name}"}}'
    if settings.auth.accept == ["header"]:
        return "  The front end names the users to it. Ctrl-C stops the service."
    token = '-H "Authorization: Bearer TOKEN" ' if settings.auth.on else ""
    at_root = "/" in settings.server.folders
    page = settings.server.portal and not at_root and not settings.auth.on
    return (
        (f"  In a browser:   {url}\n" if page else "")
        + f"  In a terminal:  curl -X POST {token}-d '{body}' {address}\n"
        + "  Ctrl-C stops the service."
    )
