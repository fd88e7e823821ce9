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
