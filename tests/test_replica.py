"""A replica's tasks, whatever goes wrong in them."""

import asyncio

import pytest

from hpcbridge import replica


async def test_a_task_that_fails_begins_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(replica, "BEAT", 0.0)
    begun, again = [], asyncio.Event()

    async def work() -> None:
        begun.append(1)
        if len(begun) < 3:
            raise RuntimeError("not foreseen")
        again.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(replica._always(work))
    async with asyncio.timeout(5):
        await again.wait()
    assert len(caplog.records) == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
