"""Networks that fail under live sessions: the sessions stay, and work again by themselves."""

from typing import Any

import aiohttp
import httpx

from testbed.handle import Testbed
from tests.serviceprocess import Start
from tests.waiting import until
from tests.wslinkclient import WslinkClient, colours


async def launched(client: httpx.AsyncClient) -> dict[str, Any]:
    reply = await client.post("/paraview", json={"application": "flow"})
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


async def renders(session: dict[str, Any]) -> bool:
    try:
        async with WslinkClient.connect(session["sessionURL"], session["secret"]) as flow:
            return colours(await flow.picture()) > 100
    except (OSError, aiohttp.ClientError):
        return False


async def test_a_session_outlives_the_loss_of_all_ssh_connections(
    start: Start, configuration: dict[str, Any], site: Testbed
) -> None:
    configuration["server"]["fields"] = ["host"]
    async with start(configuration).client() as client:
        session = await launched(client)
        assert await renders(session)
        assert site.drop_ssh("head") > 0
        site.drop_ssh(session["host"].removeprefix("hpcb-"))
        await until(lambda: renders(session), "the session renders again")
        found = (await client.get(f"/paraview/{session['id']}")).json()
        assert (found["state"], found["tunnel"]) == ("ready", "open")


async def test_a_node_that_cannot_be_reached_is_told_and_ends_nothing(
    start: Start, configuration: dict[str, Any], site: Testbed
) -> None:
    configuration["server"]["fields"] = ["host"]
    ssh = configuration["clusters"]["lab"]["ssh"]
    ssh |= {"keepalive_interval": 1, "keepalive_count": 2, "connect_timeout": 2}
    async with start(configuration).client() as client:
        session = await launched(client)

        async def tunnel(state: str) -> bool:
            found = (await client.get(f"/paraview/{session['id']}")).json()
            assert found["state"] == "ready"
            return bool(found["tunnel"] == state)

        with site.unplugged(session["host"]):
            await until(lambda: tunnel("reconnecting"), "the loss is noticed")
        await until(lambda: tunnel("open"), "the tunnel is up again, without a visitor")
        assert await renders(session)
