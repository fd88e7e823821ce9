"""Sessions on a real Slurm cluster, from the POST to the picture and to nothing left."""

import signal
from typing import Any

import aiohttp

from testbed.handle import Testbed
from tests.serviceprocess import Start
from tests.waiting import until
from tests.wslinkclient import WslinkClient, colours

APP = "#!/bin/bash\n#SBATCH --partition={{ cluster.partition | directive }}\n"


def program(folder: Any, name: str, *lines: str) -> dict[str, Any]:
    """An application of a few lines of shell, after hpcbridge's prelude."""
    body = APP + '{% include "prelude.sh" %}\n' + "\n".join(lines) + "\n"
    (folder / f"{name}.sh").write_text(body)
    return {"cluster": "lab", "template": f"{name}.sh", "wait": 30}


async def test_a_launch_answers_with_a_session_that_renders(
    start: Start, configuration: dict[str, Any], site: Testbed
) -> None:
    configuration["server"]["fields"] = ["cluster", "host", "port", "job_id"]
    service = start(configuration)
    async with service.client() as client:
        reply = await client.post("/paraview", json={"application": "flow", "mine": 1})
    assert reply.status_code == 200
    session = reply.json()
    assert session["mine"] == 1
    assert session["host"] in site.nodes
    assert session["job_id"] in site.jobs()
    async with WslinkClient.connect(session["sessionURL"], session["secret"]) as flow:
        assert colours(await flow.picture()) > 100


async def test_a_stopped_session_leaves_nothing_on_the_cluster(
    start: Start, configuration: dict[str, Any], site: Testbed
) -> None:
    service = start(configuration)
    async with service.client() as client:
        session = (await client.post("/paraview/", json={"application": "flow"})).json()
        assert (await client.delete(f"/paraview//{session['id']}")).status_code == 200

        async def gone() -> bool:
            root = site.home() / ".hpcbridge"
            return not site.jobs() and not list(root.iterdir())

        await until(gone, "the job and its directory are gone")
        ended = (await client.get(f"/paraview/{session['id']}")).json()
        assert (ended["state"], ended["reason"]) == ("ended", "stopped")
        assert (await client.delete(f"/paraview/{session['id']}")).status_code == 404


async def test_an_application_that_dies_is_told_at_once_with_its_last_words(
    start: Start, configuration: dict[str, Any], tmp_path: Any
) -> None:
    crash = program(tmp_path, "crash", "echo 'no GPU for you'; exit 3")
    configuration["applications"]["crash"] = crash
    async with start(configuration).client() as client:
        reply = await client.post("/paraview", json={"application": "crash"})
        assert reply.status_code == 502
        assert "exit status 3" in reply.json()["error"]
        assert reply.json()["error"].endswith("no GPU for you")


async def test_a_job_that_someone_cancels_ends_its_session_with_that_reason(
    start: Start, configuration: dict[str, Any], site: Testbed
) -> None:
    async with start(configuration).client() as client:
        session = (await client.post("/paraview", json={"application": "flow"})).json()
        site.cancel_all()

        async def ended() -> bool:
            return bool((await client.get(f"/paraview/{session['id']}")).json()["state"] == "ended")

        await until(ended, "the session has ended")
        last = (await client.get(f"/paraview/{session['id']}")).json()
        assert last["reason"] == "cancelled"
        assert "cancelled" in last["error"]


async def test_slurms_own_words_come_back_when_it_refuses_a_job(
    start: Start, configuration: dict[str, Any]
) -> None:
    configuration["clusters"]["lab"]["options"] = {"partition": "nosuch"}
    async with start(configuration).client() as client:
        reply = await client.post("/paraview", json={"application": "flow"})
    assert reply.status_code == 502
    assert "invalid partition" in reply.json()["error"].lower()


async def test_no_job_is_left_when_the_controller_is_down_at_submission(
    start: Start, configuration: dict[str, Any], site: Testbed
) -> None:
    service = start(configuration)
    site.slurmctld_stop()
    try:
        async with service.client() as client:
            reply = await client.post("/paraview", json={"application": "flow"})
    finally:
        site.slurmctld_start()
    assert reply.status_code == 503
    assert "does not answer" in reply.json()["error"]
    site.settle()
    assert site.jobs() == []


async def test_a_controller_that_is_down_while_a_session_waits_ends_nothing(
    start: Start, configuration: dict[str, Any], site: Testbed
) -> None:
    service = start(configuration)
    async with service.client() as client:
        headers = {"Prefer": "respond-async"}
        everything = ["sbatch", "--parsable", "-N4", "--exclusive", "--wrap=sleep 600"]
        blocker = site.run("head", "alice", everything).stdout.strip()
        begun = await client.post("/paraview", json={"application": "flow"}, headers=headers)
        assert begun.status_code == 202
        where = f"/paraview/{begun.json()['id']}"

        async def asked(key: str, value: Any) -> bool:
            return bool((await client.get(where)).json().get(key) == value)

        await until(lambda: asked("state", "queued"), "queued")
        site.slurmctld_stop()
        try:

            async def unknown() -> bool:
                return "unknown_since" in (await client.get(where)).json()

            await until(unknown, "the cluster does not answer")
            assert await asked("state", "queued")
        finally:
            site.slurmctld_start()
        site.call("scancel", blocker)
        await until(lambda: asked("state", "ready"), "ready after all")


async def test_a_service_that_was_killed_goes_on_with_its_sessions(
    start: Start, configuration: dict[str, Any], site: Testbed
) -> None:
    service = start(configuration)
    async with service.client() as client:
        session = (await client.post("/paraview", json={"application": "flow"})).json()
    before = site.jobs()
    service.stop(signal.SIGKILL)
    service.start()
    async with service.client() as client:
        found = (await client.get(f"/paraview/{session['id']}")).json()
        assert found["state"] == "ready"

        async def serves() -> bool:
            try:
                async with WslinkClient.connect(found["sessionURL"], session["secret"]) as flow:
                    return colours(await flow.picture()) > 100
            except (OSError, aiohttp.ClientError):
                return False

        await until(serves, "the tunnel is open again")
    assert site.jobs() == before


async def test_a_gpu_is_asked_for_and_granted(start: Start, configuration: dict[str, Any]) -> None:
    gpu = configuration["applications"]["flow"] | {"template": "egl.sh"}
    configuration["applications"]["gpu"] = gpu
    configuration["server"]["fields"] = ["host"]
    async with start(configuration).client() as client:
        session = (await client.post("/paraview", json={"application": "gpu"})).json()
    assert session["host"] in ("hpcb-n3", "hpcb-n4")
    async with WslinkClient.connect(session["sessionURL"], session["secret"]) as flow:
        assert colours(await flow.picture()) > 100
