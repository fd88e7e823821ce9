"""A replica's tasks, whatever goes wrong in them, and clients who are there before a tunnel."""

import asyncio

import pytest

from hpcbridge.errors import TunnelError
from hpcbridge.replication import replica
from hpcbridge.sessions import manager as manager_module
from hpcbridge.store import SessionRow, State
from tests.site import Launch


async def test_a_task_that_fails_begins_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(replica, "INTERVAL", 0.0)
    begun, again = [], asyncio.Event()

    async def work() -> None:
        begun.append(1)
        if len(begun) < 3:
            raise RuntimeError("not foreseen")
        again.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(replica._always(work))
    async with asyncio.timeout(60):
        await again.wait()
    assert len(caplog.records) == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_only_a_ready_sessions_route_is_waited_for_and_not_for_ever(
    launcher: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with launcher() as api:
        coming, store = api.sessions.coming, api.sessions.store
        assert await coming("no such session") is None
        rows = [
            SessionRow(id=state, job_name=state, application="a", cluster="b", state=state)
            for state in State
        ]
        for row in rows:
            await store.add(row)
        monkeypatch.setattr(manager_module, "COMING", 0.01)
        for state in set(State) - {State.READY}:
            assert await coming(state) is None
        with pytest.raises(TunnelError, match="not open here yet"):
            await coming(State.READY)
        for row in rows:
            await store.update(row, state=State.ENDED, job_ended=True)
