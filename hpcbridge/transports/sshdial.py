"""The way to an SSH server by TCP, where its name may have several addresses."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncssh
from aiohappyeyeballs import start_connection

NEXT = 0.25
"""Seconds that an address has before the next one is tried beside it (RFC 8305)."""

T = TypeVar("T")

# What an address that is none of a living sshd brings. A wrong host key or a refusal is no such.
SILENT = (TimeoutError, OSError, asyncssh.ConnectionLost, asyncssh.ProtocolError)


class Dialler:
    """Connects to one name; the address that answered last is tried first."""

    def __init__(self) -> None:
        self._last: Any = None

    async def dial(
        self,
        host: str,
        port: int,
        log_in: Callable[[socket.socket], Awaitable[T]],
        *,
        limit: float,
        family: int = 0,
        local: str | None = None,
    ) -> T:
        """What ``log_in`` makes of a connected socket.

        An address that does not take the connection within ``NEXT`` seconds gets company by the
        next one. One that takes it and is silent then has ``limit`` seconds, before the others get
        as many. Raises what ``log_in`` raises, OSError, and TimeoutError.
        """
        async with asyncio.timeout(limit):
            left: list[Any] = [*await _addresses(host, port, family)]
            near: Any = await _addresses(local, 0, family) if local else None
        left.sort(key=lambda each: each[4] != self._last)
        while True:
            async with asyncio.timeout(limit):
                sock = await start_connection(
                    left, local_addr_infos=near, happy_eyeballs_delay=NEXT, interleave=1
                )
            address: Any = ("", 0)
            try:
                address = sock.getpeername()
                made = await log_in(sock)
            except SILENT:
                sock.close()
                left = [each for each in left if each[4][:2] != address[:2]]
                if not left:
                    raise
            except BaseException:
                sock.close()
                raise
            else:
                self._last = next((e[4] for e in left if e[4][:2] == address[:2]), None)
                return made


async def _addresses(host: str, port: int, family: int) -> Any:
    loop = asyncio.get_running_loop()
    return await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
