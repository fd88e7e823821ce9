"""How many sessions there may be: of the service, an application, a user; in all, and waiting."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.config.limits import LimitSettings
from hpcbridge.store import Quota

_Limit: TypeAlias = tuple[int | None, bool, str, Mapping[str, Any]]
"""How many, whether only of those that wait, what of, and the columns that tell which."""


def quotas(
    limits: LimitSettings, application: str, wanted: ApplicationSettings, user: str | None
) -> Sequence[Quota]:
    """All that one more session would count for; without ``user`` it is nobody's yet."""
    alike = {"application": application}
    found: list[_Limit] = [
        (limits.sessions, False, "sessions that this service allows", {}),
        (wanted.sessions, False, f"sessions that are allowed of '{application}'", alike),
        (limits.waiting, True, "places for sessions that wait", {}),
        (wanted.waiting, True, f"places for sessions of '{application}' that wait", alike),
    ]
    if user is not None:
        own, own_alike = {"user": user}, {"user": user} | alike
        found += [
            (limits.per_user, False, "sessions", own),
            (wanted.per_user, False, f"sessions of '{application}'", own_alike),
            (limits.waiting_per_user, True, "waiting sessions", own),
            (wanted.waiting_per_user, True, f"waiting sessions of '{application}'", own_alike),
        ]
    return [
        Quota(limit, _message(limit, waiting, what, columns.get("user")), columns, waiting)
        for limit, waiting, what, columns in found
        if limit is not None
    ]


def _message(limit: int, waiting: bool, what: str, user: str | None) -> str:
    again = "try again when a job has started." if waiting else "try again when one has ended."
    if user is None:
        return f"{{}} of {limit} {what} are taken. {again.capitalize()}"
    has = f"{user} has {{}} of {limit} {what} that one user may have."
    return f"{has} Stop one of them, or {again}"
