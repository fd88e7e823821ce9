"""``hpcbridge lookup``: what does a front end find of a session?"""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from hpcbridge.cli.options import Config


def look_up(
    config: Config,
    session: Annotated[
        str,
        typer.Argument(
            metavar="SESSION",
            help="Its id, or its job's name, which opens nothing; '-' reads it from standard "
            "input, since arguments are seen by all on this machine.",
        ),
    ],
) -> None:
    """Tell what a front end finds of a session; exit status 1 where it cannot be reached.

    For admins, whoever the session belongs to. Run it as the service's account.
    """
    name = sys.stdin.readline() if session == "-" else session
    if not asyncio.run(_look(config, name.strip())):
        raise typer.Exit(1)


async def _look(config: Path, name: str) -> bool:
    from hpcbridge.cli.doctor import show
    from hpcbridge.config import file as configfile
    from hpcbridge.doctor import lookup

    well = True
    async for found in lookup.look(configfile.load(config), name):
        show(found)
        well = well and found.good
    return well
