"""Whether a cluster answers."""

import time


class Health:
    """What came of the last question to a cluster, whoever asked it."""

    def __init__(self) -> None:
        #: Since when it does not answer, in seconds since the epoch.
        self.silent_since: float | None = None
        #: When it was last asked to any end, in monotonic seconds.
        self.tried = float("-inf")

    def answered(self) -> None:
        """It answered."""
        self.silent_since, self.tried = None, time.monotonic()

    def failed(self) -> None:
        """It could not be asked, or not understood."""
        self.tried = time.monotonic()
        if self.silent_since is None:
            self.silent_since = time.time()
