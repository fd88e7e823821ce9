"""``hpcbridge sudoers``: the rules by which jobs run as their users."""

from typing import Annotated

import typer

from hpcbridge.cli.options import Config


def print_rules(
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
    from hpcbridge.config import file as configfile
    from hpcbridge.identity import sudoers

    if helper:
        print(sudoers.HELPER.read_text(), end="")
        return
    print(sudoers.of_cluster(configfile.load(config), cluster, account), end="")
