"""A copy of an SQLite database that is in use, and back.

The copy is made by SQLite's own backup (https://www.sqlite.org/backup.html), so it is of one
moment, whatever is written meanwhile; and it is written anew (VACUUM), so that nothing is left in
it of rows that were changed or deleted.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from hpcbridge.errors import StoreError

BUSY = 30.0
"""Seconds that another writer is waited for."""
_BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite may have beside a database."""
_FORGET = "UPDATE sessions SET secret = NULL WHERE state = 'ended'"
# One that waited for its user may have had one since, who knows a secret that this row does not.
_NOBODYS = """
UPDATE sessions SET stopped = 1, version = version + 1
 WHERE pool IS NOT NULL AND taken_at IS NULL AND state != 'ended'
"""
_REVOKED = """
UPDATE tokens SET revoked_at = gone.revoked_at FROM former.tokens AS gone
 WHERE gone.id = tokens.id AND gone.revoked_at IS NOT NULL
"""


def back_up(database: Path, target: Path) -> None:
    """Copy ``database`` to the new file ``target``, of mode 0600, which nobody else ever sees half.

    The secrets of ended sessions do not go along. Raises :class:`~hpcbridge.errors.StoreError`, and
    OSError where ``target`` cannot be made or is there.
    """
    if not database.is_file():
        raise StoreError(f"There is no database {database}.")
    with _new(target) as part:
        _copy(database, part)
        _change(part, _FORGET)
        os.link(part, target)  # replaces nothing


def restore(backup: Path, database: Path, aside: Path, migrate: Callable[[Path], None]) -> bool:
    """Put a backup in the place of ``database``; whether there was one, which is ``aside`` then.

    ``migrate`` brings the schema of a file up to date.

    No service may be at work on it. Sessions that waited for their users are to be ended, and
    tokens that were revoked since stay so. Raises :class:`~hpcbridge.errors.StoreError` where the
    backup is none; then nothing was changed.
    """
    there = database.exists()
    with _new(database) as part:
        _copy(backup, part)
        migrate(part)
        _change(part, _FORGET, _NOBODYS)
        if there:
            _carry_over(database, part)
            for end in ("", *_BESIDE):
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{database}{end}").rename(f"{aside}{end}")
        part.rename(database)
    return there


@contextlib.contextmanager
def _new(target: Path) -> Iterator[Path]:
    """A new file beside ``target``; gone in the end, unless it was renamed."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    try:
        yield part
        _sync(target.parent)
    finally:
        for end in ("", *_BESIDE):
            Path(f"{part}{end}").unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    try:
        with (
            contextlib.closing(sqlite3.connect(source, timeout=BUSY)) as reading,
            contextlib.closing(sqlite3.connect(target)) as copy,
        ):
            reading.backup(copy)
            (found,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
            copy.execute("SELECT secret, state FROM sessions LIMIT 1").fetchall()
    except sqlite3.Error as error:
        raise StoreError(f"{source} is no database of hpcbridge: {error}.") from error
    if found != "ok":
        raise StoreError(f"The database {source} is damaged: {found}.")


def _change(database: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
        for statement in statements:
            connection.execute(statement)
        connection.execute("VACUUM")
    _sync(database)


def _carry_over(former: Path, database: Path) -> None:
    """What must not come back with a backup. A former database that is none has nothing to say."""
    with (
        contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection,
        contextlib.suppress(sqlite3.Error),
    ):
        connection.execute("ATTACH ? AS former", (os.fspath(former),))
        connection.execute(_REVOKED)
    _sync(database)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
