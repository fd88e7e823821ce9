"""The example, with the application of the demo: it takes a new secret while it runs."""

from pathlib import Path
from typing import Any

import pytest

from hpcbridge import service
from hpcbridge.clusters.readiness import printable
from hpcbridge.config import file as configfile
from hpcbridge.store import Selection
from tests.waiting import until
from tests.wslinkclient import WslinkClient

EXAMPLE = Path(__file__).parents[2] / "examples/warm/hpcbridge.toml"
OPEN = {"count": 1, "hours": [], "timezone": None}


async def cut(client: WslinkClient) -> bool:
    """Whether somebody sees no more pictures."""
    try:
        for _ in range(20):
            await client.picture()
    except ConnectionError:
        return True
    return False


async def test_the_demos_session_is_its_users_alone_after_the_hand_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPCBRIDGE_SERVER__STATE_DIR", str(tmp_path / "state"))
    settings = configfile.load(EXAMPLE)
    flow = settings.applications["flow"]
    assert flow.warm is not None
    flow = flow.model_copy(update={"warm": flow.warm.model_copy(update=OPEN)})
    settings = settings.model_copy(update={"applications": {"flow": flow}})
    async with service.running(settings, end_sessions=True) as (sessions, _):

        async def ready() -> Any:
            living = await sessions.store.page(Selection(), 100)
            return next((row for row in living if row.state == "ready"), None)

        waiting = await until(ready, "a warm session")
        old, endpoint = waiting.secret, sessions.session(waiting.id).endpoint
        # One came through the tunnel, and one from the node itself.
        places = [endpoint.address, f"127.0.0.1:{waiting.port}"]
        async with (
            WslinkClient.connect(f"http://{places[0]}/ws", old) as visitor,
            WslinkClient.connect(f"http://{places[1]}/ws", old) as neighbour,
        ):
            assert (await visitor.picture()).std() > 5
            session = await sessions.launches.begin("flow", {"application": "flow"})
            assert session.row.id == waiting.id
            assert await cut(visitor)
            assert await cut(neighbour)
        secret = await sessions.launches.ready(session)
        url = f"http://{session.endpoint.address}/ws"
        with pytest.raises(PermissionError):
            async with WslinkClient.connect(url, old):
                pass
        async with WslinkClient.connect(url, secret) as client:
            assert (await client.picture()).std() > 5
            # Another replica has handed it over, as the database tells.
            told = session.row.model_copy(update={"secret": "1" * 48})
            session.refresh(told, driven=False)
            assert await cut(client)
        log = Path(session.row.directory, "output.log").read_bytes()
        assert secret not in printable(log)
        assert secret not in Path(session.row.directory, "secret.new").read_text()
