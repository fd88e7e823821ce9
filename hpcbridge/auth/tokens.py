"""API tokens: made once, kept as a digest, asked for at every request, so a revocation holds at
once.

A token is ``hpcb_ID_SECRET``: 12 hexadecimal digits to find and name it by, and 64 (256 random
bits) that prove it. With so many, a plain SHA-256 cannot be searched.
"""

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Collection, Sequence

from sqlalchemy import JSON, Column
from sqlmodel import Field, SQLModel, col, delete, or_, select, update

from hpcbridge.auth.identity import Scope
from hpcbridge.errors import NotAuthenticated, RequestError, StoreError
from hpcbridge.store import Store

log = logging.getLogger(__name__)

TOKEN = re.compile(r"hpcb_([0-9a-f]{12})_[0-9a-f]{64}")
USE_INTERVAL = 60.0
"""Seconds between two notes of a token's last use."""
_NOT_VALID = "This token is not valid."
_NO_DIGEST = hashlib.sha256(b"").hexdigest()


class TokenRow(SQLModel, table=True):
    """One API token. Times are seconds since the epoch, UTC."""

    __tablename__ = "tokens"

    id: str = Field(primary_key=True, max_length=16)
    #: SHA-256 of the whole token, in hexadecimal digits.
    digest: str = Field(max_length=64)
    user: str = Field(max_length=64)
    scopes: list[str] = Field(sa_column=Column(JSON, nullable=False))
    note: str = ""
    created_at: float
    expires_at: float
    #: Within a minute.
    used_at: float | None = None
    revoked_at: float | None = None

    @property
    def state(self) -> str:
        """``valid``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        return "valid" if time.time() < self.expires_at else "expired"


class Tokens:
    """The tokens of a database. Every method may raise :class:`~hpcbridge.errors.StoreError`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(
        self, user: str, scopes: Collection[Scope], *, lasts: float, note: str = ""
    ) -> tuple[TokenRow, str]:
        """Make a token for ``lasts`` seconds. Its text, the second value, is told only now."""
        token_id, now = secrets.token_hex(6), time.time()
        token = f"hpcb_{token_id}_{secrets.token_hex(32)}"
        row = TokenRow(
            id=token_id,
            digest=_digest(token),
            user=user,
            scopes=sorted(scopes),
            note=note,
            created_at=now,
            expires_at=now + lasts,
        )
        async with self._store.writing() as session:
            session.add(row)
        return row, token

    async def all(self, user: str | None = None) -> Sequence[TokenRow]:
        """The tokens, of one user or of all, oldest first."""
        query = select(TokenRow).order_by(col(TokenRow.created_at))
        if user is not None:
            query = query.where(col(TokenRow.user) == user)
        async with self._store.reading() as session:
            return (await session.execute(query)).scalars().all()

    async def revoke(self, token_id: str) -> TokenRow:
        """End a token. Raises :class:`~hpcbridge.errors.RequestError` where there is none."""
        live = col(TokenRow.revoked_at).is_(None)
        async with self._store.writing() as session:
            # Written before it is read: SQLite lets no transaction write that began by reading
            # while the service wrote.
            mine = update(TokenRow).where(col(TokenRow.id) == token_id, live)
            await session.execute(mine.values(revoked_at=time.time()))
            row = await session.get(TokenRow, token_id)
        if row is None:
            raise RequestError("There is no token with this id; see 'hpcbridge token list'.")
        return row

    async def check(self, token: str) -> TokenRow:
        """The row of a token that is valid now.

        Raises :class:`~hpcbridge.errors.NotAuthenticated`, in the same words whatever is wrong.
        """
        token_id = id_of(token)
        if token_id is None:
            raise NotAuthenticated(_NOT_VALID, why="not a token of ours")
        async with self._store.reading() as session:
            row = await session.get(TokenRow, token_id)
        right = hmac.compare_digest(_digest(token), row.digest if row else _NO_DIGEST)
        if row is None:
            raise NotAuthenticated(_NOT_VALID, why="no such token")
        if not right:
            raise NotAuthenticated(_NOT_VALID, why="a wrong secret")
        if row.state != "valid":
            raise NotAuthenticated(_NOT_VALID, why=row.state)
        await self._used(row)
        return row

    async def prune(self, age: float) -> None:
        """Forget tokens that expired or were revoked more than ``age`` seconds ago."""
        then = time.time() - age
        over = or_(col(TokenRow.expires_at) < then, col(TokenRow.revoked_at) < then)
        async with self._store.writing() as session:
            await session.execute(delete(TokenRow).where(over))

    async def _used(self, row: TokenRow) -> None:
        now = time.time()
        if row.used_at is not None and 0 <= now - row.used_at < USE_INTERVAL:
            return
        try:
            async with self._store.writing() as session:
                mine = update(TokenRow).where(col(TokenRow.id) == row.id)
                await session.execute(mine.values(used_at=now))
        except StoreError as error:  # only for people to see
            log.warning("the use of token %s is not noted: %s", row.id, error)


def id_of(token: str) -> str | None:
    """The public part of a token, None where the text cannot be one."""
    match = TOKEN.fullmatch(token)
    return match[1] if match else None


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
