"""Waiting for what happens in its own time, with a limit."""

import asyncio
import inspect
import time
from collections.abc import Callable, Iterator
from typing import Any


async def until(check: Callable[[], Any], what: str = "this", seconds: float = 60) -> Any:
    """Call (and await) ``check`` until its answer is true, for ``seconds`` at most; the answer.

    Raises AssertionError, in a sentence with ``what``, when it never is.
    """
    for pause in pauses(seconds):
        answer = check()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        await asyncio.sleep(pause)
    raise AssertionError(f"waited {seconds:g} s in vain for {what}")


def pauses(seconds: float) -> Iterator[float]:
    """How long to sleep before each next look, growing from 2 to 50 ms, until time is up."""
    deadline, pause = time.monotonic() + seconds, 0.002
    while time.monotonic() < deadline:
        yield pause
        pause = min(1.5 * pause, 0.05)
