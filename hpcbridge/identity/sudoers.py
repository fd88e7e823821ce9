"""The rules that let this service's account run a few programs as its users: sudoers(5).

Whoever may submit a job as a user may run anything as that user, on a node: so rules cannot make
the service's account harmless to the users in ``runas``. They keep it from everybody else, root
first of all, and from programs that would be of more use on the login host than a job.
"""

import os
import pwd
import re
from pathlib import Path

from hpcbridge.config.clusters import RemoteCluster
from hpcbridge.config.settings import Settings
from hpcbridge.errors import ConfigError
from hpcbridge.files import helper as filehelper
from hpcbridge.schedulers.kinds import kind_of

HELPER = Path(filehelper.__file__)
"""The program that an admin installs; :mod:`hpcbridge.files.helper`."""

COMMAND_LIMIT = 120
"""Seconds after which sudo ends a command of the scheduler."""
ACCOUNT = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"


def helper_command(settings: RemoteCluster) -> list[str]:
    """The helper's command line, as it stands in the rules too."""
    identity = settings.identity
    root = [settings.session_root] if settings.session_root else []
    return [identity.helper, str(identity.least_uid), *root]


def of_cluster(settings: Settings, name: str | None, account: str | None) -> str:
    """The rules for a cluster, by default for the only one that needs some.

    ``account`` is the service's own where the commands run, by default that of the settings.
    Raises :class:`~hpcbridge.errors.ConfigError` where that is not clear.
    """
    using = {
        key: each
        for key, each in settings.clusters.items()
        if isinstance(each, RemoteCluster) and each.identity.mode == "sudo"
    }
    if name is None and len(using) == 1:
        name = next(iter(using))
    if name is None or name not in using:
        which = f"Choose one with --cluster: {', '.join(using)}." if using else "None does."
        raise ConfigError(f"Rules are for a cluster with identity.mode = 'sudo'. {which}")
    cluster = using[name]
    account = account or (cluster.ssh.user if cluster.ssh else pwd.getpwuid(os.geteuid()).pw_name)
    if account is None or not re.fullmatch(ACCOUNT, account):
        raise ConfigError("Name this service's account where the commands run with --account.")
    return rules(name, cluster, account)


def rules(cluster: str, settings: RemoteCluster, service: str) -> str:
    """A file for /etc/sudoers.d of the host on which commands run."""
    identity = settings.identity
    commands = [f"{identity.commands_dir}/{each}" for each in kind_of(settings).commands]
    jobs = f"""\
Cmnd_Alias HPCBRIDGE_JOBS = {", ".join(commands)}
# This service cannot end another account's process. The helper lives on with the sessions.
Defaults!HPCBRIDGE_JOBS command_timeout={COMMAND_LIMIT}
"""
    allowed = "HPCBRIDGE_JOBS, HPCBRIDGE_FILES" if commands else "HPCBRIDGE_FILES"
    return f"""\
# hpcbridge, cluster {cluster}: its account may run a few programs as its users. Install it as
# /etc/sudoers.d/hpcbridge (root:root 0440) where the commands run, and check it with visudo -c.
# No system account may be among the users.
Runas_Alias HPCBRIDGE_USERS = {", ".join([*identity.runas, "!root"])}
Cmnd_Alias HPCBRIDGE_FILES = {" ".join(helper_command(settings))}
Defaults:{service} env_reset, always_set_home, !requiretty, !use_pty
{jobs if commands else ""}\
{service} ALL = (HPCBRIDGE_USERS) NOPASSWD: {allowed}
"""
