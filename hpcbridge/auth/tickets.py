"""How a browser is let in at a session's own address: a ticket once, then a cookie.

Both are signed with the session's secret, which every replica knows and which is erased at the
session's end. The application knows it, too; what it could forge opens its own session alone.
"""

import base64
import hashlib
import hmac
import secrets
import time
from typing import Any

from sqlalchemy import text

from hpcbridge.store import SessionRow, Store

TICKET_LASTS = 60.0
"""Seconds in which a ticket must be used."""
COOKIE_LASTS = 7 * 86400.0
"""Seconds for which a cookie admits, while its session lives."""


_USE = text(
    "INSERT INTO used_tickets (digest, expires_at) VALUES (:digest, :at) ON CONFLICT DO NOTHING"
)
_FORGET = text("DELETE FROM used_tickets WHERE expires_at < :now")


class Tickets:
    """Tickets and cookies of the sessions of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def ticket(self, row: SessionRow, user: str) -> str:
        """Admits ``user`` to the session, once and soon. Letters, digits, ``-``, ``_``, ``.``."""
        return _signed("ticket", row, user, TICKET_LASTS)

    def cookie(self, row: SessionRow, user: str) -> str:
        """Admits ``user`` to the session."""
        return _signed("cookie", row, user, COOKIE_LASTS)

    def user(self, row: SessionRow, cookie: str) -> str | None:
        """Whom a cookie admits to the session; None where it is not valid."""
        return _read("cookie", row, cookie)

    async def redeem(self, row: SessionRow, ticket: str) -> str | None:
        """Whom a ticket admits; the next time nobody. Raises StoreError."""
        user = _read("ticket", row, ticket)
        if user is None:
            return None
        now, digest = time.time(), hashlib.sha256(ticket.encode()).hexdigest()
        async with self._store.writing() as session:
            await session.execute(_FORGET, {"now": now})
            used: Any = await session.execute(_USE, {"digest": digest, "at": now + TICKET_LASTS})
        return user if used.rowcount else None


def _signed(kind: str, row: SessionRow, user: str, lasts: float) -> str:
    name = base64.urlsafe_b64encode(user.encode()).decode().rstrip("=")
    said = f"{int(time.time() + lasts)}.{secrets.token_hex(8)}.{name}"
    return f"{said}.{_mac(kind, row, said)}"


def _read(kind: str, row: SessionRow, text: str) -> str | None:
    said, _, mac = text.rpartition(".")
    if not row.secret or not hmac.compare_digest(mac.encode(), _mac(kind, row, said).encode()):
        return None
    until, _, name = said.split(".")  # it is ours
    if int(until) < time.time():
        return None
    return base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()


def _mac(kind: str, row: SessionRow, said: str) -> str:
    assert row.secret
    message = f"hpcbridge {kind}\n{row.id}\n{said}".encode()
    return hmac.new(row.secret.encode(), message, hashlib.sha256).hexdigest()
