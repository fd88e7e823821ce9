"""Why an ssh(1) did not come up, from its exit status and then from what it printed.

What is found is told as the exception that asyncssh would have raised, so that both back ends have
the same words and the same notion of what goes away by itself.
"""

import errno
import os
import re
from collections.abc import Sequence

import asyncssh

FAILED = 255
"""The exit status of ssh(1) itself; another one would be a remote command's."""

HOST_KEY = re.compile(
    r"Host key verification failed|.*REMOTE HOST IDENTIFICATION HAS CHANGED"
    r"|No \S+ host key is known for|Certificate invalid:"
)
DENIED = re.compile(r"\S+: Permission denied \(|.*Too many authentication failures")
NO_NAME = re.compile(r"ssh: Could not resolve hostname .*?: (.*)")
NO_CONNECTION = re.compile(r"(?:ssh: )?connect to (?:host|address) .* port \d+: (.*)")
SILENT = re.compile(
    r"Connection timed out during banner exchange|Connection to \S+ .*timed out"
    r"|Timeout, server \S+ not responding"
)
FORWARD = re.compile(r"channel \d+: open failed: (.*)")
PROHIBITED = "administratively prohibited"
JUMP = re.compile(r"stdio forwarding failed|.*Session open refused by peer", re.IGNORECASE)

_ERRNOS = {os.strerror(each): each for each in errno.errorcode}


def failure(status: int, lines: Sequence[str], before: Sequence[str]) -> Exception:
    """Why ssh ended with this status, having printed these lines.

    ``before`` is what the master of the host before it printed meanwhile. A server's banner comes
    before all of it, so the last line that says something counts.
    """
    if status < 0:
        return OSError(f"ssh was ended by signal {-status}")
    if status != FAILED:
        return OSError(f"ssh ended with status {status}: {_last(lines)}")
    for line in reversed(lines):
        if found := _one(line):
            return found
        if JUMP.match(line):
            return refusal(before)
    return OSError(_last(lines))


def refusal(lines: Sequence[str]) -> asyncssh.ChannelOpenError:
    """Why a master could not forward, from what it printed meanwhile.

    Lines do not say of which forward they are: it is only prohibited if all say so.
    """
    reasons = [found[1] for line in lines if (found := FORWARD.match(line))]
    if reasons and all(each.startswith(PROHIBITED) for each in reasons):
        return asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, reasons[-1])
    said = reasons[-1].removeprefix("connect failed: ") if reasons else "sshd did not say why"
    return asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, said)


def _one(line: str) -> Exception | None:
    if HOST_KEY.match(line):
        return asyncssh.HostKeyNotVerifiable(line)
    if DENIED.match(line):
        return asyncssh.PermissionDenied(line)
    if SILENT.match(line):
        return TimeoutError()
    if found := NO_NAME.match(line):
        return OSError(found[1])
    if found := NO_CONNECTION.match(line):
        if found[1] == os.strerror(errno.ETIMEDOUT):
            return TimeoutError()
        return OSError(_ERRNOS.get(found[1]) or 0, found[1])
    return None


def _last(lines: Sequence[str]) -> str:
    said = [line for line in lines if line]
    return said[-1][-300:] if said else "ssh did not say why"
