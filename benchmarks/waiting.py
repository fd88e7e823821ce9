"""Bounded waiting, and seeing a ready line when it is written."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.figures import Unavailable


def until(condition: Callable[[], bool], what: str, limit: float = 30, pause: float = 0.01) -> None:
    """Return once ``condition()`` holds; Unavailable after ``limit`` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise Unavailable(f"not within {limit:g} s: {what}")
        time.sleep(pause)


class LogWatch:
    """Notes when the ready line of the one session below ``root`` was written, to 2 ms.

    The log's own time will not do for applications that write more later.
    """

    def __init__(self, root: Path, ready_line: bytes = b"Starting factory") -> None:
        self._root, self._ready_line = root, ready_line
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        #: Seconds since the epoch.
        self.seen: float | None = None

    def __enter__(self) -> "LogWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while self.seen is None and not self._over.wait(0.002):
            if any(self._ready_line in log.read_bytes() for log in self._root.glob("*/output.log")):
                self.seen = time.time()
