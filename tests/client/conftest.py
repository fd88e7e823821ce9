"""A service with users in a process of its own, and tokens for it."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from hpcbridge.auth.identity import Scope
from hpcbridge.auth.tokens import Tokens
from hpcbridge.client import Client
from hpcbridge.store import Store
from tests.site import Service, Site
from tests.usersite import auth

T = TypeVar("T")

ALL = (Scope.LAUNCH, Scope.READ, Scope.STOP)
# What titles a terminal's window, clears it, colours it, and turns text around.
HOSTILE = r"""#!/bin/sh
printf '\033]0;owned\007\033[2J[red]mist\033[0m\342\200\256\r\n'
exit 9
"""


def unconnected(test: T) -> T:
    """For tests in which a unix socket cannot be connected to.

    httpcore 1.0 leaves such a socket to the garbage collector, which complains.
    """
    complains = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
    return complains(pytest.mark.usefixtures("collected")(test))


class Bridge:
    """A service that takes tokens, and what one needs to be its client."""

    def __init__(self, site: Site) -> None:
        self.site = site
        site.config["auth"] = auth(site, "token")
        site.config["clusters"]["here"] |= {"slots": 30, "trust_jobs": True}
        hostile = site.program("hostile", HOSTILE)
        crash = site.config["applications"]["crash"]
        site.config["applications"]["hostile"] = {**crash, "properties": {"program": hostile}}
        site.write()
        self.service = Service(site, "--end-sessions")
        self._tokens: dict[tuple[str, tuple[Scope, ...]], str] = {}

    @property
    def url(self) -> str:
        return self.service.url

    def token(self, user: str = "alice", *scopes: Scope) -> str:
        """A user's for these scopes."""
        wanted = (user, scopes or ALL)

        if wanted not in self._tokens:
            self._tokens[wanted] = self.new_token(*wanted)[1]
        return self._tokens[wanted]

    def new_token(self, user: str, scopes: tuple[Scope, ...] = ALL) -> tuple[str, str]:
        """The id of a token, and the token."""

        async def make(store: Store) -> tuple[str, str]:
            row, token = await Tokens(store).create(user, scopes, lasts=3600)
            return row.id, token

        return self.with_store(make)

    def revoke(self, token_id: str) -> None:
        """End a token."""

        async def end(store: Store) -> None:
            await Tokens(store).revoke(token_id)

        self.with_store(end)

    def with_store(self, work: Callable[[Store], Awaitable[T]]) -> T:
        """Do something to the service's database, beside it."""

        async def run() -> T:
            store = await Store.open(self.site.settings().store_url)
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(run())

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


@pytest.fixture
def collected() -> Iterator[None]:
    """What a test leaves to the garbage collector is gone with it."""
    yield
    gc.collect()
