"""Another account of this machine, as which a service that is root starts processes."""

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcbridge.errors import ConfigError


@dataclass(frozen=True)
class Account:
    """An account with its groups (getgrouplist(3))."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """``base`` with the variables that name an account."""
        mine = {"HOME": self.home, "SHELL": self.shell, "USER": self.name, "LOGNAME": self.name}
        return {**base, **mine}

    @property
    def as_whom(self) -> dict[str, Any]:
        """Arguments of :func:`asyncio.create_subprocess_exec`; root's directory may be closed."""
        extra = list(self.groups)
        return {"user": self.uid, "group": self.gid, "extra_groups": extra, "cwd": "/"}

    @property
    def command(self) -> list[str]:
        """What a command line begins with that is to run so: setpriv(1) of util-linux."""
        groups = ",".join(map(str, self.groups))
        whose = [f"--reuid={self.uid}", f"--regid={self.gid}", f"--groups={groups}"]
        return ["setpriv", *whose, "--inh-caps=-all", "--"]

    def give(self, directory: Path) -> None:
        """Make it the owner of a directory of ours and of the files in it. Raises OSError."""
        for each in (*directory.iterdir(), directory):
            os.chown(each, self.uid, self.gid, follow_symlinks=False)

    def barred_from(self, directory: Path) -> Path | None:
        """The first directory on the way to this one that it cannot enter."""
        ways = [*reversed(directory.parents), directory]
        return next((each for each in ways if not self._enters(each.stat())), None)

    def _enters(self, status: os.stat_result) -> bool:
        if status.st_uid == self.uid:
            return bool(status.st_mode & 0o100)
        if status.st_gid in self.groups:
            return bool(status.st_mode & 0o010)
        return bool(status.st_mode & 0o001)


def account_named(name: str, setting: str) -> Account:
    """The account, for the ``setting`` that names it.

    Raises :class:`~hpcbridge.errors.ConfigError` where there is none, it is root's or the
    service's own, or the service cannot start processes as it.
    """
    try:
        found = pwd.getpwnam(name)
    except KeyError as error:
        raise ConfigError(f"{setting}: there is no account '{name}' on this machine.") from error
    if found.pw_uid in (0, os.geteuid()):
        raise ConfigError(
            f"{setting}: '{name}' is {'root' if found.pw_uid == 0 else 'the service itself'}; name "
            "an account that owns nothing but its sessions."
        )
    if os.geteuid() != 0:
        raise ConfigError(
            f"{setting}: only root can start jobs as '{name}'. Run the service as root, or use a "
            "batch system."
        )
    groups = tuple(os.getgrouplist(name, found.pw_gid))
    return Account(name, found.pw_uid, found.pw_gid, groups, found.pw_dir, found.pw_shell)
