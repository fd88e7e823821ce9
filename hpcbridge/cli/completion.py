"""What the shell may complete: applications and sessions, as the service tells them.

It is asked while somebody types: briefly, and whatever goes wrong completes nothing.
"""

from collections.abc import Callable, Iterator

PATIENCE = 2.0
"""Seconds that the service has."""
_MOST = 50

Offer = tuple[str, str]
"""A word, and what it means."""


def applications(incomplete: str) -> list[Offer]:
    """Names of applications."""

    def offers() -> Iterator[Offer]:
        from hpcbridge.cli.service import opened
        from hpcbridge.plain import one_line

        with opened((None, None), timeout=PATIENCE) as client:
            for each in client.applications():
                yield each.name, one_line(each.title)

    return _begun(incomplete, offers)


def live_sessions(incomplete: str) -> list[Offer]:
    """Ids of sessions that have not ended."""
    return _sessions(incomplete, "live")


def sessions(incomplete: str) -> list[Offer]:
    """Ids of sessions, the newest."""
    return _sessions(incomplete, "all")


def _sessions(incomplete: str, state: str) -> list[Offer]:
    def offers() -> Iterator[Offer]:
        from hpcbridge.cli.service import opened
        from hpcbridge.plain import one_line

        with opened((None, None), timeout=PATIENCE) as client:
            for each in client.sessions(state, limit=_MOST).sessions:
                yield each.id, one_line(f"{each.application}, {each.state}")

    return _begun(incomplete, offers)


def _begun(incomplete: str, offers: Callable[[], Iterator[Offer]]) -> list[Offer]:
    from hpcbridge.errors import BridgeError

    try:
        return [offer for offer in offers() if offer[0].startswith(incomplete)]
    except (BridgeError, OSError):
        return []
