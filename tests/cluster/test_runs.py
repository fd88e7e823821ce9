"""Jobs of a real Slurm that are requeued, suspended or cleaned up for long: sessions go along."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from testbed.handle import Testbed
from tests.cluster.test_sessions import program
from tests.serviceprocess import ServiceProcess
from tests.waiting import until

Start = Callable[..., ServiceProcess]
SERVE = (
    "import os, socket, time; "
    "s = socket.create_server(('127.0.0.1', int(os.environ['HPCBRIDGE_PORT']))); "
    "print('wslink: Starting factory', flush=True); time.sleep(600)"
)


@pytest.fixture
def epilogue(site: Testbed) -> Iterator[Path]:
    """Nodes are cleaned up for a minute after each job, or until this file is gone."""
    conf = site.layout.state / "slurm/slurm.conf"
    before, flag, script = conf.read_text(), site.home() / "cleaning", site.home() / "epilog.sh"
    flag.touch()
    script.write_text(
        f"#!/bin/sh\nfor i in $(seq 600); do [ -e {flag} ] || exit 0; sleep 0.1; done\n"
    )
    script.chmod(0o755)
    conf.write_text(f"{before}\nEpilog={script}\n")
    site.call("scontrol", "reconfigure")
    try:
        yield flag
    finally:
        flag.unlink(missing_ok=True)
        conf.write_text(before)
        site.call("scontrol", "reconfigure")
        script.unlink()


async def state(client: httpx.AsyncClient, session: dict[str, Any]) -> str:
    return str((await client.get(f"/paraview/{session['id']}")).json()["state"])


async def test_a_session_whose_job_is_requeued_is_ready_again_with_its_new_run(
    start: Start, configuration: dict[str, Any], site: Testbed, tmp_path: Path
) -> None:
    configuration["applications"]["serve"] = program(
        tmp_path, "serve", f'hpcbridge_run python3 -c "{SERVE}"'
    )
    configuration["server"]["fields"] = ["host", "port", "job_id"]
    async with start(configuration).client() as client:
        session = (await client.post("/paraview", json={"application": "serve"})).json()
        job_id = session["job_id"]
        site.call("scontrol", "update", f"jobid={job_id}", "requeue=1")
        site.call("scontrol", "requeue", job_id)
        await until(lambda: _is(client, session, "queued"), "the session waits again")
        await until(lambda: _states(site) == ["PENDING"], "the job's last run is cleaned up")
        # From then on Slurm lets a requeued job wait for two minutes. Not at once: in the second in
        # which the last run ended, slurmd refuses the next one ("already killed"), and Slurm ends
        # the job ("Job credential revoked").
        site.call("scontrol", "update", f"jobid={job_id}", "StartTime=now+3")
        await until(lambda: _is(client, session, "ready"), "the session is ready again")
        assert site.call("squeue", "--noheader", "--format=%i %T").split() == [job_id, "RUNNING"]
        assert (await client.get(f"/paraview/{session['id']}")).json()["tunnel"] == "open"


async def test_a_suspended_session_is_ready_when_it_goes_on(
    start: Start, configuration: dict[str, Any], site: Testbed
) -> None:
    configuration["server"]["fields"] = ["host", "port", "job_id"]
    async with start(configuration).client() as client:
        session = (await client.post("/paraview", json={"application": "flow"})).json()
        site.call("scontrol", "suspend", session["job_id"])
        await until(lambda: _is(client, session, "queued"), "the session waits")
        assert "suspended" in (await client.get(f"/paraview/{session['id']}")).json()["message"]
        site.call("scontrol", "resume", session["job_id"])
        await until(lambda: _is(client, session, "ready"), "the session goes on")
        found = (await client.get(f"/paraview/{session['id']}")).json()
        assert found["tunnel"] == "open"


async def test_a_crash_is_told_at_once_although_the_node_is_cleaned_up_for_long(
    start: Start, configuration: dict[str, Any], site: Testbed, tmp_path: Path, epilogue: Path
) -> None:
    configuration["applications"]["crash"] = program(tmp_path, "crash", "echo 'no GPU'; exit 3")
    configuration["server"]["fields"] = ["job_id"]
    async with start(configuration).client() as client:
        began = time.monotonic()
        reply = await client.post("/paraview", json={"application": "crash"})
        assert (reply.status_code, "exit status 3" in reply.json()["error"]) == (502, True)
        assert time.monotonic() - began < 30
        assert "COMPLETING" in site.call("squeue", "--noheader", "--format=%T")
        epilogue.unlink()


async def _is(client: httpx.AsyncClient, session: dict[str, Any], wanted: str) -> bool:
    return await state(client, session) == wanted


def _states(site: Testbed) -> list[str]:
    return site.call("squeue", "--noheader", "--format=%T").split()
