"""Waiting on a real Slurm cluster: behind whom, for what and how long, and when it is for ever."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from testbed.handle import Testbed
from tests.serviceprocess import Start
from tests.waiting import until

ASYNC = {"Prefer": "respond-async"}


def application(folder: Path, name: str, *directives: str, **more: Any) -> dict[str, Any]:
    """An application that asks Slurm for something of its own."""
    asked = "".join(f"#SBATCH {each}\n" for each in directives)
    body = f'#!/bin/bash\n{asked}{{% include "prelude.sh" %}}\nexec sleep 600\n'
    (folder / f"{name}.sh").write_text(body)
    return {"cluster": "lab", "template": f"{name}.sh", "wait": 120, **more}


def submit(site: Testbed, user: str, *options: str) -> str:
    """A job beside those of the service; its id."""
    argv = ["sbatch", "--parsable", "--output=/dev/null", *options, "--wrap=sleep 600"]
    done = site.run("head", user, argv)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def fill(site: Testbed) -> str:
    """Take all nodes for ten minutes; the id of the job that does."""
    blocker = submit(site, "alice", "-N4", "--exclusive", "--time=10")

    async def runs() -> bool:
        return "RUNNING" in site.call("squeue", "--noheader", "--format=%T", f"--jobs={blocker}")

    await until(runs, "all nodes are taken")
    return blocker


async def launch(client: httpx.AsyncClient, name: str) -> str:
    reply = await client.post("/paraview", json={"application": name}, headers=ASYNC)
    assert reply.status_code == 202, reply.text
    return f"/paraview/{reply.json()['id']}"


async def seen(
    client: httpx.AsyncClient, path: str, condition: Callable[[dict[str, Any]], Any], what: str
) -> dict[str, Any]:
    """The first description of the session that meets the condition."""
    last: dict[str, Any] = {}

    async def met() -> bool:
        last.update((await client.get(path)).json())
        return bool(condition(last))

    await until(met, f"{what}; last: {last}")
    return last


@contextlib.contextmanager
def without_limits_at_submission(site: Testbed) -> Iterator[None]:
    """Slurm takes jobs that no partition allows, and lets them wait: EnforcePartLimits=NO."""
    file = site.layout.state / "slurm/slurm.conf"
    text = file.read_text()
    file.write_text(text.replace("EnforcePartLimits=ALL", "EnforcePartLimits=NO"))
    site.call("scontrol", "reconfigure")
    try:
        yield
    finally:
        file.write_text(text)
        site.call("scontrol", "reconfigure")


async def test_who_waits_is_told_for_what_behind_whom_and_until_when(
    start: Start, configuration: dict[str, Any], site: Testbed, tmp_path: Path
) -> None:
    configuration["applications"]["gpus"] = application(
        tmp_path, "gpus", "--partition=viz", "--gres=gpu:2", "--time=5"
    )
    service = start(configuration)
    await fill(site)
    for _ in range(3):
        submit(site, "bob", "--time=5", "--exclusive", "-N4")
    submit(site, "bob", "--hold")
    async with service.client() as client:
        path = await launch(client, "gpus")
        told = await seen(client, path, lambda it: it.get("estimated_start"), "an estimate")
        assert (told["state"], told["queue"], told["position"]) == ("queued", "viz", 4)
        assert told["waits_for"] == "2 GPUs"
        assert told["message"].startswith("Waiting for 2 GPUs; 3 jobs are ahead in partition viz;")
        # Behind ten minutes of the job that has all nodes, and at most three times five.
        assert 8 * 60 < told["estimated_start"] - time.time() < 26 * 60
        site.call("scancel", "--user=bob")
        await seen(client, path, lambda it: it.get("position") == 1, "the others are gone")
        assert (await client.delete(path)).status_code == 200


async def test_a_503_says_how_long_it_may_take(
    start: Start, configuration: dict[str, Any], site: Testbed
) -> None:
    configuration["applications"]["flow"]["hold"] = 25
    service = start(configuration)
    await fill(site)
    async with service.client() as client:
        reply = await client.post("/paraview", json={"application": "flow"}, timeout=60)
    assert reply.status_code == 503
    body = reply.json()
    assert (body["state"], body["queue"], body["position"]) == ("queued", "viz", 1)
    assert body["reason"].startswith("Waiting for ")
    assert body["reason"] in body["error"]
    assert 5 * 60 < body["estimated_start"] - time.time() < 11 * 60


@pytest.mark.parametrize(
    ("directives", "why"),
    [
        (("--partition=viz", "--time=10:00:00"), "more time than its partition allows"),
        (("--partition=short", "--nodes=2", "--time=1"), "a number of nodes"),
        (("--partition=viz", "--nodes=99", "--time=1"), "can never provide what it asks for"),
    ],
    ids=["more time than the partition's", "more nodes than the partition's", "99 nodes"],
)
async def test_a_job_that_can_never_start_is_given_up_at_once_with_slurms_reason(
    start: Start,
    configuration: dict[str, Any],
    site: Testbed,
    tmp_path: Path,
    directives: tuple[str, ...],
    why: str,
) -> None:
    configuration["applications"]["greedy"] = application(tmp_path, "greedy", *directives)
    service = start(configuration)
    with without_limits_at_submission(site):
        async with service.client() as client:
            path = await launch(client, "greedy")
            ended = await seen(client, path, lambda it: it["state"] == "ended", "it is given up")
        assert ended["reason"] == "rejected"
        assert why in ended["error"]

        async def cancelled() -> bool:
            return site.jobs() == []

        await until(cancelled, "its job is cancelled")


async def test_a_feature_that_no_node_has_any_more_is_not_waited_for(
    start: Start, configuration: dict[str, Any], site: Testbed, tmp_path: Path
) -> None:
    configuration["applications"]["fast"] = application(
        tmp_path, "fast", "--partition=viz", "--constraint=fast", "--time=5"
    )
    service = start(configuration)
    await fill(site)
    node = ("scontrol", "update", "nodename=hpcb-n2")
    site.call(*node, "features=fast", "activefeatures=fast")
    try:
        async with service.client() as client:
            path = await launch(client, "fast")
            await seen(client, path, lambda it: it["state"] == "queued", "it waits")
            site.call(*node, "features=", "activefeatures=")
            ended = await seen(client, path, lambda it: it["state"] == "ended", "it is given up")
    finally:
        site.call(*node, "features=", "activefeatures=")
    assert ended["reason"] == "rejected"
    assert "no node can ever satisfy what it asks for (BadConstraints)" in ended["error"]


@pytest.mark.parametrize("state", ["drain", "down"])
async def test_nodes_that_may_come_back_are_waited_for(
    start: Start, configuration: dict[str, Any], site: Testbed, tmp_path: Path, state: str
) -> None:
    configuration["applications"]["wide"] = application(
        tmp_path, "wide", "--partition=viz", "--nodes=4", "--time=5"
    )
    service = start(configuration)
    async with service.client() as client:
        # A node that is down takes jobs again as soon as its slurmd reports in.
        with site.down("slurmd-n1") if state == "down" else contextlib.nullcontext():
            site.call("scontrol", "update", "nodename=hpcb-n1", f"state={state}", "reason=test")
            path = await launch(client, "wide")
            told = await seen(client, path, lambda it: "drained" in it["message"], "why it waits")
            assert told["state"] == "queued"
        site.resume("n1")
        await seen(client, path, lambda it: it["state"] == "starting", "it runs after all")
        assert (await client.delete(path)).status_code == 200


async def test_a_partition_that_is_down_and_a_job_that_is_held_are_told_and_waited_for(
    start: Start, configuration: dict[str, Any], site: Testbed, tmp_path: Path
) -> None:
    for name, partition in (("closed", "--partition=closed"), ("held", "--hold")):
        configuration["applications"][name] = application(tmp_path, name, partition, "--time=5")
    service = start(configuration)
    async with service.client() as client:
        closed, held = await launch(client, "closed"), await launch(client, "held")
        await seen(client, closed, lambda it: "which is down" in it["message"], "it is told")
        told = await seen(client, held, lambda it: "it is held" in it["message"], "it is told")
        assert told["state"] == "queued"
        site.call("scontrol", "release", told["job_id"])
        await seen(client, held, lambda it: it["state"] == "starting", "it runs after its release")
        for path in (closed, held):
            assert (await client.delete(path)).status_code == 200
