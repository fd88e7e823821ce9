"""What the commands ``announce``, ``drain`` and ``undrain`` do: they work on the database."""

import os
from datetime import UTC, datetime
from pathlib import Path

from hpcbridge.cli.account import account
from hpcbridge.cli.databasework import in_database, record
from hpcbridge.clusters.announcements import checked, text_of
from hpcbridge.config import file as configfile
from hpcbridge.database.tables import About
from hpcbridge.errors import ConfigError, RequestError
from hpcbridge.store import Store


def announce(config: Path, text: str, application: str, cluster: str, *, drain: bool) -> None:
    """Announce something of the site, an application or a cluster."""
    settings = configfile.load(config)
    about, name = _about(application, cluster)
    checked(settings, about, name)
    text = text_of(text, drain=drain)
    by = account(os.getuid())
    in_database(
        settings,
        lambda store: store.announcements.put(about, name, text=text, drain=drain, by=by),
    )
    record(settings, "drain" if drain else "announce", _facts(about, name) | {"text": text})
    print(f"{_shown(about, name)}: {_said(text, drain=drain)}")


def withdraw(config: Path, application: str, cluster: str, *, drained: bool = False) -> None:
    """Announce it no more, also of what is configured no more; with ``drained`` only what is
    drained."""
    settings = configfile.load(config)
    about, name = _about(application, cluster)

    async def remove(store: Store) -> bool:
        rows = await store.announcements.all()
        there = [row for row in rows if (row.about, row.name) == (about, name)]
        if not there or (drained and not there[0].drain):
            return False
        return await store.announcements.remove(about, name)

    if not in_database(settings, remove):
        checked(settings, about, name)  # a typing error
        what = "drained" if drained else "announced"
        raise RequestError(f"{_shown(about, name)}: nothing is {what}.")
    record(settings, "withdraw", _facts(about, name))
    print(f"{_shown(about, name)}: withdrawn.")


def listing(config: Path) -> None:
    """Print what is announced, the newest first. Times are UTC."""
    settings = configfile.load(config)
    for row in in_database(settings, lambda store: store.announcements.all()):
        when = datetime.fromtimestamp(row.at, UTC).strftime("%Y-%m-%d %H:%M")
        said = _said(row.text, drain=row.drain)
        print(f"{when}  {row.by}  {_shown(row.about, row.name)}: {said}")


def _about(application: str, cluster: str) -> tuple[About, str]:
    if application and cluster:
        raise ConfigError("--application and --cluster: give one of them, or none for the site.")
    if application:
        return About.APPLICATION, application
    if cluster:
        return About.CLUSTER, cluster
    return About.SITE, ""


def _shown(about: About, name: str) -> str:
    return f"{about} {name}" if name else "the site"


def _said(text: str, *, drain: bool) -> str:
    if not drain:
        return text
    return f"drained ({text})" if text else "drained"


def _facts(about: About, name: str) -> dict[str, str | None]:
    return {"about": about, "name": name or None}
