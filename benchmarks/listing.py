"""``GET ENDPOINT``: a page of 1,000 sessions for an operator, and what others' sessions cost it."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from benchmarks.figures import Run, spread
from benchmarks.table import Row, Section
from hpcbridge import service
from hpcbridge.api import create_app
from hpcbridge.config.settings import Settings
from hpcbridge.states import EndReason, State
from hpcbridge.store import SessionRow, Store

NAME = "listing"
HOW = (
    "The reply to an operator's GET of the list, from SQLite, in the service's process and read as "
    "JSON: a page of 1,000 ended sessions and one of 50, out of 1,000 and of 50,000 that there "
    "are; the first page and the last. The aim for 1,000 is 200 ms."
)
SECRET = "0123456789abcdef" * 3
HEADERS = {"X-Remote-User": "olga", "X-Hpcbridge-Secret": SECRET}


def measure(runs: int, folder: Path) -> Section:
    """Everything, in this process."""
    rows: list[Row] = []
    with asyncio.Runner() as runner:
        for count in (1000, 50000):
            place = folder / str(count)
            place.mkdir()
            rows += runner.run(_measured(place, count, runs))
    return Section(NAME, HOW, runs, rows, "")


async def _measured(folder: Path, count: int, runs: int) -> list[Row]:
    rows = []
    async with _filled(folder, count) as client:
        last = await _before_last(client, count)
        for limit in (1000, 50):
            for name, more in (("first", {}), ("last", {"before": last})):
                query = {"state": "all", "limit": limit, **more}
                taken = [(await _asked(client, query)) for _ in range(runs + 1)][1:]
                rows.append(
                    Row(f"{name} {limit:,} of {count:,}", spread([run.total for run in taken]))
                )
    return rows


async def _asked(client: httpx.AsyncClient, query: dict[str, Any]) -> Run:
    began = time.perf_counter()
    reply = await client.get("/paraview", params=query)
    found = json.loads(reply.content)
    taken = time.perf_counter() - began
    assert reply.status_code == 200, reply.text[:500]
    assert len(found["sessions"]) == query["limit"], len(found["sessions"])
    return Run(taken)


async def _before_last(client: httpx.AsyncClient, count: int) -> str | None:
    """Where the last 1,000 begin; None where there are no others."""
    before, left = None, count - 1000
    while left:
        query = {"state": "all", "limit": min(left, 1000), **({"before": before} if before else {})}
        before = (await client.get("/paraview", params=query)).json()["next"]
        left -= query["limit"]
    return before


@contextlib.asynccontextmanager
async def _filled(folder: Path, count: int) -> AsyncIterator[httpx.AsyncClient]:
    secret = folder / "secret"
    secret.touch(mode=0o600)
    secret.write_text(SECRET)
    settings = Settings.model_validate(
        {
            "server": {"state_dir": folder / "state", "host_names": ["viz.example.org"]},
            "auth": {"accept": ["header"], "operators": ["olga"], "secret_file": secret},
            "clusters": {
                "here": {
                    "scheduler": "local",
                    "session_root": str(folder / "sessions"),
                    "trust_jobs": True,
                }
            },
            "applications": {
                "cone": {
                    "cluster": "here",
                    "template": "command.sh",
                    "command": ["/bin/true"],
                    "parameters": {"cores": {"type": "int", "default": 4}},
                }
            },
        }
    )
    settings.server.state_dir.mkdir(mode=0o700)
    store = await Store.open(settings.store_url)
    async with store.writing() as session:
        session.add_all(_ended(number) for number in range(count))
    await store.close()
    async with service.running(settings) as (sessions, _):
        transport = httpx.ASGITransport(create_app(settings, sessions))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://viz.example.org", headers=HEADERS, timeout=60
        ) as client:
            yield client


def _ended(number: int) -> SessionRow:
    ended = time.time() - number
    return SessionRow(
        id=f"{number:040x}",
        job_name=f"hpcb-01234567-{number:024x}",
        job_id=str(number),
        application="cone",
        cluster="here",
        user=f"user{number % 50}",
        parameters={"cores": 4},
        state=State.ENDED,
        reason=EndReason.FINISHED,
        message="The application finished.",
        job_ended=True,
        host="node1",
        exit_status=0,
        submitting_at=ended - 60,
        queued_at=ended - 59,
        starting_at=ended - 50,
        ready_at=ended - 45,
        ended_at=ended,
    )
