"""``hpcbridge config``: the configuration in force, and what each key means."""

from pathlib import Path
from typing import Annotated

import typer

from hpcbridge.cli.options import Config

app = typer.Typer(no_args_is_help=True, help="Look at the configuration.")


@app.callback()
def _group() -> None:
    pass


@app.command("show")
def show(config: Config) -> None:
    """Print the configuration in force: file, environment and defaults; secrets are masked.

    Keys that are not set stand there as comments.
    """
    from hpcbridge.config import file as configfile
    from hpcbridge.config import shown

    print(shown.show(configfile.load(config)), end="")


@app.command("explain")
def explain(
    key: Annotated[
        str | None,
        typer.Argument(
            metavar="[KEY]",
            help="A key such as server.port, clusters.NAME.slots or slots, or a section; all "
            "without.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Also tell what it is now, and where it is set."),
    ] = None,
) -> None:
    """Tell what a key means: its type, its default, what is allowed, and where it is set now."""
    from hpcbridge.config import explain as keys

    print(keys.explain(key, config) if key else keys.listing(), end="")
