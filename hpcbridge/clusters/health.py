"""Whether a cluster answers."""

import time


class Health:
    """What came of the last question to a cluster, whoever asked it."""

    def __init__(self) -> None:
        #: Since when it does not answer, in seconds since the epoch.
        self.silent_since: float | None = None
        #: When it was last asked to any end, in monotonic seconds.
        self.tried = float("-inf")
        #: The same in seconds since the epoch; None before the first time.
        self.checked_at: float | None = None
        #: Seconds that its last timed answer took.
        self.latency: float | None = None
        #: Why it could not be asked the last time; "" where it could.
        self.message = ""
        self._silent = 0.0
        self._silent_from: float | None = None

    @property
    def unknown_seconds(self) -> float:
        """For how many seconds in all nothing could be known of its jobs, until now."""
        now = time.monotonic()
        return self._silent + (now - self._silent_from if self._silent_from is not None else 0.0)

    def answered(self, seconds: float | None = None) -> None:
        """It answered, ``seconds`` after it was asked where that was measured."""
        self._silent, self._silent_from = self.unknown_seconds, None
        self.silent_since, self.message = None, ""
        self.tried, self.checked_at = time.monotonic(), time.time()
        self.latency = self.latency if seconds is None else seconds

    def failed(self, message: str = "") -> None:
        """It could not be asked, or not understood, and why."""
        self.tried, self.checked_at, self.message = time.monotonic(), time.time(), message
        if self.silent_since is None:
            self.silent_since, self._silent_from = self.checked_at, self.tried
