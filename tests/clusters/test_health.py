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
