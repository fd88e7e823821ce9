"""When waiting jobs start at the latest, where a fixed number may run at once, in order."""

import heapq
import math
from collections.abc import Iterable


def latest_starts(
    slots: int, ends: Iterable[float], walltimes: Iterable[float | None], now: float
) -> list[float | None]:
    """For each waiting job, in the order of the queue, when it starts if every walltime is used up.

    ``ends`` are the latest ends of the running jobs (infinity where there is none), in seconds
    since the epoch; ``walltimes`` those of the waiting ones, in seconds. None: it may never start.
    """
    free = sorted(ends)[-slots:]  # a runner that was given fewer slots first lets jobs end
    free = [now] * (slots - len(free)) + free
    heapq.heapify(free)
    starts: list[float | None] = []
    for walltime in walltimes:
        start = max(now, heapq.heappop(free))
        heapq.heappush(free, math.inf if walltime is None else start + walltime)
        starts.append(start if start < math.inf else None)
    return starts
