"""Several clusters for one application: on which a launch goes, while one is full, or silent."""

import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import tomli_w

from hpcbridge import doctor
from testbed.handle import Testbed
from tests.serviceprocess import Start
from tests.waiting import until

ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def silent_host() -> Iterator[int]:
    """The port of a login host that accepts connections and then says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def several(configuration: dict[str, Any]) -> dict[str, Any]:
    """One Slurm as two clusters: sessions of 'gpus' need GPUs, those of 'short' do not."""
    lab = configuration["clusters"].pop("lab")
    configuration["clusters"] = {
        "gpus": lab | {"title": "Giga", "options": {"partition": "viz", "gpus": 2}},
        "short": lab | {"title": "Shorty", "options": {"partition": "short"}},
    }
    flow = configuration["applications"]["flow"]
    flow |= {"cluster": ["gpus", "short"], "walltime": 240, "cluster_by_request": True}
    return configuration


def silent(port: int, title: str) -> dict[str, Any]:
    """A cluster behind such a host."""
    ssh = {"host": "127.0.0.1", "port": port, "connect_timeout": 4}
    return {"scheduler": "slurm", "title": title, "ssh": ssh}


async def outlooks(client: httpx.AsyncClient, name: str = "flow") -> dict[str, dict[str, Any]]:
    """What the service tells of each cluster of the application."""
    reply = await client.get("/paraview/applications")
    (found,) = [each for each in reply.json()["applications"] if each["name"] == name]
    return {each["name"]: each for each in found["clusters"]}


def told(client: httpx.AsyncClient, **waits: Callable[[float], bool]) -> Callable[..., Any]:
    """Whether each cluster's expected wait is as it should be."""

    async def as_expected() -> bool:
        found = await outlooks(client)
        known = {name: found[name]["wait"] for name in waits}
        return all(known[name] is not None and fits(known[name]) for name, fits in waits.items())

    return as_expected


async def launch(client: httpx.AsyncClient, **posted: Any) -> httpx.Response:
    posted = {"application": "flow"} | posted
    return await client.post("/paraview", json=posted, headers=ASYNC)


async def fill_gpus(site: Testbed) -> str:
    """Take both nodes with GPUs for ten minutes; the id of the job that does."""
    wanted = ["-N2", "--exclusive", "--nodelist=hpcb-n3,hpcb-n4", "--time=10"]
    argv = ["sbatch", "--parsable", "--output=/dev/null", *wanted, "--wrap=sleep 600"]
    done = site.run("head", "alice", argv)
    assert done.returncode == 0, done.stderr
    blocker = str(done.stdout.strip())

    async def runs() -> bool:
        return "RUNNING" in site.call("squeue", "--noheader", "--format=%T", f"--jobs={blocker}")

    await until(runs, "the GPUs are taken")
    return blocker


async def ready(client: httpx.AsyncClient, reply: httpx.Response) -> None:
    assert reply.status_code == 202, reply.text

    async def seen() -> bool:
        return bool(
            (await client.get(f"/paraview/{reply.json()['id']}")).json()["state"] == "ready"
        )

    await until(seen, "the session is ready")


async def test_a_launch_goes_where_slurm_would_start_it_soonest(
    start: Start, several: dict[str, Any], site: Testbed
) -> None:
    blocker = await fill_gpus(site)
    service = start(several)
    async with service.client() as client:
        full = told(client, gpus=lambda wait: 400 < wait <= 600, short=lambda wait: wait < 5)
        await until(full, "Slurm's estimates")
        reply = await launch(client)
        assert reply.json()["cluster"] == "short"
        await ready(client, reply)
    service.stop()
    site.call("scancel", blocker)
    async with start(several).client() as client:
        both = told(client, gpus=lambda wait: wait < 5, short=lambda wait: wait < 5)
        await until(both, "the GPUs are free again")
        reply = await launch(client)
        assert reply.json()["cluster"] == "gpus"  # of two that start at once, the preferred one
        await ready(client, reply)


async def test_the_doctor_tells_when_a_session_would_start_on_each_cluster(
    several: dict[str, Any], site: Testbed, tmp_path: Path
) -> None:
    await fill_gpus(site)
    several["clusters"]["never"] = several["clusters"]["short"] | {"options": {"nodes": 9}}
    several["applications"]["flow"]["cluster"] = ["gpus", "short", "never"]
    path = tmp_path / "doctor.toml"
    path.write_text(tomli_w.dumps(several))
    found = {each.what: each async for each in doctor.examine(path)}
    told = re.fullmatch(
        r"A session would start in (\d+) s; \d+ would start at once\.", found["flow on gpus"].said
    )
    assert told
    assert 400 < int(told[1]) <= 600
    assert found["flow on short"].said == "A session would start in 0 s; 8 would start at once."
    assert not found["flow on never"].good
    assert found["flow on never"].said.startswith("Slurm would refuse the job: ")


async def test_a_client_that_may_choose_gets_the_cluster_that_it_names(
    start: Start, several: dict[str, Any]
) -> None:
    async with start(several).client() as client:
        reply = await launch(client, cluster="short")
        assert reply.json()["cluster"] == "short"
        wrong = await launch(client, cluster="-p")
        assert wrong.status_code == 400
        assert wrong.json()["error"].startswith("'cluster' must be one of: gpus, short.")


async def test_a_partition_that_is_shut_gets_nothing_and_the_application_says_so(
    start: Start, several: dict[str, Any], site: Testbed
) -> None:
    several["clusters"]["gpus"]["options"] = {"partition": "closed"}  # State=DOWN in slurm.conf
    site.call("scontrol", "update", "PartitionName=short", "State=DRAIN")
    try:
        async with start(several).client() as client:

            async def shut() -> bool:
                return all(each["notice"] for each in (await outlooks(client)).values())

            await until(shut, "both are known to be shut")
            reply = await launch(client)
            assert reply.status_code == 503
            assert int(reply.headers["Retry-After"]) > 0
            assert reply.json()["error"] == (
                "Giga starts no sessions now: its partition closed is down. "
                "Shorty starts no sessions now: its partition is inactive or drained. "
                "Try again later."
            )
    finally:
        site.call("scontrol", "update", "PartitionName=short", "State=UP")


async def test_a_login_host_that_hangs_keeps_no_launch_waiting(
    start: Start, several: dict[str, Any], silent_host: int
) -> None:
    several["clusters"]["far"] = silent(silent_host, "Far")
    several["applications"]["flow"]["cluster"] = ["far", "short"]
    async with start(several).client() as client:
        began = time.monotonic()
        first = await launch(client)
        took = time.monotonic() - began
        assert (first.json()["cluster"], took < 10) == ("short", True)

        async def noticed() -> bool:
            return "Far has not answered since" in (await outlooks(client))["far"]["notice"]

        await until(noticed, "the host's silence is told")
        began = time.monotonic()
        second = await launch(client)
        took = time.monotonic() - began
        assert (second.json()["cluster"], took < 10) == ("short", True)
        await ready(client, first)
        await ready(client, second)


async def test_where_no_cluster_answers_a_launch_is_told_so(
    start: Start, several: dict[str, Any], silent_host: int
) -> None:
    several["clusters"]["far"] = silent(silent_host, "Far")
    several["clusters"]["farther"] = silent(silent_host, "Farther")
    flow = several["applications"]["flow"]
    several["applications"]["lost"] = flow | {"cluster": ["far", "farther"]}
    async with start(several).client() as client:

        async def noticed() -> bool:
            return all(each["notice"] for each in (await outlooks(client, "lost")).values())

        await until(noticed, "both hosts' silence is told")
        reply = await launch(client, application="lost")
        assert reply.status_code == 503
        assert int(reply.headers["Retry-After"]) > 0
        assert reply.json()["error"].count(" has not answered since ") == 2
        await ready(client, await launch(client))
