"""A bench for each test, on which nothing may be left alive."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hpcbridge.schedulers.local import keeper, processes
from tests.schedulers.local.bench import Bench


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(keeper, "KILL_WAIT", 0.3)
    bench = Bench(tmp_path)
    yield bench
    for runner in bench.runners:
        await runner.close()
    left = bench.alive()
    processes.send(signal.SIGKILL, left)
    assert left == []
