"""Work on the service's database beside the service."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from hpcbridge.auth.audit import AuditLog
from hpcbridge.cli.account import account, as_owner
from hpcbridge.config.settings import Settings
from hpcbridge.store import Store

T = TypeVar("T")


def in_database(settings: Settings, work: Callable[[Store], Awaitable[T]]) -> T:
    """The result of ``work`` on the database, which is made where there is none."""
    if settings.store.url is None:
        as_owner(settings)
        settings.server.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def run() -> T:
        store = await Store.open(settings.store_url)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def record(settings: Settings, what: str, facts: dict[str, Any]) -> None:
    """A line in the audit log, where it is a file: the service's log is not ours."""
    if settings.auth.audit_file is None:
        return
    by: dict[str, Any] = {"account": account(os.getuid()), "sudo": os.environ.get("SUDO_USER")}
    AuditLog(settings.auth.audit_file).write(what, "done", by | facts)
