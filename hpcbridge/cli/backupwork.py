"""What the commands ``hpcbridge backup`` and ``hpcbridge restore`` do."""

import asyncio
import os
import time
from pathlib import Path

from sqlalchemy import URL

from hpcbridge.cli.account import as_owner
from hpcbridge.config import file as configfile
from hpcbridge.config.settings import Settings
from hpcbridge.database import backup as copies
from hpcbridge.database.engine import open_engine, sqlite_file
from hpcbridge.errors import ConfigError
from hpcbridge.files.directories import closed_to_others
from hpcbridge.files.own import NotOurs, open_own
from hpcbridge.service import alone


def back_up(config: Path, target: Path) -> None:
    """Copy the database to the new file ``target``."""
    settings, database = _database(config, "pg_dump --format=custom --file=BACKUP (umask 077)")
    as_owner(settings)
    target = target.absolute()
    closed_to_others("BACKUP", target)
    try:
        copies.back_up(database, target)
    except FileExistsError as error:
        raise ConfigError(f"{target} is there already; a backup replaces nothing.") from error
    print(f"{target}: {target.stat().st_size} bytes. It holds the secrets of living sessions.")


def restore(config: Path, backup: Path, *, replace: bool) -> None:
    """Put a backup in the place of the database."""
    settings, database = _database(config, "pg_restore --clean --if-exists BACKUP")
    as_owner(settings)
    closed_to_others("BACKUP", backup.absolute())
    try:
        os.close(open_own(os.fspath(backup.absolute())))
    except NotOurs as error:
        raise ConfigError(
            f"{backup}: it must be a regular file of this account, of one name (no link)."
        ) from error
    closed_to_others("store.url", database)
    with alone(settings.server.state_dir):
        if database.exists() and not replace:
            raise ConfigError(
                f"There is a database {database}. With --replace it is put aside; the sessions "
                "that only it knows are then ended."
            )
        aside = database.with_name(f"{database.name}.replaced-{time.strftime('%Y%m%dT%H%M%S')}")
        was_there = copies.restore(
            backup, database, aside, lambda part: asyncio.run(_migrated(part))
        )
    print(f"{database} is restored from {backup}.")
    if was_there:
        print(f"The one before is {aside}, secrets included: remove it when all is well.")


async def _migrated(database: Path) -> None:
    """Bring the schema up to date. Raises StoreError where a newer version wrote it."""
    url = URL.create("sqlite+aiosqlite", database=str(database))
    await (await open_engine(url)).dispose()


def _database(config: Path, instead: str) -> tuple[Settings, Path]:
    settings = configfile.load(config)
    database = sqlite_file(settings.store_url)
    if database is None:
        raise ConfigError(
            f"store.url: this command is for SQLite. With PostgreSQL use its own: {instead}; see "
            "docs/operations.md."
        )
    return settings, database
