"""Debian's Grid Engine, brought up once, with an empty queue for every test."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import gridengine
from testbed.gridengine import GridEngine


@pytest.fixture(scope="session")
def ge_machine() -> Iterator[GridEngine]:
    """The machine. Its directory is where other users can get in, as pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="hpcb-ge-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        with gridengine.running(Path(name)) as machine:
            yield machine


@pytest.fixture
def ge(ge_machine: GridEngine) -> Iterator[GridEngine]:
    """The same without jobs, before and after."""
    yield ge_machine
    ge_machine.delete_all()
