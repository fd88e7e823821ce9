"""What the commands ``hpcbridge login`` and ``hpcbridge logout`` do."""

import getpass
import json
import sys
from pathlib import Path

from hpcbridge.cli import logins
from hpcbridge.cli.logins import Login
from hpcbridge.cli.outcome import told
from hpcbridge.client import Client, ClientError, NotLoggedIn
from hpcbridge.plain import one_line

_LONGEST = 1024


def login(url: str, ca: Path | None, *, cleartext: bool, as_json: bool) -> None:
    """Ask for the token, try it and keep it."""
    certificates = str(ca.expanduser().absolute()) if ca else None
    with told():
        # Before the token is asked for, so that it goes to nothing that is not the service.
        token = None
        with Client(url, ca=certificates, cleartext=cleartext) as nobody:
            try:
                nobody.applications()
            except NotLoggedIn:
                token = _token()
        user = None
        if token is not None:
            with Client(url, token=token, ca=certificates, cleartext=cleartext) as client:
                user = client.sessions(limit=1).user
        file = logins.save(Login(url, token, certificates, cleartext))
    if as_json:
        print(json.dumps({"url": url, "user": user, "file": str(file)}))
    elif user is None:
        print(f"{one_line(url)} knows no users; it is the service of your commands from now on.")
    else:
        print(f"Logged in to {one_line(url)} as {one_line(user)}; kept in {file}.")


def logout(*, as_json: bool) -> None:
    """Remove the file."""
    file = logins.forget()
    if as_json:
        print(json.dumps({"file": str(file) if file else None}))
    elif file is None:
        print("There was no login.")
    else:
        print(f"{file} is removed. The token stays valid until it expires or is revoked.")


def _token() -> str:
    """Typed unseen, or the first line of the standard input; never an argument, which all see."""
    typed = sys.stdin.isatty()
    found = getpass.getpass("API token: ") if typed else sys.stdin.readline(_LONGEST)
    if not found.strip():
        raise ClientError("There was no token to read.")
    return found.strip()
