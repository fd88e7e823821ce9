"""Arguments and options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="The TOML file, such as /etc/hpcbridge.toml, or a launcher.json."
    ),
]
Application = Annotated[
    str, typer.Argument(metavar="APPLICATION", help="An application of the configuration.")
]
AsJSON = Annotated[
    bool, typer.Option("--json", help="Print JSON, with all that the service tells.")
]
Socket = Annotated[
    Path | None,
    typer.Option(help="Reach the service on this machine by its unix socket, without the login."),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(help="Use the token in this file (mode 0600), instead of the login's."),
]
