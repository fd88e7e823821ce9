"""The login of this person: which service, and the token for it, in a file of mode 0600."""

import contextlib
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

import platformdirs

from hpcbridge.errors import ConfigError
from hpcbridge.files import private


@dataclass(frozen=True)
class Login:
    """A service's address and the token for it; None where it knows no users."""

    url: str
    token: str | None = field(default=None, repr=False)
    ca: str | None = None
    cleartext: bool = False


def path() -> Path:
    """Where it is kept: in the user's XDG configuration directory."""
    return platformdirs.user_config_path("hpcbridge") / "login.json"


def load() -> Login | None:
    """The login; None where there is none.

    Raises :class:`~hpcbridge.errors.ConfigError` for a file that others could read or change.
    """
    file = path()
    if not file.exists():
        return None
    content = private.read(file, "the login")
    try:
        found = json.loads(content)
        return Login(**{key: found[key] for key in Login.__dataclass_fields__})
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConfigError(f"{file} is no login. Log in again: hpcbridge login URL") from error


def save(login: Login) -> Path:
    """Write it, in the place of another. Raises :class:`~hpcbridge.errors.ConfigError`."""
    file = path()
    new = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w") as stream:
            json.dump(asdict(login), stream)
        new.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise ConfigError(f"{file} cannot be written: {error.strerror}.") from error
    return file


def forget() -> Path | None:
    """Remove it; None where there was none. Raises :class:`~hpcbridge.errors.ConfigError`."""
    file = path()
    try:
        file.unlink()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{file} cannot be removed: {error.strerror}.") from error
    return file
