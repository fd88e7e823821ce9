"""What of an ssh_config(5) counts here, and which files of SSH are believed.

Only the directives in ``HONOURED`` have an effect. None of them turns a check off or gives anything
of this service's to the host: whatever else such a file says, such as ``StrictHostKeyChecking``,
``ForwardAgent``, ``SendEnv`` or ``RemoteCommand``, is as if it was not there.
"""

import contextlib
import getpass
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncssh
from asyncssh.config import ConfigParseError, SSHClientConfig, SSHConfig

from hpcbridge.config.clusters import SSHSettings
from hpcbridge.errors import ConfigError
from hpcbridge.files.directories import others_above

HONOURED = (
    *("Host", "Match", "Include", "HostName", "Port", "User", "AddressFamily", "BindAddress"),
    *("IdentityFile", "CertificateFile", "IdentitiesOnly", "IdentityAgent"),
    *("UserKnownHostsFile", "GlobalKnownHostsFile", "HostKeyAlias"),
    *("ProxyJump", "ProxyCommand"),
)

DEFAULT_KEYS = tuple(
    f"id_{kind}" for kind in ("ed25519_sk", "ecdsa_sk", "ed448", "ed25519", "ecdsa", "rsa", "dsa")
)
"""The keys in ~/.ssh that are tried where none is named."""

# What a ProxyCommand gets of this service's environment, where secrets may be too.
PASSED = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "SSH_AUTH_SOCK"),
    *("KRB5CCNAME", "KRB5_CONFIG"),
)


@dataclass(frozen=True)
class Hop:
    """A host of ProxyJump."""

    host: str
    port: int | None
    user: str | None


@dataclass(frozen=True)
class Entry:
    """How a host is connected to. None and empty lists leave it to asyncssh's defaults."""

    host: str
    port: int | None
    user: str | None
    identity_files: list[str]
    #: The same with public keys, whose private ones an agent has, and with the default ones.
    identities: list[str]
    #: Whether it is an error when an identity file has a passphrase.
    named: bool
    certificate_files: list[str]
    #: The keys of the agent that are tried; None for all of them.
    agent_keys: list[asyncssh.SSHKey] | None
    #: The agent's socket; "" for the one that the environment names, None for none.
    agent: str | None
    known_hosts: list[str]
    host_key_alias: str | None
    hops: list[Hop]
    proxy_command: list[str] | None
    family: int
    bind_address: str | None


class _Config(SSHClientConfig):
    """asyncssh's reader, kept from files of others and from what is not honoured."""

    _handlers = {  # noqa: RUF012  # as its base has it
        name: (option, handler)
        for name, (option, handler) in SSHClientConfig._handlers.items()
        if name in {each.lower() for each in HONOURED}
    }
    _percent_expand = SSHClientConfig._percent_expand | {
        "UserKnownHostsFile",
        "GlobalKnownHostsFile",
    }

    def parse(self, path: Path) -> None:
        """Read a file, or one that it includes."""
        believed(path, "the ssh_config")
        super().parse(path)


def entry_of(settings: SSHSettings, host: str, port: int | None) -> Entry:
    """What the settings say of a host, and ssh_config where they say nothing.

    Looks at files, so it belongs into a thread. Raises :class:`~hpcbridge.errors.ConfigError` for
    a file that others can change or, where it is private, read; FileNotFoundError for a missing
    one.
    """
    try:
        config = _read(settings, host, port)
    except (ConfigParseError, UnicodeDecodeError) as error:
        raise ConfigError(f"The ssh_config cannot be understood: {error}.") from error

    def value(option: str) -> Any:
        return config.get(option)

    named = [str(path) for path in settings.identity_files]
    identities = named or [_home(each) for each in value("IdentityFile") or []]
    keys = [each for each in identities if not each.endswith(".pub")]
    tried = [*identities, *(() if keys else _default_keys())]
    for each in tried:
        private(Path(each))
    agent_keys = _public(identities or _default_keys()) if value("IdentitiesOnly") else None
    return Entry(
        host=value("Hostname") or host,
        port=port or value("Port"),
        user=settings.user or value("User"),
        identity_files=keys,
        identities=tried,
        named=bool(named),
        certificate_files=[_home(each) for each in value("CertificateFile") or []],
        agent_keys=agent_keys,
        agent=None if agent_keys == [] else config.get("IdentityAgent", ""),  # type: ignore[arg-type]
        known_hosts=_known_hosts(settings, config),
        host_key_alias=value("HostKeyAlias"),
        hops=[_hop(each) for each in (value("ProxyJump") or "").split(",") if each],
        proxy_command=_proxy_command(value("ProxyCommand")),
        family=value("AddressFamily") or 0,
        bind_address=value("BindAddress"),
    )


def _read(settings: SSHSettings, host: str, port: int | None) -> SSHConfig:
    path = settings.config or Path("~/.ssh/config").expanduser()
    paths = [path] if settings.config or path.exists() else []
    known = (getpass.getuser(), settings.user or (), host, port or ())
    config = _Config.load(None, paths, False, False, False, *known)
    if config.has_match_final():
        config = _Config.load(None, paths, False, False, True, *known)
    return config


def _home(path: str) -> str:
    return str(Path(path).expanduser())


def _default_keys() -> list[str]:
    paths = [Path("~/.ssh").expanduser() / each for each in DEFAULT_KEYS]
    return [str(path) for path in paths if path.exists()]


def _public(paths: list[str]) -> list[asyncssh.SSHKey]:
    """The public keys of these files, which the agent may have the private ones of."""
    found = []
    for each in (name for path in paths for name in (path, f"{path}.pub")):
        with contextlib.suppress(OSError, asyncssh.KeyImportError):
            found.append(asyncssh.read_public_key(each))
    return found


def _known_hosts(settings: SSHSettings, config: SSHConfig) -> list[str]:
    """The files of host keys, of which there is always one: none would mean that any key will do
    to asyncssh."""
    if settings.known_hosts is not None:
        paths = [str(settings.known_hosts)]
    else:
        users: Any = config.get("UserKnownHostsFile")
        everybodys: Any = config.get("GlobalKnownHostsFile")
        named = [*(["~/.ssh/known_hosts"] if users is None else users), *(everybodys or [])]
        paths = [_home(each) for each in named if each.lower() != "none"]
        paths = [each for each in paths if Path(each).exists()] or paths[:1]
    if not paths:
        raise ConfigError(
            "The ssh_config names no file of host keys (UserKnownHostsFile none), and no host is "
            "connected to without. Name one, or set ssh.known_hosts."
        )
    for each in paths:
        believed(Path(each), "the known_hosts file")
    return paths


def _hop(text: str) -> Hop:
    try:
        parts = urlsplit(text if text.startswith("ssh://") else f"ssh://{text}")
        if parts.hostname:
            return Hop(parts.hostname, parts.port, parts.username)
    except ValueError:
        pass
    raise ConfigError(f"The ssh_config names no host by ProxyJump: '{text[:80]}'.")


def _proxy_command(text: str | None) -> list[str] | None:
    """It runs as ssh(1) runs it: by a shell, but with little of this service's environment."""
    if text is None:
        return None
    kept = [f"{key}={os.environ[key]}" for key in PASSED if key in os.environ]
    return ["/usr/bin/env", "-i", *kept, "/bin/sh", "-c", f"exec {text}"]


def believed(path: Path, what: str) -> None:
    """Raises :class:`~hpcbridge.errors.ConfigError` where others could change a file."""
    status = path.stat()
    if wrong := _of_others(status, stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(f"SSH: {what} {path} {wrong}, so others could change it. {_CURE}")
    _in_place(path, what)


def private(path: Path) -> None:
    """Raises :class:`~hpcbridge.errors.ConfigError` where others could read or change a key.

    As with ssh(1), root may let a group read a key, such as that of this service's account.
    """
    status = path.stat()
    open_to = 0o022 if path.suffix == ".pub" else 0o077
    if path.suffix != ".pub" and status.st_uid == 0 != os.geteuid():
        open_to = 0o037
    if wrong := _of_others(status, open_to):
        raise ConfigError(f"SSH: the key {path} {wrong}, so others can reach it. chmod 600 it.")
    _in_place(path, "the key")


_CURE = "chmod go-w it, and let it belong to this service's account or to root."


def _of_others(status: os.stat_result, open_to: int) -> str:
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to uid {status.st_uid}"
    if status.st_mode & open_to:
        return f"has the mode {stat.S_IMODE(status.st_mode):04o}"
    return ""


def _in_place(path: Path, what: str) -> None:
    if above := others_above(path):
        raise ConfigError(
            f"SSH: {what} {path} is not used: others could replace what is in {above}. {_CURE}"
        )
