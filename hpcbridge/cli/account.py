"""Under which account a command works on the files of the service."""

import os
import pwd

from hpcbridge.config.settings import Settings
from hpcbridge.errors import ConfigError


def as_owner(settings: Settings) -> None:
    """Raises :class:`~hpcbridge.errors.ConfigError` for another account than the service's.

    A database that root made could not be written by the service.
    """
    state_dir = settings.server.state_dir
    there = next(each for each in (state_dir, *state_dir.parents) if each.exists())
    if there == state_dir and there.stat().st_uid != os.geteuid():
        owner = account(there.stat().st_uid)
        raise ConfigError(f"server.state_dir: {state_dir} is {owner}'s. Run this as {owner}.")


def account(uid: int) -> str:
    """The name of an account, if it has one."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
