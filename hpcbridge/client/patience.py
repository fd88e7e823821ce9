"""How long a service that does not answer is asked again: it may only be restarting."""

import time

from hpcbridge.client.errors import ClientError, ServiceBusy, ServiceUnreachable

PATIENCE = 60.0
"""Seconds without an answer after which it is given up."""
PAUSE = 0.5
"""Seconds between two looks for what is new."""
_FIRST, _LONGEST = 0.2, 5.0


class Patience:
    """Tells how long to wait before the next try; with ``busy`` also after a 503."""

    def __init__(self, *, busy: bool = False) -> None:
        self._kinds = (ServiceUnreachable, ServiceBusy) if busy else (ServiceUnreachable,)
        self.heard()

    def heard(self) -> None:
        """An answer came."""
        self._since = time.monotonic()
        self._pause = _FIRST

    def after(self, error: ClientError) -> float:
        """Seconds until the next try. Raises ``error`` where none would help, or enough were."""
        if not isinstance(error, self._kinds) or time.monotonic() - self._since > PATIENCE:
            raise error
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST)
        return pause
