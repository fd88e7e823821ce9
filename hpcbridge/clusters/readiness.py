"""Following job output until the ready line appears.

wslink writes its ready line without a newline, so the text is looked for in the raw bytes, over the
borders of reads, and on partial lines. One loop a cluster reads only what is new of all logs that
are followed, in one round.
"""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable

from hpcbridge.clusters.remains import Remains
from hpcbridge.clusters.turns import Turns
from hpcbridge.errors import ClusterError
from hpcbridge.plain import readable
from hpcbridge.transports.base import Slice, Transport

log = logging.getLogger(__name__)

CHUNK = 2**20
"""Bytes read of one log in one round."""
TAIL = 4096
"""Bytes of the end of a log that are kept for the user."""
STATUS_LIMIT = 4096
STATUS_INTERVAL = 0.25
"""Seconds between two looks at a status file."""
END_INTERVAL = 1.0
"""Seconds between two looks at the status file of a session that is ready."""
END_RATE = 200
"""Status files of ready sessions that are read in a second at most; then the looks are rarer."""
WAITING_INTERVAL = 0.05
"""Seconds between two looks at the logs of jobs that are not known to run."""
WAITING_RATE = 200
"""Logs of such jobs that are read in a second at most, in turn: a log that has begun is only a
hint, and the scheduler tells of the job anyway."""


class ReadyLine:
    """Finds the first of some texts in a stream of bytes, wherever the reads cut it."""

    def __init__(self, *texts: str) -> None:
        self._wanted = [text.encode() for text in texts]
        self._overlap = max(map(len, self._wanted)) - 1
        self._kept = b""

    def feed(self, data: bytes) -> bool:
        """Whether one of the texts is complete with ``data``."""
        seen = self._kept + data
        self._kept = seen[-self._overlap :] if self._overlap else b""
        return any(wanted in seen for wanted in self._wanted)


def parse_status(data: bytes) -> dict[str, int]:
    """The numbers that a job tells in its status file; whatever else stands there is left out.

    ``port`` is only taken from 1024 to 65535, ``log``, the bytes that its log had when it began, up
    to 1 TiB, and from 0 to 255 the exit statuses ``over``, the application's, and ``exit``, the
    job's. ``listening`` is 1 once the application listens on the port, and 0 if that will be told;
    ``taken`` is 1 where another process does, ``wide`` where others than the node can connect.
    """
    allowed = {
        "port": range(1024, 65536),
        "log": range(2**40),
        "listening": range(2),
        "taken": range(1, 2),
        "wide": range(1, 2),
        "over": range(256),
        "exit": range(256),
    }
    found = {}
    for line in data[:STATUS_LIMIT].decode("ascii", "replace").splitlines():
        key, _, value = line.partition("=")
        number = int(value) if re.fullmatch(r"[0-9]{1,13}", value) else -1
        if number in allowed.get(key, ()):
            found[key] = number
    return found


def printable(data: bytes) -> str:
    """Log bytes as text fit for a page: bad UTF-8 replaced, terminal and control codes removed."""
    return readable(data.decode("utf-8", "replace")).strip("\n")


class Following:
    """What is known of one session's output. ``moved`` is called when more of it is known.

    Without ``ready_lines`` the application is ready when it listens on its port. With ``quiet`` it
    is ready already, and only its end is looked for.

    A port is only taken once: what the application was started with does not change. Where the job
    is run again, ``former`` is the port of the run before (0 if that is not known): its output and
    what it told count no more, and the log is read from where the new run began. ``port`` is the
    one that is known already. A run that nobody has told of shows in its port, which is always
    another than that of the run before (``rerun``).
    """

    def __init__(
        self,
        directory: str,
        ready_lines: list[str],
        moved: Callable[[], None],
        former: int | None = None,
        *,
        port: int | None = None,
        quiet: bool = False,
    ) -> None:
        self.directory = directory
        self.quiet = quiet
        self._former = former
        self._moved = moved
        self.offset = 0
        self.tail = b""
        self.port = port
        self.rerun = False
        self.ready = asyncio.Event()
        self.exited = asyncio.Event()
        self._line = ReadyLine(*ready_lines) if ready_lines else None
        self._told: dict[str, int] = {}
        self._confirmed = False
        if quiet:
            self.ready.set()

    @property
    def listening(self) -> bool | None:
        """Whether the application listens on its port; None where its job does not tell."""
        told = self._told.get("listening")
        return None if told is None else bool(told)

    @property
    def taken(self) -> bool:
        """Whether a process that is not the application's listens on its port."""
        return "taken" in self._told

    @property
    def wide(self) -> bool:
        """Whether it listens on more addresses than the loopback, which was to be the only one."""
        return "wide" in self._told

    @property
    def over(self) -> int | None:
        """The application's exit status, once it is over by itself."""
        return self._told.get("over")

    @property
    def serving(self) -> bool:
        """Whether it is ready, and listens as far as its job tells.

        What the job told before the ready line came does not count: it tells that it will tell
        only when it starts the application.
        """
        known = self._confirmed and self.port is not None and not self.taken
        return known and self.listening is not False

    @property
    def hasty(self) -> bool:
        """Whether the next word of its job makes it serve."""
        return self.ready.is_set() and not self.quiet and not self.serving and self.over is None

    @property
    def waits_for_run(self) -> bool:
        """Whether the job's next run has not told anything yet."""
        return self._former is not None

    def read_output(self, data: bytes) -> None:
        """New bytes of the log."""
        self.offset += len(data)
        self.tail = (self.tail + data)[-TAIL:]
        if self._line is not None and self._line.feed(data) and not self.ready.is_set():
            self.ready.set()
            self._moved()

    def read_status(self, data: bytes) -> None:
        """The whole status file as it is now."""
        status = parse_status(data)
        if self.waits_for_run:
            if status.get("port", self._former) == self._former:
                return
            self._former, self.offset = None, status.get("log", 0)
        port = status.pop("port", None)
        if self.rerun or (None not in (port, self.port) and port != self.port):
            if not self.rerun:
                self.rerun = True
                self._moved()
            return
        moved = status != self._told
        self._told = status
        if self.port is None and port is not None:
            self.port, moved = port, True
        if self._line is None and self.port is not None:
            self.ready.set()
        if self.ready.is_set() and not self._confirmed:
            self._confirmed = moved = True
        if "exit" in status:
            self.exited.set()
        if moved:
            self._moved()


class Follower:
    """Follows all logs of one cluster that are waited for. ``stirred`` is called at signs of life.

    A sign of life (first output, or an exit status) is a hint to ask the scheduler, never proof.
    """

    def __init__(self, transport: Transport, woken: Callable[[], None]) -> None:
        self._transport = transport
        self._woken = woken
        self._followed: set[Following] = set()
        self._starting: set[Following] = set()
        self._waiting = Turns[Following](WAITING_INTERVAL, WAITING_RATE)
        self._ready = Turns[Following](END_INTERVAL, END_RATE)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._next_status = 0.0
        #: Why output could not be read the last time; "" where it could.
        self.trouble = ""

    def follow(
        self,
        directory: str,
        ready_lines: list[str],
        moved: Callable[[], None],
        former: int | None = None,
    ) -> Following:
        """Begin to follow the log of a session directory from its start, or that of the next run.

        See :class:`Following`.
        """
        return self._begin(Following(directory, ready_lines, moved, former))

    def follow_end(
        self, directory: str, moved: Callable[[], None], port: int | None = None
    ) -> Following:
        """Begin to look, now and then, whether the application of a ready session is over, or its
        job was run again; ``port`` is the application's."""
        return self._begin(Following(directory, [], moved, port=port, quiet=True))

    def _begin(self, following: Following) -> Following:
        self._followed.add(following)
        (self._ready if following.quiet else self._waiting).add(following)
        self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="follow logs")
        return following

    def runs(self, following: Following) -> None:
        """Its job is known to run: from now on it is followed closely."""
        if following not in self._starting:
            self._starting.add(following)
            self._wake.set()

    def drop(self, following: Following) -> None:
        """Follow no longer."""
        self._followed.discard(following)
        self._starting.discard(following)

    async def look(self, following: Following) -> None:
        """Read now what its job has told. Raises :class:`hpcbridge.errors.ClusterError`."""
        await self._read_status([following])

    async def tail(self, directory: str) -> str:
        """The last lines of a log as text; "" where there is none or it cannot be read."""
        return (await self.remains(directory)).tail

    async def remains(self, directory: str) -> Remains:
        """What a job has left behind, as far as it can be read."""
        names = ("output.log", "scheduler.out", "status")
        wanted = [Slice(f"{directory}/{name}", -TAIL, TAIL) for name in names]
        try:
            log, said, status = await self._transport.read(wanted)
        except ClusterError:
            return Remains()
        texts = [printable(each) if each else "" for each in (log, said)]
        told = parse_status(status or b"")
        began = log is not None or bool(status)
        ended = told.get("exit", told.get("over"))
        return Remains(
            texts[0] or texts[1], texts[1], ended, began, "port" in told, "taken" in told
        )

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            if not self._followed:
                await self._wake.wait()
            behind = False
            try:
                behind = await self._read_logs()
                await self._read_status(self._due())
                self.trouble = ""
            except Exception as error:
                # Whatever went wrong: the loop goes on.
                expected = isinstance(error, ClusterError)
                log.warning("job output cannot be read: %s", error, exc_info=not expected)
                self.trouble = str(error) if expected else "see the service's log"
                await asyncio.sleep(1)
            if self._starting:
                await asyncio.sleep(0 if behind else self._transport.follow_interval)
                continue
            soonest = min(
                (turns.next for turns in (self._waiting, self._ready) if turns), default=0
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(soonest):
                    await self._wake.wait()

    def _due(self) -> list[Following]:
        """Whose status file is to be read now."""
        due = [each for each in self._starting if each.hasty]
        if time.monotonic() >= self._next_status:
            self._next_status = time.monotonic() + STATUS_INTERVAL
            due = list(self._starting)
        return due + self._ready.due(lambda each: each in self._followed)

    def _waits(self, following: Following) -> bool:
        return following in self._followed and following not in self._starting

    async def _read_logs(self) -> bool:
        """One round over the logs; whether any has more to read."""
        waiting = self._waiting.due(self._waits)
        anew = [each for each in waiting if each.waits_for_run]
        wanted = [
            each
            for each in (*self._starting, *waiting)
            if not each.ready.is_set() and not each.waits_for_run
        ]
        if not wanted and not anew:
            return False
        slices = [Slice(f"{each.directory}/output.log", each.offset, CHUNK) for each in wanted]
        found = await self._transport.read(slices) if slices else []
        heard, behind = anew, False
        for each, data in zip(wanted, found, strict=True):
            if data:
                each.read_output(data)
                behind = behind or len(data) == CHUNK
            # The log is there, if empty: the job has begun.
            more = each.port is None or each.ready.is_set() or each not in self._starting
            if data is not None and more:
                heard.append(each)
        if heard:
            await self._read_status(heard)
        return behind

    async def _read_status(self, wanted: list[Following]) -> None:
        if not wanted:
            return
        woken = False
        found = await self._transport.read(
            [Slice(f"{each.directory}/status", 0, STATUS_LIMIT) for each in wanted]
        )
        for each, data in zip(wanted, found, strict=True):
            if data:
                before = (each.port, each.over, each.exited.is_set())
                each.read_status(data)
                woken = woken or before != (each.port, each.over, each.exited.is_set())
        if woken:
            self._woken()

    async def close(self) -> None:
        """Follow nothing any more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
