"""Working hours, in a time zone, over weekends, midnights and summer time."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from hpcbridge.config.hours import Clock, Hours

ZURICH = ZoneInfo("Europe/Zurich")


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZURICH).timestamp()


def clock(*hours: str) -> Clock:
    return Clock([Hours.parse(each) for each in hours], ZURICH)


@pytest.mark.parametrize(
    ("moment", "inside"),
    [
        ("2026-03-02 07:59:59", False),  # a Monday
        ("2026-03-02 08:00", True),
        ("2026-03-06 17:59:59", True),
        ("2026-03-06 18:00", False),
        ("2026-03-07 12:00", False),
    ],
)
def test_hours_begin_and_end_when_they_say(moment: str, inside: bool) -> None:
    office = clock("Mon-Fri 08:00-18:00")
    opened = office.opened(at(moment))
    assert opened == (at(f"{moment[:10]} 08:00") if inside else None)


def test_without_hours_it_is_always_time() -> None:
    assert Clock().opened(at("2026-03-07 03:00")) == 0.0


def test_days_go_over_the_weekend_and_there_may_be_several_hours() -> None:
    odd = clock("Sat-Mon 09:00-10:00", "Wed 20:00-24:00")
    for moment in ("2026-03-07 09:30", "2026-03-08 09:30", "2026-03-09 09:30", "2026-03-11 23:59"):
        assert odd.opened(at(moment)) is not None
    assert odd.opened(at("2026-03-10 09:30")) is None


def test_hours_that_meet_at_midnight_are_one_night() -> None:
    night = clock("Mon 22:00-24:00", "Tue 00:00-06:00")
    assert night.opened(at("2026-03-03 05:00")) == at("2026-03-02 22:00")


def test_a_week_without_a_gap_has_an_opening_too() -> None:
    assert clock("Mon-Sun 00:00-24:00").opened(at("2026-03-03 05:00")) is not None


def test_a_day_begins_at_midnight_also_when_summer_time_does() -> None:
    day = clock()
    assert at("2026-03-29 12:00") - day.midnight(at("2026-03-29 12:00")) == 11 * 3600
    assert at("2026-10-25 12:00") - day.midnight(at("2026-10-25 12:00")) == 13 * 3600
    begun = clock("Sun 01:00-18:00").opened(at("2026-03-29 12:00"))
    assert begun == at("2026-03-29 01:00")


def test_the_machines_own_zone_is_the_default() -> None:
    now = datetime(2026, 3, 3, 12, 0).astimezone()
    midnight = Clock().midnight(now.timestamp())
    assert midnight == now.replace(hour=0).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Mon",
        "Monday 08:00-18:00",
        "Mon 8:00-18:00",
        "Mon 18:00-08:00",
        "Mon 08:00-08:00",
        "Mon 08:00-25:00",
        "Mon 24:00-24:00",
        "Mon-Xyz 08:00-18:00",
        "Mon 08:00-18:00; x",
    ],
)
def test_what_are_no_hours_is_told_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="Mon-Fri 08:00-18:00"):
        Hours.parse(text)
