"""Whole sessions on the fake PBS: the service with its real adapter and real jobs."""

import asyncio
import json
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcbridge import service
from hpcbridge.clusters import cluster as clusters
from hpcbridge.sessions.context import Timing
from hpcbridge.tunnels import Tunnels
from tests.fakepbs import FakePBS
from tests.intervals import watch_every
from tests.waiting import until


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "TIMING", Timing(retry=0.1, retry_limit=0.2))
    watch_every(0.2, monkeypatch)


@pytest.fixture(params=["pbs", "torque"])
def pbs(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[FakePBS]:
    """A server, and a site that uses it; its node is this machine, so no SSH leads there."""
    monkeypatch.setattr(clusters, "Tunnels", lambda *_, **__: Tunnels(None, None, None))
    fake = FakePBS(tmp_path / "pbs", flavour=request.param)
    site.config["clusters"]["here"] = {
        "scheduler": request.param,
        "commands": str(fake.bin),
        "session_root": str(site.session_root),
        "grace": 1,
        "python": sys.executable,
    }
    yield fake
    fake.close()


async def launched(api: Any, application: str, **headers: str) -> str:
    headers = {"Prefer": "respond-async", **headers}
    reply = await api.post({"application": application}, headers=headers)
    assert reply.status_code == 202, reply.text
    return str(reply.json()["id"])


async def told(api: Any, session_id: str) -> dict[str, Any]:
    return dict((await api.client.get(f"/paraview/{session_id}")).json())


async def reaches(api: Any, session_id: str, state: str) -> dict[str, Any]:
    async def there() -> dict[str, Any] | None:
        known = await told(api, session_id)
        assert known["state"] in (state, "submitting", "queued", "starting", "ready"), known
        return known if known["state"] == state else None

    return dict(await until(there, f"the state {state}"))


async def test_a_session_is_launched_used_and_stopped(
    launcher: Any, site: Any, pbs: FakePBS
) -> None:
    (pbs.root / "profile").write_text("echo 'Welcome!'; echo wslink: Starting factory\n")
    async with launcher() as api:
        reply = await api.post({"application": "cone"})
        assert reply.status_code == 200, reply.text
        session_id, secret = reply.json()["id"], reply.json()["secret"]
        (job,) = pbs.jobs.values()
        (directory,) = site.directories()
        assert job["name"] == directory.name
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert "Welcome!" in (directory / "scheduler.out").read_text()
        assert "Welcome!" not in (directory / "output.log").read_text()
        script = Path(job["script"]).with_name(f"{job['id'].partition('.')[0]}.SC")
        assert secret not in script.read_text() + json.dumps(pbs.jobs)
        assert (await api.client.delete(f"/paraview/{session_id}")).status_code == 200
        await until(lambda: not site.directories(), "the end of the session directory")
        await until(lambda: not pbs.processes(), "the end of the job's processes")
        assert pbs.state_of("cancelled") == [job["name"]]


async def test_a_session_whose_job_crashes_is_told_with_its_output(
    launcher: Any, pbs: FakePBS
) -> None:
    async with launcher() as api:
        reply = await api.post({"application": "crash"})
        assert reply.status_code == 502
        assert "cannot open display: mist" in reply.json()["error"]


async def test_a_server_that_restarts_ends_nothing(launcher: Any, pbs: FakePBS) -> None:
    async with launcher() as api:
        session_id = await launched(api, "cone")
        await reaches(api, session_id, "ready")
        pbs.set(down=True)
        session = api.sessions.session(session_id)
        await until(lambda: session.watch.unknown_since, "a question without an answer")
        await asyncio.sleep(1.5)  # longer than the grace
        assert (await told(api, session_id))["state"] == "ready"
        pbs.set(down=False)
        await until(lambda: session.watch.unknown_since is None, "an answer")
        assert (await told(api, session_id))["state"] == "ready"
        assert len(pbs.names) == 1


async def test_a_job_that_is_deleted_by_somebody_ends_its_session_as_cancelled(
    launcher: Any, pbs: FakePBS
) -> None:
    async with launcher() as api:
        session_id = await launched(api, "cone")
        await reaches(api, session_id, "ready")
        (job_id,) = pbs.jobs
        session = api.sessions.session(session_id)
        await session.cluster.scheduler.cancel({job_id: session.row.job_name})
        ended = await reaches(api, session_id, "ended")
        assert ended["reason"] in ("cancelled", "failed")  # Torque does not tell who did it


async def test_a_submission_whose_answer_is_lost_is_found_and_not_repeated(
    launcher: Any, pbs: FakePBS
) -> None:
    pbs.spoil(qsub={"status": 190, "out": "", "err": "qsub: End of File\n"})
    async with launcher() as api:
        session_id = await launched(api, "cone")
        await reaches(api, session_id, "ready")
        assert len(pbs.names) == 1


async def test_an_id_that_was_told_for_a_job_that_never_was_ends_the_session(
    launcher: Any, pbs: FakePBS
) -> None:
    pbs.set(limit=10)  # bytes of a script, beyond which the server loses it without a word
    async with launcher() as api:
        session_id = await launched(api, "cone")
        ended = await reaches(api, session_id, "ended")
        assert ended["reason"] == "rejected"
        assert "dropped from the queue before it ran" in ended["message"]
        assert pbs.jobs == {}


async def test_a_job_that_the_server_forgets_ends_its_session(launcher: Any, pbs: FakePBS) -> None:
    pbs.set(history=False)
    async with launcher() as api:
        session_id = await launched(api, "cone")
        await reaches(api, session_id, "ready")
        pbs.forget(next(iter(pbs.jobs)))
        ended = await reaches(api, session_id, "ended")
        assert ended["state"] == "ended"


async def test_one_listing_without_a_running_job_is_no_proof(launcher: Any, pbs: FakePBS) -> None:
    async with launcher() as api:
        session_id = await launched(api, "cone")
        await reaches(api, session_id, "ready")
        pbs.spoil(qselect={"times": 3, "hide": True})
        await until(lambda: pbs.state_of("seen").get("qselect/0", 0) >= 3, "three such listings")
        await asyncio.sleep(0.5)
        assert (await told(api, session_id))["state"] == "ready"


async def test_garbage_and_half_answers_end_nothing(launcher: Any, pbs: FakePBS) -> None:
    async with launcher() as api:
        session_id = await launched(api, "cone")
        await reaches(api, session_id, "ready")
        session = api.sessions.session(session_id)
        for fault in ({"cut": 5}, {"out": "\xff\xfe<html>"}, {"out": "", "status": 0}):
            pbs.spoil(qstat={"times": -1, **fault})
            await until(lambda: session.watch.unknown_since, f"no answer with {fault}")
            assert (await told(api, session_id))["state"] == "ready"
            pbs.spoil()
            await until(lambda: session.watch.unknown_since is None, "an answer")
