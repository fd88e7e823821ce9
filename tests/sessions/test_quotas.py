"""What one more session counts for, and what is told where that is too many."""

from typing import Any

import pytest

from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.config.limits import LimitSettings
from hpcbridge.sessions.quotas import quotas

ALIKE = {"application": "cone"}
EACH = "Stop one of them, or try again when"


@pytest.mark.parametrize(
    ("where", "name", "columns", "waiting", "message"),
    [
        ("all", "sessions", {}, False, "{} of 7 sessions that this service allows are taken."),
        ("one", "sessions", ALIKE, False, "{} of 7 sessions that are allowed of 'cone' are taken."),
        ("all", "waiting", {}, True, "{} of 7 places for sessions that wait are taken."),
        ("one", "waiting", ALIKE, True, "{} of 7 places for sessions of 'cone' that wait"),
        ("all", "per_user", {"user": "ann"}, False, "ann has {} of 7 sessions that one user may"),
        ("one", "per_user", {"user": "ann"} | ALIKE, False, "ann has {} of 7 sessions of 'cone'"),
        ("all", "waiting_per_user", {"user": "ann"}, True, "ann has {} of 7 waiting sessions that"),
        ("one", "waiting_per_user", {"user": "ann"} | ALIKE, True, "7 waiting sessions of 'cone'"),
    ],
)
def test_each_limit_counts_its_own_sessions_and_says_when_there_is_room_again(
    where: str, name: str, columns: dict[str, Any], waiting: bool, message: str
) -> None:
    every: dict[str, Any] = {name: 7} if where == "all" else {}
    limits = LimitSettings(**({"sessions": 100} | every))
    more: dict[str, Any] = {name: 7} if where == "one" else {}
    wanted = ApplicationSettings(cluster="here", template="t", **more)
    (quota,) = (each for each in quotas(limits, "cone", wanted, "ann") if each.limit == 7)
    assert (quota.limit, dict(quota.columns), quota.queued) == (7, columns, waiting)
    assert message in quota.message
    when = "a job has started." if waiting else "one has ended."
    again = f"{EACH} {when}" if "user" in columns else f"Try again when {when}"
    assert quota.message.endswith(again)
    nobodys = [each.limit for each in quotas(limits, "cone", wanted, None)]
    assert nobodys.count(7) == (0 if "user" in columns else 1)
