"""``hpcbridge config``: the configuration in force."""

import typer

from hpcbridge.cli.options import Config

app = typer.Typer(no_args_is_help=True, help="Look at the configuration.")


@app.callback()
def _group() -> None:
    pass


@app.command("show")
def show(config: Config) -> None:
    """Print the configuration in force: file, environment and defaults; secrets are masked."""
    from hpcbridge.config import file as configfile

    print(configfile.show(configfile.load(config)), end="")
