"""A running ssh(1) that is a master: it ends with this service, and what it says is kept."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from pathlib import Path

from hpcbridge.transports.openssh.options import TARGET
from hpcbridge.transports.sshconfig import PASSED

KEPT = 200
"""Lines of standard error that are kept."""
LONGEST = 1000
"""Characters of a line that are kept."""

PATIENCE = 2.0
"""Seconds that ssh has to say goodbye before it is killed."""

# prctl(2): PR_SET_PDEATHSIG is 1. A parent that died before is noticed by its number.
TIED = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class Lines:
    """The last lines that a master printed, numbered."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=KEPT)
        self._news = asyncio.Event()
        self.count = 0

    def add(self, line: str) -> None:
        """Keep one more."""
        self._lines.append(line[:LONGEST])
        self.count += 1
        self._news.set()

    async def more(self, count: int, seconds: float) -> None:
        """Return when there have been more than ``count``, or after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.count <= count:
                    self._news.clear()
                    await self._news.wait()

    def since(self, count: int) -> list[str]:
        """Those that came when there had been ``count`` already."""
        new = min(self.count - count, len(self._lines))
        return list(self._lines)[len(self._lines) - new :]


class Process:
    """Made by :meth:`start`. ``lines`` is what it printed on standard error."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines = Lines()
        self._reading = asyncio.create_task(self._read(), name="ssh stderr")
        self._waiting = asyncio.create_task(process.wait(), name="ssh exit")

    @classmethod
    async def start(cls, ssh: str, config: Path) -> "Process":
        """Start a master with this file; nothing else of a host is in its arguments."""
        environment = {key: os.environ[key] for key in PASSED if key in os.environ}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", TIED, str(os.getpid())),
            *(ssh, "-F", str(config), "-N", "-T", TARGET),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        return cls(process)

    async def _read(self) -> None:
        assert self._process.stderr is not None
        rest = b""
        while data := await self._process.stderr.read(4096):
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                self.lines.add(line.decode("utf-8", "replace").strip())
            rest = rest[:LONGEST]
        self.lines.add(rest.decode("utf-8", "replace").strip())

    async def ended(self) -> int:
        """Its exit status, or minus the signal that ended it; all that it said is in ``lines``."""
        status = await asyncio.shield(self._waiting)
        await asyncio.wait({self._reading}, timeout=PATIENCE)  # its proxy may hold the pipe
        return status

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self._process.returncode is not None

    async def over(self, seconds: float) -> bool:
        """Whether it ends within so many seconds."""
        await asyncio.wait({self._waiting}, timeout=seconds)
        return self._waiting.done()

    async def end(self) -> None:
        """End it."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
            if await self.over(PATIENCE):
                break
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
