"""slurmrestd passes the suite on the real Slurm; what it cannot be made to do, the wire does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from hpcbridge.config.slurmrest import SlurmRestCluster
from hpcbridge.conformance import Ability, Conformance
from hpcbridge.schedulers.slurmrest.client import Client
from hpcbridge.schedulers.slurmrest.scheduler import SlurmRestScheduler
from hpcbridge.schedulers.slurmrest.tokens import tokens_for
from testbed.handle import Testbed
from tests.cluster.test_conformance import SlurmBench

pytestmark = pytest.mark.timeout(240)


class Wire(httpx.AsyncBaseTransport):
    """Carries requests to slurmrestd, counts them, and loses or spoils answers on command."""

    def __init__(self) -> None:
        self.inner = httpx.AsyncHTTPTransport()
        self.requests = 0
        self.loses_submissions = False
        self.garbles = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        if self.garbles:
            stream = httpx.ByteStream(b"<html>502 Bad Gateway</html>")
            return httpx.Response(200, headers={"content-type": "text/html"}, stream=stream)
        response = await self.inner.handle_async_request(request)
        if self.loses_submissions and request.method == "POST":
            await response.aread()
            raise httpx.ReadError("the answer is lost")
        return response

    async def aclose(self) -> None:
        """Kept open: the bench has several adapters."""


class RestBench(SlurmBench):
    """Files travel by SSH, all else by slurmrestd."""

    def __init__(self, site: Testbed, folder: Path) -> None:
        super().__init__(site)
        self.wire = Wire()
        token = folder / "token"
        token.touch(0o600)
        token.write_text(site.token())
        self._settings = SlurmRestCluster(
            scheduler="slurmrest",
            url=site.rest_url,
            user="alice",
            token_file=token,
            command_timeout=20,
        )

    def connect(self) -> SlurmRestScheduler:
        tokens = tokens_for(self._settings, self.transport)
        client = Client(self._settings, tokens, self.wire)
        return SlurmRestScheduler(self._settings, client, self.transport)

    def asked(self) -> int:
        return self.wire.requests

    @contextlib.asynccontextmanager
    async def garbled(self) -> AsyncIterator[None]:
        self.wire.garbles = True
        yield
        self.wire.garbles = False

    @contextlib.asynccontextmanager
    async def lost_answer(self) -> AsyncIterator[None]:
        self.wire.loses_submissions = True
        yield
        self.wire.loses_submissions = False

    async def close(self) -> None:
        await self.wire.inner.aclose()
        await super().close()


class TestSlurmRest(
    Conformance,
    cannot={
        Ability.FORGET: "a real slurmctld forgets only with its state directory",
        Ability.WALLTIME: "Slurm counts in minutes and looks at limits every half a minute",
    },
):
    @pytest_asyncio.fixture
    async def bench(self, site: Testbed, tmp_path: Path) -> AsyncIterator[RestBench]:
        bench = RestBench(site, tmp_path)
        yield bench
        await asyncio.to_thread(site.cancel_all)
        await bench.close()
