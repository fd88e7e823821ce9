"""``hpcbridge login`` and ``hpcbridge logout``: whose commands these are, and at which service."""

from pathlib import Path
from typing import Annotated

import typer

from hpcbridge.cli.options import AsJSON


def login(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="The service, such as https://viz.example.org.")
    ],
    ca: Annotated[
        Path | None,
        typer.Option(help="A file of certificates that are trusted beside the system's."),
    ] = None,
    cleartext: Annotated[
        bool,
        typer.Option("--cleartext", help="Send the token to another machine without encryption."),
    ] = False,
    as_json: AsJSON = False,
) -> None:
    """Log in to a service: its API token is asked for, or read from the standard input.

    It is tried, and kept in a file for you alone (0600) in your configuration directory. An
    administrator makes tokens by 'hpcbridge token create'.
    """
    from hpcbridge.cli import loginwork

    loginwork.login(url, ca, cleartext=cleartext, as_json=as_json)


def logout(as_json: AsJSON = False) -> None:
    """Forget the login. The token stays valid until it expires or is revoked."""
    from hpcbridge.cli import loginwork

    loginwork.logout(as_json=as_json)
