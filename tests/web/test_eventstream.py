"""What is worth an event, and how often."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from hpcbridge.notifier import Notifier
from hpcbridge.web import events

READY = {"state": "ready", "message": "Ready.", "traffic": {"bytes_out": 0}}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stream of these descriptions, each told of as often as is looked."""
    monkeypatch.setattr(events, "LOOK", 0.001)

    def begin(described: list[dict[str, Any]]) -> AsyncIterator[str]:
        waiting = iter([*described, {"state": "ended"}])

        async def describe() -> dict[str, Any]:
            return next(waiting)

        notifier = Notifier()
        return events.stream(describe, lambda: notifier, lambda: False)

    return begin


def passed(count: int) -> dict[str, Any]:
    return {**READY, "traffic": {"bytes_out": count}}


async def test_bytes_that_pass_are_no_news_each_time(told: Any) -> None:
    found = [each async for each in told([passed(count) for count in range(50)])]
    assert ['"bytes_out": 0' in found[0], '"ended"' in found[1], len(found)] == [True, True, 2]


async def test_they_are_told_now_and_then(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "FIGURES", 0.0)
    found = [each async for each in told([passed(count) for count in range(3)])]
    assert len(found) == 4


async def test_with_other_news_they_are_told_at_once(told: Any) -> None:
    found = [each async for each in told([passed(0), {**passed(7), "message": "Lost."}])]
    assert '"bytes_out": 7' in found[1]
