"""Torque passes the suite, on the fake server."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import pytest_asyncio

from hpcbridge.conformance import Ability, Conformance
from tests.pbs.bench import FakeBench


class TestTorque(Conformance):
    cannot: ClassVar = {
        Ability.HISTORY: "Torque finds no ended job by its name, and forgets it within minutes",
    }

    @pytest_asyncio.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[FakeBench]:
        bench = FakeBench(tmp_path, "torque")
        yield bench
        await bench.close()
