"""When waiting jobs start at the latest."""

import math

from hpcbridge.schedulers.local.slots import latest_starts


def test_jobs_start_when_slots_become_free_in_the_order_of_the_queue() -> None:
    assert latest_starts(2, [100, 60], [50, 10, 10], now=0) == [60, 100, 110]


def test_a_free_slot_is_free_now() -> None:
    assert latest_starts(3, [100], [10, 10, 10], now=7) == [7, 7, 17]


def test_nothing_is_promised_behind_jobs_without_a_walltime() -> None:
    assert latest_starts(1, [math.inf], [10], now=0) == [None]
    assert latest_starts(1, [5], [None, 10], now=0) == [5, None]
    assert latest_starts(2, [5, math.inf], [10, None], now=0) == [5, 15]


def test_a_job_that_is_over_its_time_ends_now() -> None:
    assert latest_starts(1, [5], [10], now=9) == [9]


def test_more_running_jobs_than_slots_must_end_first() -> None:
    assert latest_starts(1, [10, 20, 30], [5], now=0) == [30]
