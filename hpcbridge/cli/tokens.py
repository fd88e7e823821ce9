"""``hpcbridge token``: API tokens are made, listed and revoked."""

from typing import Annotated

import typer

from hpcbridge.cli.options import Config

app = typer.Typer(
    no_args_is_help=True, help="Make, list and revoke API tokens; run it as the service's account."
)


@app.command()
def create(
    config: Config,
    user: Annotated[str, typer.Option(help="Whose token it is.")],
    scope: Annotated[
        str, typer.Option(help="What it is for: launch, read, stop, and operate for operators.")
    ] = "launch,read,stop",
    expires: Annotated[
        str, typer.Option(help="How long it is valid: a number and m, h, d or w; 366d at most.")
    ] = "90d",
    note: Annotated[str, typer.Option(help="What it is used for, for 'token list'.")] = "",
) -> None:
    """Make a token and print it, this once. It goes into "Authorization: Bearer TOKEN"."""
    from hpcbridge.cli import tokenwork

    tokenwork.create(config, user, scope, expires, note)


@app.command("list")
def listing(
    config: Config,
    user: Annotated[str | None, typer.Option(help="Those of one user only.")] = None,
) -> None:
    """List the tokens: id, user, scopes, when they expire and were last used. Times are UTC."""
    from hpcbridge.cli import tokenwork

    tokenwork.listing(config, user)


@app.command()
def revoke(
    config: Config,
    token_id: Annotated[str, typer.Argument(metavar="ID", help="An id of 'token list'.")],
) -> None:
    """End a token; the service refuses it from now on."""
    from hpcbridge.cli import tokenwork

    tokenwork.revoke(config, token_id)
