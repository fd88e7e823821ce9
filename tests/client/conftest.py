"""A service with users in a process of its own, and tokens for it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcbridge.auth.identity import Scope
from hpcbridge.auth.tokens import Tokens
from hpcbridge.client import Client
from hpcbridge.store import Store
from tests.site import Service, Site
from tests.usersite import auth

ALL = (Scope.LAUNCH, Scope.READ, Scope.STOP)


class Bridge:
    """A service that takes tokens, and what one needs to be its client."""

    def __init__(self, site: Site) -> None:
        self.site = site
        site.config["auth"] = auth(site, "token")
        site.config["clusters"]["here"] |= {"slots": 30, "trust_jobs": True}
        site.write()
        self.service = Service(site, "--end-sessions")

    @property
    def url(self) -> str:
        return self.service.url

    def token(self, user: str = "alice", *scopes: Scope) -> str:
        """A new one."""
        settings = self.site.settings()

        async def make() -> str:
            store = await Store.open(settings.store_url)
            try:
                _, token = await Tokens(store).create(user, scopes or ALL, lasts=3600)
            finally:
                await store.close()
            return token

        return asyncio.run(make())

    def token_file(self, folder: Path, user: str = "alice", *scopes: Scope) -> Path:
        """A file with a new one."""
        path = folder / "token"
        path.touch(mode=0o600)
        path.write_text(f"{self.token(user, *scopes)}\n")
        return path

    def client(self, user: str = "alice", *scopes: Scope, **more: Any) -> Client:
        """A client of a user."""
        return Client(self.url, token=self.token(user, *scopes), **more)


@pytest.fixture(scope="module")
def bridge(shared_site: Site) -> Iterator[Bridge]:
    """One for all tests of a module."""
    bridge = Bridge(shared_site)
    with bridge.service:
        yield bridge


@pytest.fixture
def client(bridge: Bridge) -> Iterator[Client]:
    """Alice's."""
    with bridge.client() as client:
        yield client
