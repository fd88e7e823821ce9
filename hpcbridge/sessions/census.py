"""How many sessions there are, kept as they change: asking costs the same whatever their number."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from hpcbridge.store import SessionRow


class Kind(NamedTuple):
    """What sessions are counted by."""

    application: str
    cluster: str
    state: str


class Census:
    """The sessions in this service's hands; an ended one until it has left nothing behind."""

    def __init__(self) -> None:
        self._kinds: dict[str, Kind] = {}
        self._counts: Counter[Kind] = Counter()

    @property
    def counts(self) -> Mapping[Kind, int]:
        """How many there are of each kind; 0 of one that there once was."""
        return self._counts

    def put(self, row: SessionRow) -> None:
        """A session is there, or may stand elsewhere now."""
        kind = Kind(row.application, row.cluster, str(row.state))
        before = self._kinds.get(row.id)
        if before != kind:
            self._kinds[row.id] = kind
            self._counts[kind] += 1
            if before is not None:
                self._counts[before] -= 1

    def drop(self, session_id: str) -> None:
        """A session is over and done with; an unknown one is no error."""
        if (before := self._kinds.pop(session_id, None)) is not None:
            self._counts[before] -= 1
