"""``hpcbridge doctor``: is a site in order?"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpcbridge.cli.options import Config

if TYPE_CHECKING:
    from hpcbridge.doctor.findings import Finding


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
    if not asyncio.run(report(config, audit=audit, user=user)):
        raise typer.Exit(1)


async def report(config: Path, *, audit: bool = False, user: str | None = None) -> bool:
    """Print what is found; whether all is well."""
    from hpcbridge import doctor

    well = True
    async for found in doctor.examine(config, audit=audit, user=user):
        show(found)
        well = well and found.good
    return well


def show(found: "Finding") -> None:
    """Print a line."""
    word, colour = ("ok  ", typer.colors.GREEN) if found.good else ("FAIL", typer.colors.RED)
    typer.secho(f"{word}  {found.what}: {found.said}", fg=colour)
