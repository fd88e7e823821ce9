"""File descriptors: each connection needs some, and systems give few by default."""

import asyncio
import logging
import resource
import time
from contextlib import suppress
from typing import Any

_log = logging.getLogger(__name__)

#: Descriptors of everything that is no client's connection.
OWN = 200
#: Descriptors that one client's connection needs: its own, both of the way to the tunnel, and three
#: to a master of ssh(1), or one to the application where there is no SSH on the way.
EACH = 6
#: Seconds between two lines of the log about connections that cannot be accepted.
QUIET = 30.0

_usual: tuple[int, int] | None = None
"""The limits before they were raised."""


def raise_limit() -> int:
    """Take all descriptors that the system allows (setrlimit(2)); returns how many."""
    global _usual
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        _usual = _usual or (soft, hard)
    return limits()[0]


def limits() -> tuple[int, int]:
    """The descriptors that this process may have, and those that it may ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    endless = resource.RLIM_INFINITY
    return 1 << 20 if soft == endless else soft, 1 << 20 if hard == endless else hard


def usual(pid: int) -> None:
    """Give a process that was just started the limit that we had ourselves.

    Programs that close every descriptor they might have would do so for minutes, and sbatch takes
    its own limits to the nodes (PropagateResourceLimits in slurm.conf(5)).
    """
    if _usual is not None:
        with suppress(ProcessLookupError, PermissionError):  # it is over, or another account's
            resource.prlimit(pid, resource.RLIMIT_NOFILE, _usual)


def room(descriptors: int) -> int:
    """The connections of clients that so many descriptors are enough for."""
    return max((descriptors - OWN) // EACH, 1)


class Complaints:
    """A loop's exception handler that tells of failed accepts once in a while.

    asyncio tells of each, and tries a thousand at once: megabytes of log a second.
    """

    def __init__(self) -> None:
        self._told = -QUIET
        self._failed = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """As of :meth:`asyncio.loop.set_exception_handler`."""
        if "accept" not in str(context.get("message", "")):
            loop.default_exception_handler(context)
            return
        self._failed += 1
        now = time.monotonic()
        if now - self._told >= QUIET:
            _log.error(
                "%d connections could not be accepted: %s. Raise LimitNOFILE, or lower "
                "limits.connections.",
                self._failed,
                context.get("exception"),
            )
            self._told, self._failed = now, 0
