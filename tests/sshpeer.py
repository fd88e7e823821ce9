"""An SSH server whose faults can be switched on while it runs: what sshd cannot be made to show.

It is made with paramiko, so it shares no code with the client under test (asyncssh). In normal
mode it runs commands as real processes in `home`, serves the real file system over SFTP, and
forwards to real ports of this machine:

    with SSHPeer(tmp_path) as peer:
        peer.refuse_channels = True          # direct-tcpip is refused
        peer.refuse_key = True               # so is the client's key, from the next connection on
        peer.drop_after(100_000)             # cut the line after so many forwarded bytes
        peer.stall(); peer.resume()          # not one byte either way; nothing is closed
        peer.rotate_host_key()               # another host key than the one in `known_hosts`

`peer.host`, `.port`, `.user`, `.client_key`, `.known_hosts` and `.config` (an ssh_config for
"Host peer") tell a client what it needs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self, TypeVar

import paramiko
from paramiko import common, sftp

from hpcbridge.config.clusters import SSHSettings

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_CHUNK = 32_768
_T = TypeVar("_T")


class SSHPeer:
    """The server; a context manager. Its keys, and the home unless given, are in `directory`."""

    host = "127.0.0.1"

    def __init__(self, directory: Path, *, home: Path | None = None, user: str = "alice") -> None:
        self.user = user
        self.home = home or directory / "home"
        for each in (directory, self.home):
            each.mkdir(parents=True, exist_ok=True)
        self.client_key = directory / "id_client"
        self.known_hosts = directory / "known_hosts"
        self.config = directory / "ssh_config"
        key = paramiko.ECDSAKey.generate()
        key.write_private_key_file(str(self.client_key))
        self.authorized_key = key.get_base64()
        self.host_key = paramiko.ECDSAKey.generate()

        self.refuse_channels = False
        #: Sessions that are refused next, as by sshd's MaxSessions.
        self.refuse_sessions = 0
        self.refuse_key = False
        self.connections = 0
        self.forwarded_bytes = 0
        self._drop_at: int | None = None
        self._flowing = threading.Event()
        self._flowing.set()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._transports: list[paramiko.Transport] = []
        self._targets: list[socket.socket] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((self.host, 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self.trust_host_key()
        self.config.write_text(
            f"Host peer\n  HostName {self.host}\n  Port {self.port}\n  User {self.user}\n"
            f'  IdentityFile "{self.client_key}"\n  UserKnownHostsFile "{self.known_hosts}"\n'
        )
        self.spawn(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()
        self._flowing.set()
        # Closing a listening socket does not wake the thread that waits in accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()
        for process in self._processes:
            for pid in _session(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait(60)
        while self._threads:
            self._threads.pop().join(60)

    def settings(self, **changes: Any) -> SSHSettings:
        """What the service must be told to reach it, with these settings changed."""
        given: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "known_hosts": self.known_hosts,
            "identity_files": [self.client_key],
            "connect_timeout": 30,
        }
        return SSHSettings(**(given | changes))

    def trust_host_key(self) -> None:
        """Write the present host key to `known_hosts`."""
        key = f"{self.host_key.get_name()} {self.host_key.get_base64()}"
        self.known_hosts.write_text(f"[{self.host}]:{self.port} {key}\n")

    def rotate_host_key(self) -> None:
        """Show new connections another host key; `known_hosts` keeps the old one."""
        self.host_key = paramiko.ECDSAKey.generate()

    def stall(self) -> None:
        """Neither read nor write from now on, on new connections too: a host that has frozen."""
        self._flowing.clear()

    def resume(self) -> None:
        """End the stall; nothing was lost."""
        self._flowing.set()

    def drop_after(self, count: int | None) -> None:
        """Cut the line when `count` more bytes were forwarded to the client (None: never)."""
        with self._lock:
            self._drop_at = None if count is None else self.forwarded_bytes + count

    def drop(self) -> None:
        """Close all connections now, without a goodbye."""
        with self._lock:
            transports, self._transports = self._transports, []
            targets, self._targets = self._targets, []
        for transport in transports:
            transport.close()
        for target in targets:
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)

    def spawn(self, target: Callable[..., None], *arguments: object) -> threading.Thread:
        """Run `target` in a thread that ends with the peer at the latest."""

        def run() -> None:
            # Whatever breaks off in mid-stream here was meant to.
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                target(*arguments)

        thread = threading.Thread(target=run, name=f"sshpeer-{target.__name__}", daemon=True)
        thread.start()
        self._threads.append(thread)
        return thread

    def run_process(self, channel: paramiko.Channel, command: str) -> None:
        """Run a shell command between the channel's streams, and report its exit status."""
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.home,
            env={**os.environ, "HOME": str(self.home), "USER": self.user, "LOGNAME": self.user},
            start_new_session=True,
        )
        self._processes.append(process)
        assert process.stdin
        assert process.stdout
        assert process.stderr
        self.spawn(_feed, channel, process.stdin)
        errors = self.spawn(_copy, process.stderr, channel.sendall_stderr)
        _copy(process.stdout, channel.sendall)
        errors.join()
        status = process.wait()
        with channel.lock:
            if not channel.closed:  # paramiko would send it after its goodbye
                channel.send_exit_status(status if status >= 0 else 128 - status)
        channel.close()

    def forward(self, channel: paramiko.Channel, target: socket.socket) -> None:
        """Carry bytes between the channel and the target until both have ended."""
        with self._lock:
            self._targets.append(target)
        to_target = self.spawn(_send_on, channel, target)
        try:
            with target:
                while data := target.recv(_CHUNK):
                    if not self._pass_on(channel, data):
                        # Not drop(): a close with unread input makes a reset, which would overtake
                        # the bytes that were still to arrive.
                        channel.get_transport().sock.shutdown(socket.SHUT_WR)
                        return
                channel.shutdown_write()
                to_target.join()
        finally:
            channel.close()

    def _pass_on(self, channel: paramiko.Channel, data: bytes) -> bool:
        """Send to the client what may still pass; False when the line is to be cut now."""
        with self._lock:
            if self._drop_at is not None:
                data = data[: self._drop_at - self.forwarded_bytes]
            self.forwarded_bytes += len(data)
            cut = self._drop_at is not None and self.forwarded_bytes >= self._drop_at
        channel.sendall(data)
        return not cut

    def _accept(self) -> None:
        while not self._closed.is_set():
            connection, _ = self._listener.accept()
            self.connections += 1
            self.spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            transport = paramiko.Transport(_Gate(connection, self._flowing))  # type: ignore[arg-type]
            with self._lock:
                self._transports.append(transport)
            transport.add_server_key(self.host_key)
            transport.set_subsystem_handler("sftp", _SFTP, _Files, self.home)
            server = _Server(self)
            # With an event it returns at once, and leaves errors to the transport's own thread.
            transport.start_server(threading.Event(), server)
            channels = []  # paramiko closes channels that nobody refers to
            while transport.is_active() and not self._closed.is_set():
                channel = transport.accept(0.1)
                channels.append(channel)
                if channel is not None and (target := server.targets.pop(channel.get_id(), None)):
                    self.spawn(self.forward, channel, target)
            transport.close()


def _session(leader: int) -> list[int]:
    """The processes that a command has started, whatever groups they made."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(int(entry.name)) == leader:
                found.append(int(entry.name))
    return found


class _Gate:
    """As much of a socket as paramiko needs; while it is shut, nothing passes, and nothing ends."""

    def __init__(self, connection: socket.socket, flowing: threading.Event) -> None:
        self._socket = connection
        self._flowing = flowing

    def recv(self, size: int) -> bytes:
        self._wait()
        data = self._socket.recv(size)
        # Shut while it waited for these bytes: they must not pass before it opens again.
        while data and not self._flowing.wait(0.1) and self._socket.fileno() >= 0:
            pass
        return data

    def send(self, data: bytes) -> int:
        self._wait()
        return self._socket.send(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def _wait(self) -> None:
        if not self._flowing.wait(0.1):
            raise TimeoutError  # paramiko asks again


class _Server(paramiko.ServerInterface):
    """What the peer allows on one connection."""

    def __init__(self, peer: SSHPeer) -> None:
        self._peer = peer
        self.targets: dict[int, socket.socket] = {}

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        peer = self._peer
        known = username == peer.user and key.get_base64() == peer.authorized_key
        return common.AUTH_SUCCESSFUL if known and not peer.refuse_key else common.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        if kind == "session" and self._peer.refuse_sessions:
            self._peer.refuse_sessions -= 1
            return common.OPEN_FAILED_CONNECT_FAILED
        if kind == "session":
            return common.OPEN_SUCCEEDED
        return common.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        if self._peer.refuse_channels:
            return common.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        try:
            target = socket.create_connection(destination, timeout=60)
        except OSError:
            return common.OPEN_FAILED_CONNECT_FAILED
        target.settimeout(None)
        self.targets[chanid] = target
        return common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._peer.spawn(self._peer.run_process, channel, os.fsdecode(command))
        return True


class _SFTP(paramiko.SFTPServer):
    """Says, as sshd does, that it can rename over an existing file; paramiko can, but hides it."""

    def _send_packet(self, kind: int, packet: Any) -> None:
        if kind == sftp.CMD_VERSION:
            packet.add_string("posix-rename@openssh.com")
            packet.add_string("1")
        super()._send_packet(kind, packet)  # type: ignore[misc]


class _Files(paramiko.SFTPServerInterface):
    """The real file system; relative paths start at the home."""

    def __init__(self, server: paramiko.ServerInterface, home: Path) -> None:
        super().__init__(server)
        self._home = home

    def canonicalize(self, path: str) -> str:
        return os.path.normpath(self._home / path)

    def list_folder(self, path: str) -> list[paramiko.SFTPAttributes] | int:
        entries = _answer(lambda: list((self._home / path).iterdir()))
        if isinstance(entries, int):
            return entries
        return [_attributes(entry.lstat(), entry.name) for entry in entries]

    def stat(self, path: str) -> paramiko.SFTPAttributes | int:
        return _answer(lambda: _attributes((self._home / path).stat()))

    def lstat(self, path: str) -> paramiko.SFTPAttributes | int:
        return _answer(lambda: _attributes((self._home / path).lstat()))

    def open(
        self, path: str, flags: int, attr: paramiko.SFTPAttributes
    ) -> paramiko.SFTPHandle | int:
        mode = 0o666 if attr.st_mode is None else attr.st_mode
        return _answer(lambda: _Handle(os.open(self._home / path, flags, mode), flags))

    def remove(self, path: str) -> int:
        return _done(lambda: (self._home / path).unlink())

    def rename(self, oldpath: str, newpath: str) -> int:
        # As sshd does: the protocol's plain rename replaces nothing.
        if (self._home / newpath).exists():
            return sftp.SFTP_FAILURE
        return self.posix_rename(oldpath, newpath)

    def posix_rename(self, oldpath: str, newpath: str) -> int:
        return _done(lambda: (self._home / oldpath).replace(self._home / newpath))

    def mkdir(self, path: str, attr: paramiko.SFTPAttributes) -> int:
        mode = 0o777 if attr.st_mode is None else attr.st_mode
        return _done(lambda: (self._home / path).mkdir(mode))

    def rmdir(self, path: str) -> int:
        return _done(lambda: (self._home / path).rmdir())

    def chattr(self, path: str, attr: paramiko.SFTPAttributes) -> int:
        return _done(lambda: paramiko.SFTPServer.set_file_attr(str(self._home / path), attr))


class _Handle(paramiko.SFTPHandle):
    """An open file."""

    def __init__(self, descriptor: int, flags: int) -> None:
        super().__init__(flags)
        self._descriptor = descriptor

    def read(self, offset: int, length: int) -> bytes | int:
        return _answer(lambda: os.pread(self._descriptor, length, offset))

    def write(self, offset: int, data: ReadableBuffer) -> int:
        return _done(lambda: os.pwrite(self._descriptor, data, offset))

    def stat(self) -> paramiko.SFTPAttributes | int:
        return _answer(lambda: _attributes(os.fstat(self._descriptor)))

    def close(self) -> None:
        os.close(self._descriptor)


def _attributes(result: os.stat_result, name: str | None = None) -> paramiko.SFTPAttributes:
    return paramiko.SFTPAttributes.from_stat(result, name)


def _answer(ask: Callable[[], _T]) -> _T | int:
    try:
        return ask()
    except OSError as error:
        return paramiko.SFTPServer.convert_errno(error.errno or 0)


def _done(act: Callable[[], object]) -> int:
    try:
        act()
    except OSError as error:
        return paramiko.SFTPServer.convert_errno(error.errno or 0)
    return sftp.SFTP_OK


def _send_on(channel: paramiko.Channel, target: socket.socket) -> None:
    while data := channel.recv(_CHUNK):
        target.sendall(data)
    target.shutdown(socket.SHUT_RDWR if channel.closed else socket.SHUT_WR)


def _feed(channel: paramiko.Channel, stdin: IO[bytes]) -> None:
    with stdin:
        while data := channel.recv(_CHUNK):
            stdin.write(data)
            stdin.flush()


def _copy(source: IO[bytes], send: Callable[[bytes], None]) -> None:
    """To the end of `source`, even when nobody listens any more: the process must not block."""
    with source:
        listening = True
        while data := os.read(source.fileno(), _CHUNK):
            try:
                if listening:
                    send(data)
            except (OSError, paramiko.SSHException):
                listening = False
