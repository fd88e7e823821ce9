"""Bounded waiting."""

import time
from collections.abc import Callable

from benchmarks.figures import Unavailable


def until(condition: Callable[[], bool], what: str, limit: float = 30, pause: float = 0.01) -> None:
    """Return once ``condition()`` holds; Unavailable after ``limit`` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise Unavailable(f"not within {limit:g} s: {what}")
        time.sleep(pause)
