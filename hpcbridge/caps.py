"""How many sessions there may be: of the service, an application, a user; in all, and waiting."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from hpcbridge.applicationsettings import ApplicationSettings
from hpcbridge.config import LimitSettings
from hpcbridge.store import Cap

_Limit: TypeAlias = tuple[int | None, bool, str, Mapping[str, Any]]
"""How many, whether only of those that wait, what of, and the columns that tell which."""


def caps(
    limits: LimitSettings, application: str, wanted: ApplicationSettings, user: str | None
) -> Sequence[Cap]:
    """All that one more session would count for; without ``user`` it is nobody's yet."""
    alike = {"application": application}
    all_of: tuple[_Limit, ...] = (
        (limits.sessions, False, "sessions that this service allows", {}),
        (wanted.sessions, False, f"sessions that are allowed of '{application}'", alike),
        (limits.waiting, True, "places for sessions that wait", {}),
        (wanted.waiting, True, f"places for sessions of '{application}' that wait", alike),
    )
    own, own_alike = {"user": user}, {"user": user} | alike
    own_of: tuple[_Limit, ...] = (
        (limits.per_user, False, "sessions", own),
        (wanted.per_user, False, f"sessions of '{application}'", own_alike),
        (limits.waiting_per_user, True, "waiting sessions", own),
        (wanted.waiting_per_user, True, f"waiting sessions of '{application}'", own_alike),
    )
    again = {False: "try again when one has ended.", True: "try again when a job has started."}
    found = [
        Cap(
            limit,
            f"{{}} of {limit} {what} are taken. {again[waiting].capitalize()}",
            columns,
            waiting,
        )
        for limit, waiting, what, columns in all_of
        if limit is not None
    ]
    found += [
        Cap(
            limit,
            f"{user} has {{}} of {limit} {what} that one user may have. "
            f"Stop one of them, or {again[waiting]}",
            columns,
            waiting,
        )
        for limit, waiting, what, columns in own_of
        if limit is not None and user is not None
    ]
    return found
