"""A lab for each test, on which nothing is left alive."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.machines import Machines
from tests.schedulers.hosts.lab import A, B, Lab


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    with Machines(tmp_path / "machines", A, B) as machines:
        lab = Lab(machines)
        yield lab
        await lab.close()
