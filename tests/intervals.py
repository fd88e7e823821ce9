"""How often the service asks clusters, in tests: never as seldom as at a real one."""

import pytest

from hpcbridge.clusters import watcher


def watch_every(
    seconds: float, monkeypatch: pytest.MonkeyPatch, *, least: float | None = None
) -> None:
    """Listings every so many seconds whatever jobs do, and never more than one in ``least``."""
    for name in ("STARTING", "WAITING", "QUIET", "FAILING"):
        monkeypatch.setattr(watcher, f"INTERVAL_{name}", seconds)
    if least is not None:
        monkeypatch.setattr(watcher, "LEAST", least)
