"""Who asks, once that is known. On which account of a cluster they work is decided elsewhere."""

from collections.abc import Set
from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What an identity may be used for."""

    LAUNCH = "launch"
    READ = "read"
    STOP = "stop"
    OPERATE = "operate"
    """Do so to everybody's sessions; without effect for those who are not operators."""


class How(StrEnum):
    """How a user was recognised."""

    NOBODY = "none"
    """The service knows no users: whoever reaches it is the one it works for."""
    HEADER = "header"
    TOKEN = "token"  # noqa: S105
    COOKIE = "cookie"
    """At a session's own address only, and for that session."""


@dataclass(frozen=True)
class Identity:
    """Somebody who asks. ``user`` None is the single user of a service that knows none.

    ``token`` is the public part of the API token, where there is one. ``visitor`` tells browsers
    apart where there are no users, and is good for finding one's own sessions alone.
    """

    user: str | None
    how: How
    operator: bool = False
    scopes: Set[Scope] = frozenset(Scope)
    token: str | None = None
    visitor: str | None = None

    @property
    def operates(self) -> bool:
        """Whether everybody's sessions are in reach."""
        return self.operator and Scope.OPERATE in self.scopes

    def owns(self, user: str | None) -> bool:
        """Whether a session of ``user`` may be seen and stopped.

        Sessions from a time without users are the operators'.
        """
        if self.how == How.NOBODY or self.operates:
            return True
        return user is not None and user == self.user


ANYBODY = Identity(None, How.NOBODY, operator=True)
"""Everybody, where the service knows no users; and the service itself."""
