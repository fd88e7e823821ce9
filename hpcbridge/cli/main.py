"""The command ``hpcbridge``."""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

import hpcbridge
from hpcbridge import doctor, service
from hpcbridge.cli import tokens as tokencommands
from hpcbridge.config import file as configfile
from hpcbridge.config import parameters
from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.config.settings import Settings
from hpcbridge.errors import BridgeError, ConfigError
from hpcbridge.frontends import apache
from hpcbridge.identity import sudoers
from hpcbridge.jobscripts.render import TemplateSet, render
from hpcbridge.jobscripts.rules import Severity
from hpcbridge.jobscripts.samples import check_all, sample_context

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="ParaViewWeb's launcher API on a batch system: sessions run as batch jobs and are reached "
    "through SSH tunnels.",
)
config_app = typer.Typer(no_args_is_help=True, help="Look at the configuration.")
template_app = typer.Typer(no_args_is_help=True, help="Look at job templates and try them.")
frontend_app = typer.Typer(no_args_is_help=True, help="Print configuration for web servers.")
app.add_typer(config_app, name="config")
app.add_typer(template_app, name="template")
app.add_typer(frontend_app, name="frontend")
app.add_typer(tokencommands.app, name="token")

Config = Annotated[
    Path, typer.Argument(metavar="FILE", help="The TOML file, such as /etc/hpcbridge.toml.")
]
Application = Annotated[
    str, typer.Argument(metavar="APPLICATION", help="An application of the configuration.")
]
Parameters = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", metavar="NAME=VALUE", help="A value as a user would post it."),
]
OnCluster = Annotated[
    str | None, typer.Option("--cluster", help="One of its clusters; by default the first.")
]


def main() -> None:
    """Run the command; what went wrong is told in a sentence, with exit status 1."""
    with _plain_errors():
        app()


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:  # as it is where it was closed
                sys.stdout.flush()
    except BridgeError as error:
        print(f"hpcbridge: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            what = error.filename or "cannot write the output"
            print(f"hpcbridge: {what}: {error.strerror or error}.", file=sys.stderr)
        # What Python still holds would fail again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from error


def _version(wanted: bool) -> None:
    if wanted:
        print(f"hpcbridge {hpcbridge.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
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

    Prints "hpcbridge ready on http://HOST:PORT/" when it accepts requests. Sessions outlive it: the
    next service with the same state directory takes them up again.
    """
    settings = configfile.load(config)
    if port is not None:
        changed = settings.server.model_copy(update={"port": port})
        settings = settings.model_copy(update={"server": changed})
    logging.basicConfig(
        stream=sys.stderr,
        level=settings.server.log_level.upper(),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )
    for chatty in ("asyncssh", "aiosqlite", "uvicorn.error", "alembic", "httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)

    def ready(url: str) -> None:
        print(f"hpcbridge ready on {url}", flush=True)
        print(_first_steps(settings, url), flush=True)

    asyncio.run(service.serve(settings, end_sessions=end_sessions, ready=ready))


def _first_steps(settings: Settings, url: str) -> str:
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


@app.command("doctor")
def examine(
    config: Config,
    audit: Annotated[
        bool,
        typer.Option("--audit", help="Also compare the sessions with what is there of them."),
    ] = False,
    user: Annotated[
        str | None,
        typer.Option(help="Also look as this user, where users' jobs are their own."),
    ] = None,
) -> None:
    """Check a site from its configuration to its batch system; exit status 1 if a line is red.

    May run beside the service, as its account. It starts no job and changes nothing.
    """
    if not asyncio.run(_examine(config, audit=audit, user=user)):
        raise typer.Exit(1)


async def _examine(config: Path, *, audit: bool, user: str | None) -> bool:
    well = True
    async for found in doctor.examine(config, audit=audit, user=user):
        word, colour = ("ok  ", typer.colors.GREEN) if found.good else ("FAIL", typer.colors.RED)
        typer.secho(f"{word}  {found.what}: {found.said}", fg=colour)
        well = well and found.good
    return well


@app.command("sudoers")
def print_sudoers(
    config: Config,
    cluster: Annotated[str | None, typer.Option(help="A cluster, if there are several.")] = None,
    account: Annotated[
        str | None, typer.Option(help="This service's account where the commands run.")
    ] = None,
    helper: Annotated[
        bool, typer.Option("--helper", help="Print the program that the rules allow instead.")
    ] = False,
) -> None:
    """Print the rules that a cluster with identity.mode = 'sudo' needs where its commands run."""
    if helper:
        print(sudoers.HELPER.read_text(), end="")
        return
    print(sudoers.of_cluster(configfile.load(config), cluster, account), end="")


@config_app.command("show")
def config_show(config: Config) -> None:
    """Print the configuration in force: file, environment and defaults; secrets are masked."""
    print(configfile.show(configfile.load(config)), end="")


@template_app.command("list")
def template_list(config: Config) -> None:
    """List the templates there are, and which applications use them."""
    settings = configfile.load(config)
    templates = TemplateSet(settings.template_dirs)
    for name in templates.names():
        users = [key for key, each in settings.applications.items() if each.template == name]
        used = f"  (used by {', '.join(users)})" if users else ""
        print(f"{name:24} {templates.find(name)}{used}")


@template_app.command("show")
def template_show(
    config: Config,
    name: Annotated[str, typer.Argument(metavar="TEMPLATE", help="A name from 'template list'.")],
) -> None:
    """Print a template as it is, to be copied into one of template_dirs and edited there."""
    settings = configfile.load(config)
    print(TemplateSet(settings.template_dirs).source(name).text, end="")


@template_app.command("render")
def template_render(
    config: Config, application: Application, param: Parameters = None, cluster: OnCluster = None
) -> None:
    """Print the job script that a launch of APPLICATION would submit."""
    settings = configfile.load(config)
    wanted = _wanted(settings, application)
    if cluster is not None and cluster not in wanted.cluster:
        names = ", ".join(wanted.cluster)
        raise ConfigError(f"'{application}' does not run on '{cluster}'. Its clusters: {names}.")
    values = parameters.check_parameters(wanted.parameters, _posted(application, wanted, param))
    context = sample_context(settings, application, values, cluster)
    print(render(TemplateSet(settings.template_dirs), wanted.template, context), end="")


@template_app.command("check")
def template_check(config: Config) -> None:
    """Check the templates of all applications; exit status 1 when one cannot be used."""
    settings = configfile.load(config)
    failed = False
    for name, problems in check_all(settings):
        for problem in problems:
            print(f"{name}: {problem.severity}: {problem}")
        failed = failed or any(each.severity == Severity.ERROR for each in problems)
        if not problems:
            print(f"{name}: {settings.applications[name].template} is fine")
    if failed:
        raise typer.Exit(1)


def _wanted(settings: Settings, name: str) -> ApplicationSettings:
    wanted = settings.applications.get(name)
    if wanted is None:
        known = ", ".join(settings.applications)
        raise ConfigError(f"There is no application '{name}'. Applications: {known}.")
    return wanted


def _posted(name: str, wanted: ApplicationSettings, pairs: list[str] | None) -> dict[str, str]:
    for each in pairs or []:
        if "=" not in each:
            raise ConfigError(f"--param: {each!r} is not like NAME=VALUE.")
    posted = dict(each.partition("=")[::2] for each in pairs or [])
    if unknown := sorted(posted.keys() - wanted.parameters.keys()):
        declared = ", ".join(wanted.parameters) or "none"
        raise ConfigError(f"No parameter '{unknown[0]}' in '{name}'. Parameters: {declared}.")
    return posted


@frontend_app.command("apache")
def frontend_apache(
    config: Config,
    listen: Annotated[str, typer.Option(help="Address and port of the virtual host.")] = "*:80",
    secret_conf: Annotated[
        Path, typer.Option(help="File of Apache's that sets auth.secret_header; for its users.")
    ] = Path("/etc/apache2/hpcbridge-secret.conf"),
) -> None:
    """Print an Apache virtual host that forwards to this service and to its sessions."""
    settings = configfile.load(config)
    server, frontend = settings.server, settings.frontend
    longest = max(each.wait for each in settings.applications.values())
    host = f"[{server.host}]" if ":" in server.host else server.host
    tcp = f"http://{host}:{server.port}"
    users = "header" in settings.auth.accept
    printed = apache.virtual_host(
        server_name=frontend.server_name,
        listen=listen,
        api_url=f"unix:{server.unix_socket}|http://hpcbridge" if server.unix_socket else tcp,
        endpoint=server.endpoint,
        map_file=frontend.map_file,
        socket_dir=settings.socket_dir if frontend.local_end == "unix" else None,
        document_root=server.folders.get("/"),
        portal=server.portal,
        allowed_origins=[each for each in server.cors_origins if each != "*"],
        websocket_path=frontend.websocket_paths[0],
        timeout=int(longest) + 60,
        user_header=settings.auth.user_header if users else None,
        secret_header=settings.auth.secret_header if users else None,
        secret_conf=secret_conf if users else None,
    )
    print(printed, end="")
