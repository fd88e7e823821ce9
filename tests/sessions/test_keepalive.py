"""Whether anybody wants a session, and for how long it is kept when nobody does."""

import time

import pytest

from hpcbridge.sessions.keepalive import Keepalive

KEEP = 100.0


class Wanted(Keepalive):
    """Counts what it tells."""

    def __init__(self, *, claimed: bool = False) -> None:
        self.told = 0
        super().__init__(claimed=claimed, keep=KEEP, changed=self._count)

    def _count(self) -> None:
        self.told += 1


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, which the test sets."""
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return clock


def test_a_session_that_nobody_wants_is_kept_for_a_while_and_then_over(now: list[float]) -> None:
    keepalive = Wanted()
    assert keepalive.until == 1000 + KEEP
    now[0] += KEEP - 1
    assert not keepalive.over
    now[0] += 1
    assert keepalive.over


def test_whoever_waits_or_has_it_keeps_it(now: list[float]) -> None:
    keepalive, given = Wanted(), Wanted(claimed=True)
    with keepalive.client_waits(), keepalive.client_waits():
        now[0] += 10 * KEEP
        assert (keepalive.until, keepalive.over, keepalive.has_clients) == (None, False, True)
        assert not keepalive.free
    assert keepalive.until == now[0] + KEEP, "its time begins when the last one leaves"
    assert keepalive.free
    assert not keepalive.has_clients
    assert (given.until, given.over, given.free) == (None, False, False)


def test_who_asks_begins_the_time_anew(now: list[float]) -> None:
    keepalive = Wanted()
    now[0] += KEEP / 2
    keepalive.touch()
    assert keepalive.until == now[0] + KEEP
    assert keepalive.told == 0, "who is told of changes asks again"


def test_a_client_of_another_replica_keeps_it_until_it_would_have_said_so_again(
    now: list[float],
) -> None:
    keepalive = Wanted()
    keepalive.elsewhere(15)
    assert (keepalive.told, keepalive.free, keepalive.until) == (1, False, now[0] + 15 + KEEP)
    now[0] += 15
    assert keepalive.free
    keepalive.elsewhere(15)
    keepalive.elsewhere(0)
    assert (keepalive.free, keepalive.until) == (True, now[0] + KEEP), "that client has left"


def test_it_is_told_once_that_somebody_here_has_asked() -> None:
    keepalive = Wanted()
    assert not keepalive.here()
    keepalive.touch()
    assert keepalive.here()
    assert not keepalive.here()
    with keepalive.client_waits():
        assert keepalive.here()
        assert keepalive.here()
        assert keepalive.told == 1
    assert keepalive.told == 2
    assert keepalive.here(), "it has just left"
    keepalive.touch()
    keepalive.claimed = True
    assert not keepalive.here(), "who has it need not ask"
