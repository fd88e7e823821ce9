"""What the commands ``hpcbridge token`` do: they work on the database, beside the service."""

import re
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from hpcbridge.auth.identity import Scope
from hpcbridge.auth.tokens import TokenRow, Tokens
from hpcbridge.cli.databasework import in_database, record
from hpcbridge.config import file as configfile
from hpcbridge.config.settings import Settings
from hpcbridge.errors import ConfigError, UserRefused
from hpcbridge.identity.users import Users

T = TypeVar("T")

UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
LONGEST = 366 * 86400
"""Seconds for which a token may be valid."""
NOTE_LIMIT = 200


def create(config: Path, user: str, scope: str, expires: str, note: str) -> None:
    """Make a token and print it; all the values are as a person typed them."""
    settings = _settings(config)
    scopes, lasts = _scopes(scope), _seconds(expires)
    if len(note) > NOTE_LIMIT or not note.isprintable():
        raise ConfigError(f"--note: a line of at most {NOTE_LIMIT} printable characters.")

    async def make(tokens: Tokens) -> tuple[TokenRow, str]:
        users = Users(settings.auth)
        try:
            await users.check(user)
        except UserRefused as error:
            raise ConfigError(f"--user: {user!r} may not be a user: {error.why}.") from error
        if Scope.OPERATE in scopes and not users.is_operator(user):
            raise ConfigError(f"--scope: operate is for operators; {user} is not in auth.operators")
        return await tokens.create(user, scopes, lasts=lasts, note=note)

    row, token = _run(settings, make)
    _record(settings, "token create", row)
    print(token)
    print(f"Token {row.id} of {row.user}, until {_day(row.expires_at)}.", file=sys.stderr)


def listing(config: Path, user: str | None) -> None:
    """Print the tokens, all or one user's."""
    rows = _run(_settings(config), lambda tokens: tokens.all(user))
    form = "{:12}  {:7}  {:16}  {:24}  {:16}  {:16}  {}"
    print(form.format("ID", "STATE", "USER", "SCOPES", "EXPIRES", "LAST USED", "NOTE").rstrip())
    for row in rows:
        used = _day(row.used_at) if row.used_at is not None else "never"
        scopes = ",".join(row.scopes)
        columns = (row.id, row.state, row.user, scopes, _day(row.expires_at), used, row.note)
        print(form.format(*columns).rstrip())


def revoke(config: Path, token_id: str) -> None:
    """End a token."""
    settings = _settings(config)
    row = _run(settings, lambda tokens: tokens.revoke(token_id))
    _record(settings, "token revoke", row)
    print(f"Token {row.id} of {row.user} is revoked.")


def _settings(config: Path) -> Settings:
    settings = configfile.load(config)
    if "token" not in settings.auth.accept:
        raise ConfigError(f"{config}: auth.accept has no 'token', so the service takes none.")
    return settings


def _run(settings: Settings, work: Callable[[Tokens], Awaitable[T]]) -> T:
    return in_database(settings, lambda store: work(Tokens(store)))


def _record(settings: Settings, what: str, row: TokenRow) -> None:
    facts = {"token": row.id, "owner": row.user, "scopes": ",".join(row.scopes)}
    record(settings, what, facts)


def _scopes(text: str) -> list[Scope]:
    try:
        return sorted({Scope(each.strip()) for each in text.split(",")})
    except ValueError as error:
        raise ConfigError(f"--scope: {text!r}; allowed: {', '.join(Scope)}.") from error


def _seconds(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,7})([mhdw])", text)
    seconds = int(match[1]) * UNITS[match[2]] if match else 0
    if not 0 < seconds <= LONGEST:
        raise ConfigError(f"--expires: {text!r}; allowed: 1m to 366d, such as 12h, 30d or 4w.")
    return seconds


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
