"""What the command ``launch`` does."""

import sys
import webbrowser

import typer

from hpcbridge.cli import printing
from hpcbridge.cli.outcome import INTERRUPTED, told
from hpcbridge.cli.printing import line
from hpcbridge.cli.progress import Progress
from hpcbridge.cli.service import Where, opened
from hpcbridge.client import Client, ClientError, Session

_NOTE = "See what became of it: hpcbridge sessions"


def launch(
    application: str,
    values: list[str],
    cluster: str | None,
    *,
    wait: bool,
    browser: bool,
    as_json: bool,
    where: Where,
) -> None:
    """Launch, follow, and print where the session is."""
    parameters = _parameters(values)
    with told(), opened(where) as client:
        try:
            begun = client.launch(application, parameters, cluster=cluster, wait=False)
        except KeyboardInterrupt:
            print(f"hpcbridge: the launch may have been sent. {_NOTE}", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None
        if not wait:
            if as_json:
                printing.as_json(begun)
            else:
                print(begun.id)
            return
        session = _ready(client, begun, quiet=as_json)
    if as_json:
        printing.as_json(session)
    else:
        _tell(session)
    if browser:
        _open(session)


def _ready(client: Client, begun: Session, *, quiet: bool) -> Session:
    try:
        with Progress(quiet=quiet) as progress:
            return client.ready(begun, progress.show)
    except KeyboardInterrupt:
        if _keep():
            print(f"hpcbridge: {begun.id} goes on. {_NOTE}", file=sys.stderr)
        else:
            client.stop(begun.id)
            print(f"hpcbridge: {begun.id} is being stopped.", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def _keep() -> bool:
    """Whether the job is to go on; where nobody can be asked, it does."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    try:
        return typer.confirm("\nKeep the job?", default=True, err=True)
    except (KeyboardInterrupt, typer.Abort):
        return True


def _parameters(values: list[str]) -> dict[str, str]:
    """``NAME=VALUE`` as typed; the service reads text as the parameter's type."""
    found = {}
    for each in values:
        name, equals, value = each.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"{each!r} is not NAME=VALUE.", param_hint="--set")
        if name in found or name in ("application", "cluster"):
            raise typer.BadParameter(f"{name} is given otherwise, or twice.", param_hint="--set")
        found[name] = value
    return found


def _tell(session: Session) -> None:
    out = printing.console()
    host = f" on {session.host}" if session.host else ""
    out.print(line(f"{session.id} is ready{host}."), soft_wrap=True)
    out.print(line(session.page or session.session_url or ""), soft_wrap=True)


def _open(session: Session) -> None:
    if session.page is None:
        raise SystemExit(
            _complain(
                "This session has no page of its own: open the service's page, which lists it."
            )
        )
    if not session.page.startswith(("http://", "https://")):
        raise ClientError("The session's page is at no address that a browser may open.")
    if not webbrowser.open(session.page):
        raise SystemExit(_complain("There is no browser here that could open it."))


def _complain(said: str) -> int:
    print(f"hpcbridge: {said}", file=sys.stderr)
    return 1
