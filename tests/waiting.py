"""Waiting for something to come true. The limits are for slow machines: nothing takes so long."""

import time
from collections.abc import Callable
from typing import Any

from hpcbridge.conformance.patience import pauses, until

__all__ = ["until", "wait_until"]


def wait_until(check: Callable[[], Any], what: str = "this", seconds: float = 60) -> Any:
    """The same as :func:`until` where there is no event loop."""
    for pause in pauses(seconds):
        if answer := check():
            return answer
        time.sleep(pause)
    raise AssertionError(f"waited {seconds:g} s in vain for {what}")
