"""Whether anybody wants a session: clients that wait for it, or one that has been given it."""

import contextlib
import time
from collections.abc import Callable, Iterator


class Interest:
    """Kept for each session. ``changed`` is called when the moment moved at which it is given up.

    ``keep`` is how long (seconds) a session is kept that nobody waits for and nobody has: its
    client hung up, or was told to ask again. ``left`` says that this has happened before.
    """

    def __init__(
        self, *, claimed: bool, left: bool, keep: float, changed: Callable[[], None]
    ) -> None:
        self.claimed = claimed
        self._left = left
        self._keep = keep
        self._changed = changed
        self._waiting = 0
        self._last = time.monotonic()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Somebody waits, inside the ``with`` block."""
        self._waiting += 1
        self._changed()
        try:
            yield
        finally:
            self._waiting -= 1
            self._left = not self.claimed
            self.touch()

    def join(self) -> bool:
        """Take the place of a client that waited and left; False where there is none.

        A launch that nobody has left is its own client's, however alike two requests are.
        """
        joined = self.free and self._left
        if joined:
            self._left = False
            self.touch()
        return joined

    def touch(self) -> None:
        """Somebody asked for the session: the time to keep it begins anew."""
        self._last = time.monotonic()
        self._changed()

    @property
    def free(self) -> bool:
        """Whether nobody waits for it and nobody has it."""
        return not self.claimed and not self._waiting

    @property
    def until(self) -> float | None:
        """When it is given up (monotonic seconds), or None while somebody wants it."""
        return self._last + self._keep if self.free else None

    @property
    def over(self) -> bool:
        """Whether it is to be given up."""
        return self.until is not None and time.monotonic() >= self.until
