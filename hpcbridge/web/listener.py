"""Where the service listens: a TCP port, or a unix socket that only the front end connects to."""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from hpcbridge.config.server import ServerSettings
from hpcbridge.errors import ConfigError
from hpcbridge.files.directories import closed_to_others
from hpcbridge.network.addresses import UNIX_PATH_LIMIT


@contextlib.contextmanager
def listening(server: ServerSettings, group: int | None) -> Iterator[tuple[socket.socket, str]]:
    """The listening socket and its URL, ``http[s]://HOST:PORT/`` or ``unix:PATH``.

    ``group`` is the gid that may connect to a unix socket, which is removed at the end. Raises
    :class:`~hpcbridge.errors.ConfigError`.
    """
    if server.unix_socket is None:
        with _tcp(server.host, server.port) as listener:
            host, port = listener.getsockname()[:2]
            yield listener, f"{server.scheme}://{f'[{host}]' if ':' in host else host}:{port}/"
        return
    path = server.unix_socket
    closed_to_others("server.unix_socket", path)
    with _unix(path, group) as listener:
        mine = path.stat().st_ino
        try:
            yield listener, f"unix:{path}"
        finally:
            with contextlib.suppress(OSError):
                if path.stat().st_ino == mine:
                    path.unlink()


def _tcp(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named in full: asyncio sets TCP_NODELAY only on sockets that say they are TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()  # bind() alone shares the port with whoever does not listen yet either
    except (OSError, UnicodeError) as error:
        listener.close()
        hint, reason = "", getattr(error, "strerror", None) or "not a host name"
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            hint = " Another program has it; choose another with HPCBRIDGE_SERVER__PORT=NUMBER."
        raise ConfigError(
            f"server.port: cannot listen on port {port} of {host}: {reason}.{hint}"
        ) from error
    return listener


def _unix(path: Path, group: int | None) -> socket.socket:
    if len(os.fsencode(path)) > UNIX_PATH_LIMIT:
        raise ConfigError(
            f"server.unix_socket: {path} is too long; the system allows {UNIX_PATH_LIMIT} bytes."
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _in_the_way(path):
            path.unlink()
        listener.bind(os.fspath(path))
        # Nobody can connect before listen(), so nobody can while the mode is the umask's.
        if group is not None:
            os.chown(path, -1, group)
        path.chmod(0o600 if group is None else 0o660)
        listener.listen()
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"server.unix_socket: cannot listen on {path}: {error.strerror}."
        ) from error
    return listener


def _in_the_way(path: Path) -> bool:
    """Whether the socket of a service that was killed is there. Raises OSError for all else."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "something else is there. Remove it")
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return True
    raise FileExistsError(errno.EADDRINUSE, "another program does. Stop it")
