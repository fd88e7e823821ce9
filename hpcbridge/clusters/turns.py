"""Looks at many things in turn, at a cost that does not grow with their number."""

import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Each is looked at every ``interval`` seconds, or as often as ``rate`` a second allows.

    What is to be looked at no longer is left out when its turn comes.
    """

    def __init__(self, interval: float, rate: float) -> None:
        self._interval = interval
        self._batch = max(1, int(interval * rate))
        self._in_order: deque[T] = deque()
        #: When the next ones are to be looked at, in monotonic seconds.
        self.next = 0.0

    def __bool__(self) -> bool:
        return bool(self._in_order)

    def add(self, each: T) -> None:
        """Look at it, too, after all others."""
        self._in_order.append(each)

    def due(self, wanted: Callable[[T], bool]) -> list[T]:
        """Those whose turn it is now; who is not ``wanted`` any more is forgotten."""
        now = time.monotonic()
        found: list[T] = []
        if now < self.next:
            return found
        self.next = now + self._interval
        for _ in range(len(self._in_order)):
            if len(found) == self._batch:
                break
            each = self._in_order.popleft()
            if wanted(each):
                self._in_order.append(each)
                found.append(each)
        return found
