"""One PostgreSQL for all tests here, with a new database for each."""

import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.postgresql import PostgreSQL
from tests.fakescheduler import FakeSlurm
from tests.postgres.replicas import Site


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    server = PostgreSQL()
    yield server
    server.close()


@pytest.fixture
def database() -> str:
    return f"test_{secrets.token_hex(6)}"


@pytest.fixture
def url(postgresql: PostgreSQL, database: str) -> str:
    """The URL of an empty database."""
    return postgresql.create(database)


@pytest.fixture
def site(postgresql: PostgreSQL, database: str, url: str, tmp_path: Path) -> Iterator[Site]:
    """No replica runs yet."""
    with tempfile.TemporaryDirectory(prefix="hpcb") as directory:
        made = Site(tmp_path, postgresql, database, FakeSlurm(Path(directory) / "slurm"))
        yield made
        made.close()


@pytest.fixture
def two(site: Site) -> Site:
    """Two replicas at work; both began at once, on an empty database."""
    for each in [site.replica().start(wait=False), site.replica().start(wait=False)]:
        each.ready()
    return site
