"""Working hours: ``Mon-Fri 08:00-18:00``, in a time zone."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY = "|".join(DAYS)
_HOURS = re.compile(
    rf"(?P<first>{_DAY})(?:-(?P<last>{_DAY}))? +"
    r"(?P<from>[0-2][0-9]:[0-5][0-9])-(?P<to>[0-2][0-9]:[0-5][0-9])"
)
_MIDNIGHT = "24:00"


@dataclass(frozen=True)
class Hours:
    """Some hours of some days. ``end`` None is midnight; weekdays as in :mod:`datetime`."""

    days: frozenset[int]
    begin: time
    end: time | None

    @classmethod
    def parse(cls, text: str) -> "Hours":
        """Read ``Mon-Fri 08:00-18:00`` or ``Sat 10:00-24:00``. Raises :class:`ValueError`."""
        told = f"'{text}' is not like 'Mon-Fri 08:00-18:00' (the end at most 24:00, after the begin"
        found = _HOURS.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"{told})")
        first = DAYS.index(found["first"])
        last = DAYS.index(found["last"] or found["first"])
        days = frozenset((first + each) % 7 for each in range((last - first) % 7 + 1))
        try:
            begin = time.fromisoformat(found["from"])
            end = None if found["to"] == _MIDNIGHT else time.fromisoformat(found["to"])
        except ValueError as error:
            raise ValueError(f"{told})") from error
        if end is not None and end <= begin:
            raise ValueError(
                f"{told}; a night is two: 'Mon-Fri 22:00-24:00', 'Tue-Sat 00:00-06:00')"
            )
        return cls(days, begin, end)

    def since(self, now: datetime) -> datetime | None:
        """When they began today, as an aware time; None outside of them."""
        clock = now.time()
        inside = self.begin <= clock and (self.end is None or clock < self.end)
        if now.weekday() not in self.days or not inside:
            return None
        return _at(now.date(), self.begin, now)


@dataclass(frozen=True)
class Clock:
    """Working hours in a time zone; ``zone`` None is the machine's. No hours are all hours."""

    hours: Sequence[Hours] = ()
    zone: ZoneInfo | None = None

    def local(self, now: float) -> datetime:
        """The time ``now`` (seconds since the epoch) as people there have it."""
        if self.zone is None:
            return datetime.fromtimestamp(now).astimezone()
        return datetime.fromtimestamp(now, self.zone)

    def opened(self, now: float) -> float | None:
        """When the hours began that it is now, in seconds since the epoch; None outside of them.

        0 where there are no hours to wait for. Hours that meet at midnight are taken as one.
        """
        if not self.hours:
            return 0.0
        began = self._began(self.local(now))
        while began is not None:
            before = self._began(self.local(began.timestamp() - 1))
            if before is None or now - before.timestamp() > timedelta(days=7).total_seconds():
                return began.timestamp()
            began = before
        return None

    def _began(self, local: datetime) -> datetime | None:
        found = [since for each in self.hours if (since := each.since(local)) is not None]
        return min(found, default=None)

    def midnight(self, now: float) -> float:
        """When this day began, in seconds since the epoch."""
        local = self.local(now)
        return _at(local.date(), time(), local).timestamp()


def _at(day: date, clock: time, like: datetime) -> datetime:
    """A time of a day. The offset of ``like`` may be another one: summer time began since."""
    naive = datetime.combine(day, clock)
    zone = like.tzinfo
    return naive.replace(tzinfo=zone) if isinstance(zone, ZoneInfo) else naive.astimezone()
