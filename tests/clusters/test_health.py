"""Since when a cluster does not answer."""

import time

import pytest

from hpcbridge.clusters.health import Health


def test_a_cluster_is_silent_since_the_first_question_of_which_nothing_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "time", lambda: 1000 + clock[0])
    health = Health()
    assert (health.silent_since, health.tried) == (None, float("-inf"))
    health.failed()
    clock[0] += 5
    health.failed()
    assert (health.silent_since, health.tried) == (1100.0, 105.0)
    clock[0] += 5
    health.answered()
    assert (health.silent_since, health.tried) == (None, 110.0)
    clock[0] += 5
    health.failed()
    assert (health.silent_since, health.tried) == (1115.0, 115.0)


def test_it_adds_up_for_how_long_nothing_was_known(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    health = Health()
    assert (health.unknown_seconds, health.checked_at, health.latency) == (0, None, None)
    health.failed("no route to host")
    health.failed("timed out")
    assert health.message == "timed out"
    clock[0] += 7
    assert health.unknown_seconds == 7
    health.answered(0.25)
    clock[0] += 100
    assert (health.unknown_seconds, health.message, health.latency) == (7, "", 0.25)
    health.answered()
    health.failed()
    clock[0] += 3
    assert (health.unknown_seconds, health.latency) == (10, 0.25)
    # A clock that is set has no part in it.
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert health.unknown_seconds == 10
