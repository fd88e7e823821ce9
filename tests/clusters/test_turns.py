"""What is looked at in turn, by a clock that the test moves on."""

import time

import pytest

from hpcbridge.clusters.turns import Turns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_few_are_each_looked_at_at_each_interval(clock: list[float]) -> None:
    turns = Turns[str](interval=1, rate=3)
    turns.add("a")
    turns.add("b")
    assert turns.due(lambda _: True) == ["a", "b"]
    assert turns.due(lambda _: True) == []
    assert turns.next == 101
    clock[0] += 1
    assert turns.due(lambda _: True) == ["a", "b"]


def test_of_many_no_more_are_looked_at_than_the_rate_allows(clock: list[float]) -> None:
    turns = Turns[int](interval=0.5, rate=4)
    for number in range(5):
        turns.add(number)
    looks = []
    for _ in range(5):
        looks.append(turns.due(lambda _: True))
        clock[0] += 0.5
    assert looks == [[0, 1], [2, 3], [4, 0], [1, 2], [3, 4]]


def test_what_is_not_wanted_any_more_takes_nobodys_turn_and_is_forgotten(
    clock: list[float],
) -> None:
    turns = Turns[int](interval=1, rate=2)
    for number in range(4):
        turns.add(number)
    assert turns.due(lambda number: number > 1) == [2, 3]
    clock[0] += 1
    assert turns.due(lambda number: number < 2) == []
    assert not turns
