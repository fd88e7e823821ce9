"""Whether anybody wants a session: clients that wait for it, or one that has been given it."""

import contextlib
import time
from collections.abc import Callable, Iterator


class Keepalive:
    """Kept for each session. ``changed`` is called when it may be given up earlier than before.

    ``keep`` is how long (seconds) a session is kept that nobody waits for and nobody has: its
    client hung up, or was told to ask again.
    """

    def __init__(self, *, claimed: bool, keep: float, changed: Callable[[], None]) -> None:
        self.claimed = claimed
        self._keep = keep
        self._changed = changed
        self._clients = 0
        self._last = time.monotonic()
        self._elsewhere = 0.0
        self._asked = False

    @contextlib.contextmanager
    def client_waits(self) -> Iterator[None]:
        """Somebody waits, inside the ``with`` block."""
        self._clients += 1
        self._changed()
        try:
            yield
        finally:
            self._clients -= 1
            self.touch()
            self._changed()

    def touch(self) -> None:
        """Somebody asked for the session: the time to keep it begins anew."""
        # Not told as a change, since who is told of changes asks again.
        self._last, self._asked = time.monotonic(), True

    def elsewhere(self, seconds: float) -> None:
        """Another replica has a client that wants it, and would say so again in that time.

        With 0, that client has left.
        """
        self._last = time.monotonic()
        self._elsewhere = self._last + seconds
        self._changed()

    def here(self) -> bool:
        """Whether a client of this replica wants it, or has asked since this was last called."""
        asked, self._asked = self._asked, False
        return not self.claimed and (asked or self._clients > 0)

    @property
    def has_clients(self) -> bool:
        """Whether a client of this replica waits."""
        return self._clients > 0

    @property
    def free(self) -> bool:
        """Whether nobody waits for it and nobody has it."""
        return not self.claimed and not self._clients and time.monotonic() >= self._elsewhere

    @property
    def until(self) -> float | None:
        """When it is given up (monotonic seconds), or None while somebody wants it."""
        if self.claimed or self._clients:
            return None
        return max(self._last, self._elsewhere) + self._keep

    @property
    def over(self) -> bool:
        """Whether it is to be given up."""
        return self.until is not None and time.monotonic() >= self.until
