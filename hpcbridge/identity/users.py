"""Which names may be users: letters of ASCII, allowed by the site, and no account of the system."""

import asyncio
import pwd
import re
import time

from hpcbridge.config.auth import AuthSettings
from hpcbridge.config.fields import USER_NAME
from hpcbridge.errors import AccountsUnknown, UserRefused

_SYSTEM = (
    "root toor admin administrator daemon bin sys sync games man lp mail news uucp proxy www-data "
    "backup list irc gnats nobody nogroup adm shutdown halt operator ftp dbus polkitd sshd rpc "
    "rpcuser nfsnobody chrony ntp postfix apache nginx haproxy wwwrun messagebus systemd-network "
    "systemd-resolve systemd-timesync systemd-coredump sssd tss tcpdump munge slurm slurmrest "
    "slurmrestd pbs pbsadmin pbsdata sgeadmin condor lsfadmin postgres mysql redis ldap named "
    "hpcbridge"
)
SYSTEM = frozenset(_SYSTEM.split())
"""Accounts of Debian, Red Hat and SUSE, and of the services that clusters run: no person's."""
LOOK_UP_TIME = 5.0
"""Seconds that the host's account database may take; it may be a directory server's."""
REMEMBERED = 300.0
"""Seconds for which an answer of the account database is good."""
MOST_REMEMBERED = 10_000


class Users:
    """The site's rule of who may be a user. ``users_allowed`` comes on top of the fixed rules."""

    def __init__(self, settings: AuthSettings) -> None:
        self._allowed = re.compile(settings.users_allowed)
        self._least_uid = settings.least_uid
        self._operators = frozenset(settings.operators)
        self._uids: dict[str, tuple[float, int | None]] = {}

    async def check(self, name: str) -> None:
        """Raises :class:`~hpcbridge.errors.UserRefused` for whoever may not be a user, and
        :class:`~hpcbridge.errors.AccountsUnknown` while that cannot be told.

        An account of this name need not exist on this host.
        """
        if not USER_NAME.fullmatch(name) or ".." in name:
            raise UserRefused(why="not a user's name")
        if not self._allowed.fullmatch(name):
            raise UserRefused(why="not in auth.users_allowed")
        if name.partition("@")[0].lower() in SYSTEM:
            raise UserRefused(why="an account of the system")
        uid = await self._uid(name)
        if uid is not None and uid < self._least_uid:
            raise UserRefused(why=f"uid {uid} is below auth.least_uid")

    def is_operator(self, name: str) -> bool:
        """Whether the user may see and stop everybody's sessions."""
        return name in self._operators

    async def _uid(self, name: str) -> int | None:
        asked, uid = self._uids.get(name, (-REMEMBERED, None))
        if time.monotonic() - asked < REMEMBERED:
            return uid
        try:
            async with asyncio.timeout(LOOK_UP_TIME):
                uid = await asyncio.to_thread(_uid_of, name)
        except (TimeoutError, OSError) as error:
            raise AccountsUnknown("This host's accounts cannot be looked up. Try again.") from error
        if len(self._uids) >= MOST_REMEMBERED:
            self._uids.clear()
        self._uids[name] = (time.monotonic(), uid)
        return uid


def _uid_of(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def shown(name: str) -> str:
    """A name from outside as logs may show it, however it was written."""
    return re.sub(r"[^A-Za-z0-9_.@+-]", "?", name[:64])
