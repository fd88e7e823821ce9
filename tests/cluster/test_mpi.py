"""ParaView over several nodes: pvserver by MPI behind pvpython, or pvbatch, by the launcher API."""

import json
from typing import Any

import numpy as np
import pytest

from testbed import daemons, network
from testbed.handle import Testbed
from tests.serviceprocess import Start
from tests.waiting import until
from tests.wslinkclient import Wslink1Client

pytestmark = pytest.mark.timeout(400)  # for slow machines
# Ranks that wait would otherwise keep the few cores busy that all nodes share.
POLITE = "env OMPI_MCA_mpi_yield_when_idle=1"
PROXIES = {
    "sources": [{"name": "Sphere"}],
    "filters": [{"name": "ProcessIdScalars"}],
    "readers": [],
}


@pytest.fixture
def parallel(
    configuration: dict[str, Any], visualizer: dict[str, str], site: Testbed
) -> dict[str, Any]:
    """The Visualizer with two ranks of pvserver behind it, each on a node of its own."""
    allowed = site.home() / "proxies.json"
    allowed.write_text(json.dumps(PROXIES))
    configuration["applications"] = {
        "parallel": {
            "cluster": "lab",
            "template": "pvserver.sh",
            "walltime": 600,
            "wait": 240,
            "options": {"nodes": 2, "tasks": 1, "cpus": 2, "exclusive": True},
            "properties": visualizer | {"pvserver": "pvserver"},
            "parameters": {"proxies": {"type": "str", "default": "/home/alice/proxies.json"}},
        }
    }
    return configuration


async def process_ids(view: Wslink1Client) -> np.ndarray:
    """The middle of a picture of a sphere in which each rank's part has that rank's colour."""
    sphere = await view.call("pv.proxy.manager.create", "Sphere", "0")
    parts = await view.call("pv.proxy.manager.create", "ProcessIdScalars", sphere["id"])
    listed = (await view.call("pv.proxy.manager.list"))["sources"]
    shown = next(each["rep"] for each in listed if each["id"] == parts["id"])
    await view.call("pv.color.manager.color.by", shown, "ARRAY", "POINTS", "ProcessId")
    picture = await view.picture()
    height, width = (size // 4 for size in picture.shape[:2])
    return picture[height:-height, width:-width].astype(int)


def parts(picture: np.ndarray) -> tuple[float, float]:
    """How much of the upper half is blue (rank 0), and of the lower half red (rank 1): 0 to 1."""
    redness = picture[..., 0] - picture[..., 2]
    drawn = np.ptp(picture, axis=2) > 40  # the background is nearly grey
    middle = len(picture) // 2
    assert drawn.sum() > 1000
    upper, lower = redness[: middle - 2], redness[middle + 2 :]
    return (
        float((upper[drawn[: middle - 2]] < 0).mean()),
        float((lower[drawn[middle + 2 :]] > 0).mean()),
    )


def nodes_of(site: Testbed, program: str) -> list[str]:
    """The machines on which the program runs, once for each of its processes."""
    return [
        machine
        for machine in site.nodes
        for pid in network.processes(machine)
        if daemons.command(pid) == program
    ]


WAYS = {
    "pvserver.sh": ("pvserver", {"pvserver": "pvserver", "mpi": f"{POLITE} mpiexec"}),
    "pvserver": (
        "pvserver",
        {"pvserver": "pvserver", "mpi": 2, "mpiexec": f"{POLITE} srun --mpi=pmix"},
    ),
    "pvbatch by srun": ("pvbatch", {"mpi": 2, "mpiexec": f"{POLITE} srun --mpi=pmix"}),
    "pvbatch by mpiexec": ("pvbatch", {"mpi": 2, "mpiexec": f"{POLITE} mpiexec"}),
}
"""What draws, and by which properties; of pvserver.sh, and else of paraview.sh."""


@pytest.mark.parametrize("way", WAYS)
async def test_two_ranks_on_two_nodes_draw_one_picture(
    start: Start,
    parallel: dict[str, Any],
    visualizer: dict[str, str],
    site: Testbed,
    way: str,
) -> None:
    program, properties = WAYS[way]
    application = parallel["applications"]["parallel"]
    application["template"] = "pvserver.sh" if way == "pvserver.sh" else "paraview.sh"
    application["properties"] = visualizer | properties
    service = start(parallel)
    async with service.client(timeout=300) as client:
        reply = await client.post("/paraview", json={"application": "parallel"})
        assert reply.status_code == 200, reply.text
        session = reply.json()
        running = nodes_of(site, program)
        assert len(running) == len(set(running)) == 2
        async with Wslink1Client.connect(session["sessionURL"], session["secret"]) as view:
            blue, red = parts(await process_ids(view))
        assert min(blue, red) > 0.95
        await client.delete(f"/paraview/{session['id']}")
    await until_gone(site, program)


async def test_a_pvserver_that_cannot_start_ends_the_launch_at_once(
    start: Start, parallel: dict[str, Any]
) -> None:
    parallel["applications"]["parallel"]["properties"]["pvserver"] = "/nowhere/pvserver"
    async with start(parallel).client(timeout=300) as client:
        reply = await client.post("/paraview", json={"application": "parallel"})
    assert reply.status_code == 502
    assert "/nowhere/pvserver" in reply.json()["error"]
    assert "hpcbridge: pvserver ended with status" in reply.json()["error"]


async def until_gone(site: Testbed, program: str) -> None:
    """Wait until no rank is left on any node."""

    async def gone() -> bool:
        return not nodes_of(site, program) + nodes_of(site, "Xvfb")

    await until(gone, f"{program} and its displays have ended")
