"""How many connections there are: in all, from one address, and to one session."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol


class Addresses(Protocol):
    """A set of addresses, perhaps of networks."""

    def __contains__(self, address: str, /) -> bool: ...


@dataclass
class Counts:
    """``exempt`` are addresses from which many people come: those of a front end.

    A connection that came by a unix socket has the address None, and counts in all only.
    """

    total: int
    per_address: int
    per_session: int
    exempt: Addresses = frozenset()
    _open: dict[object, str | None] = field(default_factory=dict)
    _addresses: Counter[str] = field(default_factory=Counter)
    _sessions: Counter[str] = field(default_factory=Counter)

    def arrive(self, connection: object, address: str | None) -> bool:
        """Count a connection, once; False where there is no room for it."""
        if connection in self._open:
            return True
        counted = None if address is None or address in self.exempt else address
        full = counted is not None and self._addresses[counted] >= self.per_address
        if full or len(self._open) >= self.total:
            return False
        self._open[connection] = counted
        if counted is not None:
            self._addresses[counted] += 1
        return True

    def leave(self, connection: object) -> None:
        """Forget a connection; one that was not counted is no error."""
        address = self._open.pop(connection, None)
        if address is not None:
            _less(self._addresses, address)

    def enter(self, session_id: str) -> bool:
        """Count a use of a session; False where there is no room for it."""
        if self._sessions[session_id] >= self.per_session:
            return False
        self._sessions[session_id] += 1
        return True

    def exit(self, session_id: str) -> None:
        """The use is over."""
        _less(self._sessions, session_id)


def _less(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
