"""How accounts are logged in to by SSH: with certificates of this service's CA, or their own keys.

Certificates are those of OpenSSH (PROTOCOL.certkeys; ssh-keygen(1), section CERTIFICATES). Each
connection gets a new key pair and a certificate for it, both only in memory: nothing is stored,
so there is nothing to renew.
"""

import dataclasses
import glob
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

from hpcbridge.config.identity import IdentitySettings
from hpcbridge.errors import ConfigError
from hpcbridge.files import private as privatefile
from hpcbridge.transports.connection import Login

SKEW = 60
"""Seconds by which the clocks of this machine and of the cluster may differ."""

# What a certificate for a node lets run: it is there to forward ports, and `cat` ends by itself.
NODE_COMMAND = "/bin/cat"


@dataclass(frozen=True)
class Authority:
    """The CA whose certificates the site's sshd takes (TrustedUserCAKeys in sshd_config(5))."""

    key: asyncssh.SSHKey
    lifetime: float
    source_addresses: tuple[str, ...] = ()
    #: Whether tunnels go through the host on which commands run.
    forwarding: bool = True
    clock: Callable[[], float] = time.time

    @property
    def fingerprint(self) -> str:
        """As ``ssh-keygen -l`` tells it."""
        return self.key.get_fingerprint()

    @property
    def public_line(self) -> str:
        """What belongs into the file that TrustedUserCAKeys names."""
        return self.key.export_public_key().decode().strip()

    def keys(self, account: str, command: str | None = None) -> list[Any]:
        """A new key pair and its certificate: for this account, for minutes, and for no terminal,
        agent or X11. With ``command``, only that one runs, whatever is asked for."""
        pair = asyncssh.generate_private_key("ssh-ed25519")
        now = int(self.clock())
        certificate = self.key.generate_user_certificate(
            pair,
            f"hpcbridge {account}",
            serial=now,
            principals=[account],
            valid_after=now - SKEW,
            valid_before=now + int(self.lifetime),
            force_command=command,
            source_address=self.source_addresses or None,
            permit_port_forwarding=self.forwarding or command is not None,
            permit_x11_forwarding=False,
            permit_agent_forwarding=False,
            permit_pty=False,
            permit_user_rc=False,
        )
        return [(pair, certificate)]


@dataclass(frozen=True)
class Logins:
    """Makes the two logins of an account: to where commands run, and to the nodes."""

    least_uid: int
    cure: str
    keys: Callable[[str], list[Any]]
    node_keys: Callable[[str], list[Any]]

    def to_commands(self, account: str) -> Login:
        """The login of the host on which commands run and files lie."""
        return Login(account, lambda: self.keys(account), self.cure, self.least_uid)

    def to_nodes(self, account: str) -> Login:
        """The login of the nodes, for tunnels only."""
        return Login(account, lambda: self.node_keys(account), self.cure)


def logins_of(
    cluster: str, settings: IdentitySettings, *, forwarding: bool = True
) -> Logins | None:
    """What the settings say; None where they say that nobody logs in as anybody.

    ``forwarding`` tells whether tunnels go through the host on which commands run.
    Raises :class:`~hpcbridge.errors.ConfigError` where a key file cannot be used.
    """
    if settings.mode == "ssh-ca":
        authority = dataclasses.replace(authority_of(cluster, settings), forwarding=forwarding)
        return of_authority(authority, settings.least_uid)
    if settings.mode == "ssh-key":
        return _of_files(cluster, settings)
    return None


def of_authority(authority: Authority, least_uid: int) -> Logins:
    """Certificates of ``authority``."""
    cure = (
        "sshd there must trust the bridge's CA (TrustedUserCAKeys with the key "
        f"{authority.fingerprint}), the account must exist and not be locked, and the clocks must "
        "agree. sshd's log says which."
    )
    return Logins(
        least_uid,
        cure,
        authority.keys,
        lambda account: authority.keys(account, NODE_COMMAND),
    )


def authority_of(cluster: str, settings: IdentitySettings) -> Authority:
    """The CA of a cluster with ``mode = "ssh-ca"``. Raises what :func:`logins_of` raises."""
    path = settings.ca_key
    if path is None:
        credentials = os.environ.get("CREDENTIALS_DIRECTORY")
        if not credentials:
            raise ConfigError(
                f"clusters.{cluster}.identity.ca_key: needed for mode = 'ssh-ca', unless systemd "
                "gives the key (LoadCredential=ca_key:FILE)."
            )
        path = Path(credentials) / "ca_key"
    key = _private_key(path, f"clusters.{cluster}.identity.ca_key")
    return Authority(key, settings.lifetime, tuple(settings.source_addresses))


def _of_files(cluster: str, settings: IdentitySettings) -> Logins:
    pattern, what = settings.keys or "", f"clusters.{cluster}.identity.keys"
    for path in _there(Path(pattern)):
        _private_key(path, what)

    def keys(account: str) -> list[Any]:
        return [_private_key(Path(pattern.replace("{account}", account)), what)]

    cure = "its key is not in authorized_keys there, or the account is missing or locked."
    return Logins(settings.least_uid, cure, keys, keys)


def _there(pattern: Path) -> list[Path]:
    """The key files that are there at the start."""
    place = next(each for each in pattern.parents if "{account}" not in str(each))
    below = glob.escape(str(pattern.relative_to(place))).replace("{account}", "*")
    return sorted(path for path in place.glob(below) if path.suffix != ".pub")


def _private_key(path: Path, setting: str) -> asyncssh.SSHKey:
    content = privatefile.read(path, setting)
    try:
        return asyncssh.import_private_key(content)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError) as error:
        if "passphrase" in str(error).lower():
            raise ConfigError(
                f"{setting}: {path} has a passphrase, and nobody is here to type one. Make a key "
                "without (ssh-keygen -N ''), and keep it in a systemd credential."
            ) from error
        raise ConfigError(f"{setting}: {path} is not an SSH private key.") from error
