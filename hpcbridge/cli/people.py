"""The commands for who uses a service: they launch, look and stop, by the API alone."""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from hpcbridge.cli import completion
from hpcbridge.cli.options import AsJSON, Socket, TokenFile


class Which(StrEnum):
    """Which sessions are listed."""

    LIVE = "live"
    ENDED = "ended"
    ALL = "all"


def _session(complete: Callable[[str], list[completion.Offer]]) -> Any:
    return typer.Argument(
        metavar="ID",
        help="The session: its id, or so much of its beginning that no other has it.",
        autocompletion=complete,
    )


AnySession = Annotated[str, _session(completion.sessions)]
LiveSession = Annotated[str, _session(completion.live_sessions)]
Application = Annotated[
    str,
    typer.Argument(
        metavar="APPLICATION",
        help="What to launch: a name of 'hpcbridge applications'.",
        autocompletion=completion.applications,
    ),
]


def launch(
    application: Application,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter; may be given repeatedly."),
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Where it is to run, where one may choose.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Return when it is ready, or at once.")
    ] = True,
    browser: Annotated[
        bool, typer.Option("--open", help="Open its page in the browser when it is ready.")
    ] = False,
    as_json: AsJSON = False,
    socket: Socket = None,
    token_file: TokenFile = None,
) -> None:
    """Launch an application, show how far it is, and print its address when it is ready.

    Ctrl-C asks whether to keep the job.
    """
    from hpcbridge.cli import launchwork

    if browser and not wait:
        raise typer.BadParameter("--open waits until the session is ready.")
    launchwork.launch(
        application,
        values or [],
        cluster,
        wait=wait,
        browser=browser,
        as_json=as_json,
        where=(socket, token_file),
    )


def sessions(
    state: Annotated[
        Which, typer.Option(help="Those that have not ended, those that have, or both.")
    ] = Which.LIVE,
    application: Annotated[
        str | None,
        typer.Option(help="Of this application only.", autocompletion=completion.applications),
    ] = None,
    cluster: Annotated[str | None, typer.Option(help="On this cluster only.")] = None,
    owner: Annotated[
        str | None, typer.Option(help="Of this user only; others' for operators.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")] = 100,
    as_json: AsJSON = False,
    socket: Socket = None,
    token_file: TokenFile = None,
) -> None:
    """List sessions, the newest first: your own, or everybody's for operators."""
    from hpcbridge.cli import sessionwork

    sessionwork.listing(
        state,
        application=application,
        cluster=cluster,
        owner=owner,
        limit=limit,
        as_json=as_json,
        where=(socket, token_file),
    )


def show(
    session: AnySession,
    as_json: AsJSON = False,
    socket: Socket = None,
    token_file: TokenFile = None,
) -> None:
    """Show where a session stands, or why it ended."""
    from hpcbridge.cli import sessionwork

    sessionwork.show(session, as_json=as_json, where=(socket, token_file))


def logs(
    session: AnySession,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until nothing will be added.")
    ] = False,
    as_json: AsJSON = False,
    socket: Socket = None,
    token_file: TokenFile = None,
) -> None:
    """Print what a session's application has printed; nothing in it acts on the terminal."""
    from hpcbridge.cli import logwork

    logwork.logs(session, follow=follow, as_json=as_json, where=(socket, token_file))


def stop(
    session: LiveSession,
    as_json: AsJSON = False,
    socket: Socket = None,
    token_file: TokenFile = None,
) -> None:
    """Stop a session and its job."""
    from hpcbridge.cli import sessionwork

    sessionwork.stop(session, as_json=as_json, where=(socket, token_file))


def applications(
    as_json: AsJSON = False, socket: Socket = None, token_file: TokenFile = None
) -> None:
    """List what can be launched, and where."""
    from hpcbridge.cli import sessionwork

    sessionwork.applications(as_json=as_json, where=(socket, token_file))


def top(as_json: AsJSON = False, socket: Socket = None, token_file: TokenFile = None) -> None:
    """Watch sessions as they change, until Ctrl-C: your own, or everybody's for operators.

    Where the output is no terminal, each change is a line of JSON.
    """
    from hpcbridge.cli import topwork

    topwork.top(as_json=as_json, where=(socket, token_file))
