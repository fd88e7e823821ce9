"""``hpcbridge announce``, ``drain`` and ``undrain``: what operators say, without a restart."""

from typing import Annotated

import typer

from hpcbridge.cli.options import Config

Text = Annotated[str, typer.Argument(metavar="[TEXT]", help="One line, for people.")]
Application = Annotated[str, typer.Option(help="Of this application only.")]
Cluster = Annotated[str, typer.Option(help="Of this cluster only.")]


def announce(
    config: Config,
    text: Text = "",
    application: Application = "",
    cluster: Cluster = "",
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Announce it no more.")] = False,
) -> None:
    """Announce TEXT in the portal, of the whole site, an application or a cluster.

    Without TEXT, print what is announced. Run it as the service's account; the service tells it
    from now on.
    """
    from hpcbridge.cli import announcework

    if withdraw:
        announcework.withdraw(config, application, cluster)
    elif text:
        announcework.announce(config, text, application, cluster, drain=False)
    else:
        announcework.listing(config)


def drain(
    config: Config,
    text: Text = "",
    application: Application = "",
    cluster: Cluster = "",
) -> None:
    """Refuse new sessions, with TEXT as the reason; those that run go on."""
    from hpcbridge.cli import announcework

    announcework.announce(config, text, application, cluster, drain=True)


def undrain(config: Config, application: Application = "", cluster: Cluster = "") -> None:
    """Take new sessions again; what was announced with the drain is withdrawn."""
    from hpcbridge.cli import announcework

    announcework.withdraw(config, application, cluster, drained=True)
