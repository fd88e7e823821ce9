"""When things happened, on a clock that nobody sets.

A session's record has seconds since the epoch, for it outlives this process. But the wall clock may
be set while we run (by NTP, by an admin, on a machine that was suspended), and no session may end
for that. So each time of the record is read off the wall clock once, when it is first met, and
counted by the monotonic clock from then on. Between two services only the wall clock is left.
"""

import time

JUMP = 0.5
"""Seconds by which the wall clock must be off before it counts as set: both clocks drift."""


class SessionClock:
    """One session's times: those of its record in monotonic seconds, and the other way round.

    ``met`` are those that the record has already.
    """

    def __init__(self, *met: float | None) -> None:
        self._met: dict[float, float] = {}
        self._epoch = time.time() - time.monotonic()
        for at in met:
            if at is not None:
                self.since(at)

    def since(self, at: float) -> float:
        """The monotonic time of ``at``, in seconds since the epoch; now, if that is yet to come."""
        if at not in self._met:
            self._met[at] = time.monotonic() - max(0.0, time.time() - at)
        return self._met[at]

    def epoch(self, moment: float) -> float:
        """A monotonic time in seconds since the epoch, as the wall clock is set now."""
        epoch = time.time() - time.monotonic()
        if abs(epoch - self._epoch) > JUMP:
            self._epoch = epoch
        return self._epoch + moment
