"""Telling a client of all its sessions in one stream of server-sent events.

Nothing is asked of the database, and a quiet site costs a look every 10 s at what does not notify.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from hpcbridge.auth.identity import Identity
from hpcbridge.errors import RequestError
from hpcbridge.sessions.registry import SessionRegistry
from hpcbridge.sessions.session import Session
from hpcbridge.states import State
from hpcbridge.store import SessionRow

LOOK = 10.0
"""Seconds after which a look is taken unnotified, and it is asked whether the client still may."""
AT_ONCE = 50
"""Sessions that are told of before others have their turn."""
_FIGURES = ("traffic", "page", "ends")
"""What changes without being news: bytes, a ticket made anew, an end put off by use."""

Describe = Callable[[SessionRow], dict[str, Any]]


async def changes(
    registry: SessionRegistry,
    who: Identity,
    describe: Describe,
    still: Callable[[], Awaitable[None]],
    over: Callable[[], bool],
) -> AsyncIterator[str]:
    """Events: each living session of ``who``, then each that changes, its end last.

    ``still`` raises :class:`~hpcbridge.errors.RequestError` where the client may not any more,
    which is the end; so is ``over``, as the service is stopping.
    """
    told: dict[str, dict[str, Any]] = {}
    marks: dict[str, tuple[object, ...]] = {}
    loop = asyncio.get_running_loop()
    asked = loop.time()
    with registry.subscribed() as subscription:
        changed: Iterable[Session] = sorted(
            registry.sessions, key=lambda each: each.row.submitting_at or 0.0
        )
        yield ": listening\n\n"
        while not over():
            for number, session in enumerate(changed):
                if number % AT_ONCE == AT_ONCE - 1:
                    await asyncio.sleep(0)
                if event := _event(session, who, describe, told, marks):
                    yield event
            changed = await subscription.wait(LOOK)
            if loop.time() - asked >= LOOK:
                try:
                    await still()
                except RequestError:
                    return
                asked = loop.time()
                yield ": still there\n\n"
                changed = [*changed, *_unnoticed(registry, marks)]


def _event(
    session: Session,
    who: Identity,
    describe: Describe,
    told: dict[str, dict[str, Any]],
    marks: dict[str, tuple[object, ...]],
) -> str | None:
    row = session.row
    ended = row.state == State.ENDED
    if not who.owns(row.user) or (ended and row.id not in told):
        return None
    described = describe(row)
    news = {key: value for key, value in described.items() if key not in _FIGURES}
    known = told.get(row.id)
    if ended:
        told.pop(row.id, None)
        marks.pop(row.id, None)
    else:
        told[row.id], marks[row.id] = news, _mark(session)
    return None if news == known else f"data: {json.dumps(described)}\n\n"


def _unnoticed(registry: SessionRegistry, marks: dict[str, tuple[object, ...]]) -> list[Session]:
    """Those of which something differs that is cheap to look at."""
    there = ((key, registry.session(key)) for key in marks)
    return [each for key, each in there if each is not None and _mark(each) != marks[key]]


def _mark(session: Session) -> tuple[object, ...]:
    row = session.row
    return row.version, row.state, row.message, session.unknown_since, session.tunnel_state
