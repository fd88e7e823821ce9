"""Slurm's commands pass the suite, on the fake Slurm: all faults, none of the waiting."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hpcbridge.conformance import Ability, Bench, Conformance, CountingTransport
from hpcbridge.schedulers.slurm import SlurmScheduler
from hpcbridge.transports.local import LocalTransport
from tests.fakescheduler import FakeSlurm

DOWN = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"
LOST = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n"


class SlurmBench(Bench):
    def __init__(self, fake: FakeSlurm, directory: Path) -> None:
        self.fake = fake
        self.transport = CountingTransport(LocalTransport())
        self.root = str(directory / "sessions")

    def connect(self) -> SlurmScheduler:
        return SlurmScheduler(self.transport, timeout=10)

    def asked(self) -> int:
        return self.transport.commands

    @contextlib.asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        self.fake.hold()
        yield
        self.fake.hold(False)

    async def forget(self, job_id: str) -> None:
        self.fake.forget_everything()

    @contextlib.asynccontextmanager
    async def _spoiled(self, **fault: Any) -> AsyncIterator[None]:
        self.fake.spoil_all(times=-1, **fault)
        yield
        self.fake.spoil()

    def outage(self) -> contextlib.AbstractAsyncContextManager[None]:
        return self._spoiled(lost=True, status=1, out="", err=DOWN)

    def garbled(self) -> contextlib.AbstractAsyncContextManager[None]:
        return self._spoiled(lost=True, status=0, out="<html>502 Bad Gateway</html>\n", err="")

    @contextlib.asynccontextmanager
    async def lost_answer(self) -> AsyncIterator[None]:
        self.fake.spoil(sbatch={"status": 1, "out": "", "err": LOST})
        yield
        self.fake.spoil()

    async def crowd(self, names: Sequence[str]) -> None:
        self.fake.add_all(names)


class TestSlurm(
    Conformance,
    cannot={
        Ability.REFUSED: "the fake takes any job; the real one of tests/cluster refuses",
        Ability.WALLTIME: "the fake leaves that to the real one of tests/cluster",
    },
):
    @pytest.fixture
    def bench(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmBench]:
        fake = FakeSlurm(tmp_path / "slurm")
        monkeypatch.setenv("PATH", f"{fake.bin}:/usr/bin:/bin")
        yield SlurmBench(fake, tmp_path)
        fake.close()
