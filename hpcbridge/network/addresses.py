"""Where something listens: a TCP port or a unix socket, and how a socket comes to listen there."""

import os
import secrets
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

#: ``sun_path`` has 108 bytes and ends with a NUL (unix(7)).
UNIX_PATH_LIMIT = 107

BACKLOG = 1024


@dataclass(frozen=True)
class TCPAddress:
    """A TCP port. Port 0 asks the kernel for a free one where something is to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class UnixAddress:
    """A unix stream socket in the file system."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address: TypeAlias = TCPAddress | UnixAddress


def parse_address(text: str) -> Address:
    """The address that ``str`` made this of. Raises ValueError for a port that is no number."""
    if text.startswith("unix:"):
        return UnixAddress(Path(text.removeprefix("unix:")))
    host, _, port = text.rpartition(":")
    return TCPAddress(host, int(port))


class ListenError(Exception):
    """An address that cannot be had; ``errno`` where the system says why."""

    def __init__(self, message: str, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno


def open_listener(
    address: Address, *, mode: int = 0o660, group: int | None = None
) -> socket.socket:
    """Bind and listen; the socket is non-blocking and its real address is ``getsockname()``.

    A unix socket appears under its name only when it already has ``mode``, ``group`` (a gid; None
    keeps the directory's rule) and a queue for connections, and takes the place of a stale file.
    Raises :class:`ListenError` when the address cannot be had.
    """
    if isinstance(address, TCPAddress):
        return _listen_tcp(address)
    return _listen_unix(address.path, mode, group)


def _listen_tcp(address: TCPAddress) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address.host, address.port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise ListenError(f"Cannot listen on {address}: {error.strerror}.", error.errno) from error
    return sock


def _listen_unix(path: Path, mode: int, group: int | None) -> socket.socket:
    temporary = path.parent / f".{secrets.token_hex(4)}"
    longest = max(len(os.fsencode(path)), len(os.fsencode(temporary)))
    if longest > UNIX_PATH_LIMIT:
        raise ListenError(
            f"The socket path {path} needs {longest} bytes; the system allows {UNIX_PATH_LIMIT}. "
            "Choose a shorter socket directory."
        )
    sock = socket.socket(socket.AF_UNIX)
    try:
        # On Linux a socket's file gets the mode of its descriptor, less the umask: so it is narrow
        # from the first moment. Until listen() nobody can connect.
        os.fchmod(sock.fileno(), 0o600)
        sock.bind(os.fspath(temporary))
        if group is not None:
            os.chown(temporary, -1, group)
        temporary.chmod(mode)
        sock.listen(BACKLOG)
        sock.setblocking(False)
        temporary.replace(path)
    except OSError as error:
        sock.close()
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise ListenError(
            f"Cannot create the socket {path}: {error.strerror}. "
            "Its directory must exist and be writable by the service's account.",
            error.errno,
        ) from error
    return sock
