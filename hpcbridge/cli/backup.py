"""``hpcbridge backup`` and ``hpcbridge restore``: a copy of the database, and the way back."""

from pathlib import Path
from typing import Annotated

import typer

from hpcbridge.cli.options import Config


def back_up(
    config: Config,
    target: Annotated[Path, typer.Argument(metavar="BACKUP", help="The new file.")],
) -> None:
    """Copy the database to a new file, while the service runs.

    The file is for its owner alone (0600) and holds the secrets of sessions that live; those of
    ended ones are left out. Run it as the service's account.
    """
    from hpcbridge.cli import backupwork

    backupwork.back_up(config, target)


def restore(
    config: Config,
    backup: Annotated[Path, typer.Argument(metavar="BACKUP", help="A file of 'backup'.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Where there is a database: put it aside.")
    ] = False,
) -> None:
    """Put a backup in the place of the database, while the service is stopped.

    When it starts, it takes up the sessions that still run, and ends jobs that the backup does not
    know. Sessions that were kept ready for nobody yet are ended; tokens that were revoked since
    stay so, if the database of before can be read.
    """
    from hpcbridge.cli import backupwork

    backupwork.restore(config, backup, replace=replace)
