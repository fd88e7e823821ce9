"""Waiting for something to come true, with a limit."""

import asyncio
import time
from collections.abc import Callable


async def until(check: Callable[[], object], seconds: float = 10) -> None:
    """Ask again every few milliseconds until ``check`` says yes."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        await asyncio.sleep(0.002)
