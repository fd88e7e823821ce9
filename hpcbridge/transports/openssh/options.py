"""The ssh_config(5) that a master gets: complete, so that no other file has a say.

It is written from what :mod:`hpcbridge.transports.sshconfig` has read and checked.
"""

import shlex
import socket
from collections.abc import Sequence
from pathlib import Path

from hpcbridge.config.clusters import SSHSettings
from hpcbridge.errors import ConfigError
from hpcbridge.transports.sshconfig import Entry

TARGET = "target"
"""The host's name on ssh's command line: what it is really called is in the file."""

# The order that sshlogin.py has for asyncssh, without the "^" that OpenSSH 8.0 does not know.
CIPHERS = (
    "aes128-gcm@openssh.com,aes256-gcm@openssh.com,"
    "chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr"
)

STRICT = """\
StrictHostKeyChecking yes
GlobalKnownHostsFile none
UpdateHostKeys no
CheckHostIP no
VerifyHostKeyDNS no
NoHostAuthenticationForLocalhost no
BatchMode yes
NumberOfPasswordPrompts 0
PreferredAuthentications gssapi-with-mic,publickey
GSSAPIAuthentication yes
GSSAPIDelegateCredentials no
ForwardAgent no
ForwardX11 no
ClearAllForwardings yes
PermitLocalCommand no
RequestTTY no
EscapeChar none
AddKeysToAgent no
CanonicalizeHostname no
Compression no
LogLevel INFO
TCPKeepAlive yes
ConnectionAttempts 1
ControlMaster yes
ControlPersist no
"""

# Without its master, `ssh` would connect by itself.
JUMPING = "ControlMaster no\nProxyCommand /bin/false\nBatchMode yes\nLogLevel INFO\n"

FAMILIES: dict[int, str] = {socket.AF_INET: "inet", socket.AF_INET6: "inet6"}


def master(
    settings: SSHSettings, entry: Entry, control: Path, jump: Sequence[str] | None, port: int
) -> str:
    """The file for a master that listens at ``control``; ``jump`` leads to the host before it."""
    lines = [
        ("HostName", _escaped(entry.host)),
        ("Port", str(port)),
        ("User", entry.user),
        ("HostKeyAlias", entry.host_key_alias),
        ("AddressFamily", FAMILIES.get(entry.family)),
        ("BindAddress", entry.bind_address),
        ("ConnectTimeout", _whole(settings.connect_timeout)),
        ("ServerAliveInterval", _whole(settings.keepalive_interval)),
        ("ServerAliveCountMax", str(settings.keepalive_count)),
        ("IdentitiesOnly", "yes" if entry.named or entry.agent_keys is not None else "no"),
        ("IdentityAgent", "none" if entry.agent is None else _escaped(entry.agent)),
        ("ControlPath", _escaped(str(control))),
    ]
    texts = [f"{name} {_quoted(value)}" for name, value in lines if value]
    texts.append("UserKnownHostsFile " + _each(entry.known_hosts))
    texts += [f"IdentityFile {_each([path])}" for path in entry.identities or ("none",)]
    texts += [f"CertificateFile {_each([path])}" for path in entry.certificate_files]
    command = jump or entry.proxy_command
    texts.append(f"ProxyCommand {_escaped(shlex.join(command)) if command else 'none'}")
    texts.append(f"Ciphers {CIPHERS}")
    for text in texts:
        _one_line(text)
    return "\n".join(texts) + "\n" + STRICT


def jumping(control: Path | str) -> str:
    """The file for an ``ssh -W`` that goes through a master and connects to nothing itself."""
    return _one_line(f"ControlPath {_quoted(_escaped(str(control)))}") + "\n" + JUMPING


def jump_command(ssh: str, config: Path, host: str, port: int) -> list[str]:
    """What connects its standard streams to a port, through a master."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return [ssh, "-F", str(config), "-W", where, TARGET]


def _whole(seconds: float) -> str:
    """ssh knows whole seconds only, and 0 means none."""
    return str(max(1, round(seconds)))


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """One argument of a directive."""
    if '"' in text or "\\" in text:
        raise ConfigError(f"SSH: {text[:80]!r} cannot be passed on to ssh: it has quotes.")
    return f'"{text}"'


def _each(paths: Sequence[str]) -> str:
    return " ".join(_quoted(_escaped(path)) for path in paths)


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ConfigError(f"SSH: {text[:80]!r} cannot be passed on to ssh.")
    return text
