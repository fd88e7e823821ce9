"""The command ``hpcbridge``: what it consists of, and how its errors are told.

Each group of commands has a module here. What a command works with is imported when it runs, so
that ``--help`` and shell completion answer at once.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

import hpcbridge
from hpcbridge.cli import (
    announce,
    backup,
    configuration,
    doctor,
    frontend,
    launcherfile,
    login,
    people,
    serve,
    sudoers,
    templates,
    tokens,
)
from hpcbridge.errors import BridgeError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="ParaViewWeb's launcher API on a batch system: sessions run as batch jobs and are reached "
    "through SSH tunnels.",
)
for _name, _work in (
    ("launch", people.launch),
    ("sessions", people.sessions),
    ("show", people.show),
    ("logs", people.logs),
    ("stop", people.stop),
    ("top", people.top),
    ("applications", people.applications),
    ("login", login.login),
    ("logout", login.logout),
):
    app.command(_name, rich_help_panel="For users of a service")(_work)
app.command("serve")(serve.serve)
app.command("import")(launcherfile.import_launcher)
app.command("doctor")(doctor.examine)
app.command("backup")(backup.back_up)
app.command("restore")(backup.restore)
app.command("announce")(announce.announce)
app.command("drain")(announce.drain)
app.command("undrain")(announce.undrain)
app.command("sudoers")(sudoers.print_rules)
app.add_typer(configuration.app, name="config")
app.add_typer(templates.app, name="template")
app.add_typer(frontend.app, name="frontend")
app.add_typer(tokens.app, name="token")


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
