"""The route table with publishers that can be slow and can fail."""

import asyncio
from pathlib import Path

import pytest

from hpcbridge.errors import RouteError
from hpcbridge.frontends.base import Route, Routes
from hpcbridge.frontends.table import RouteTable
from hpcbridge.network.addresses import Address, TCPAddress, UnixAddress
from tests.waiting import until


def route(number: int, port: int = 0) -> Route:
    return Route(f"session-{number:020}", TCPAddress("127.0.0.1", port or 1024 + number))


class Front:
    """A front end that remembers what it was told; writes wait for ``gate``."""

    def __init__(self) -> None:
        self.told: list[dict[str, Address]] = []
        self.failure: BaseException | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.busy = 0
        self.closed = False

    async def start(self, routes: Routes) -> None:
        await self.publish(routes)

    async def publish(self, routes: Routes) -> None:
        self.busy += 1
        assert self.busy == 1, "one write at a time"
        snapshot = {key: value.address for key, value in routes.items()}
        await self.gate.wait()
        self.busy -= 1
        if self.failure:
            raise self.failure
        self.told.append(snapshot)

    async def close(self) -> None:
        self.closed = True


async def test_a_route_is_there_when_add_returns_and_gone_when_remove_returns() -> None:
    front = Front()
    table = RouteTable([front])
    await table.add(route(1))
    assert front.told[-1] == {route(1).session_id: route(1).address}
    assert table.lookup(route(1).session_id) == route(1).address
    await table.remove(route(1).session_id)
    assert front.told[-1] == {}
    assert table.lookup(route(1).session_id) is None


async def test_a_route_that_is_coming_is_awaited_and_one_that_does_not_come_is_given_up() -> None:
    table = RouteTable([Front()])
    awaited = asyncio.create_task(table.awaited(route(1).session_id, 60))
    await table.add(route(2))
    assert not awaited.done()
    await table.add(route(1))
    assert await awaited == route(1).address
    assert await table.awaited(route(3).session_id, 0.01) is None


async def test_a_route_is_not_looked_up_before_every_front_end_has_it() -> None:
    quick, slow = Front(), Front()
    slow.gate.clear()
    table = RouteTable([quick, slow])
    adding = asyncio.create_task(table.add(route(1)))
    await until(lambda: quick.told)
    assert table.lookup(route(1).session_id) is None
    assert not adding.done()
    slow.gate.set()
    await adding
    assert table.lookup(route(1).session_id)


async def test_ten_thousand_routes_share_a_handful_of_writes() -> None:
    front = Front()
    table = RouteTable([front])
    await asyncio.gather(*(table.add(route(n)) for n in range(10_000)))
    assert len(table) == 10_000
    assert len(front.told) <= 3
    await asyncio.gather(*(table.remove(route(n).session_id) for n in range(10_000)))
    assert len(table) == 0
    assert len(front.told) <= 6
    assert front.told[-1] == {}


async def test_the_last_word_on_a_session_holds() -> None:
    front = Front()
    table = RouteTable([front])
    first = route(1)
    await asyncio.gather(table.add(first), table.add(route(1, 5000)))
    assert table.lookup(first.session_id) == TCPAddress("127.0.0.1", 5000)
    await asyncio.gather(table.add(route(2)), table.remove(route(2).session_id))
    assert table.lookup(route(2).session_id) is None
    assert list(front.told[-1]) == [first.session_id]


async def test_a_session_removed_during_its_own_write_does_not_come_back() -> None:
    front = Front()
    table = RouteTable([front])
    front.gate.clear()
    adding = asyncio.create_task(table.add(route(1)))
    await until(lambda: front.busy)
    removing = asyncio.create_task(table.remove(route(1).session_id))
    await asyncio.sleep(0)
    front.gate.set()
    await asyncio.gather(adding, removing)
    assert table.lookup(route(1).session_id) is None
    assert front.told[-1] == {}


async def test_removing_what_is_unknown_writes_nothing() -> None:
    front = Front()
    table = RouteTable([front])
    await table.remove("no-such-session-00000000000")
    assert not front.told


async def test_a_failed_add_fails_for_those_who_waited_and_leaves_the_table_true() -> None:
    front = Front()
    table = RouteTable([front])
    await table.add(route(1))
    front.failure = RouteError("The disk is full.")
    results = await asyncio.gather(*(table.add(route(n)) for n in (2, 3)), return_exceptions=True)
    assert [str(result) for result in results] == ["The disk is full."] * 2
    assert table.lookup(route(2).session_id) is None
    front.failure = None
    await table.add(route(4))
    assert list(front.told[-1]) == [route(1).session_id, route(4).session_id]


async def test_a_front_end_that_was_told_is_told_back_when_another_fails() -> None:
    good, bad = Front(), Front()
    table = RouteTable([good, bad])
    await table.add(route(1))
    bad.failure = RouteError("no")
    with pytest.raises(RouteError):
        await table.add(route(2))
    assert list(good.told[-1]) == [route(1).session_id]


async def test_a_failed_removal_is_over_for_the_table_and_done_by_the_next_write() -> None:
    front = Front()
    table = RouteTable([front])
    await table.add(route(1))
    front.failure = RouteError("no")
    with pytest.raises(RouteError):
        await table.remove(route(1).session_id)
    assert table.lookup(route(1).session_id) is None
    front.failure = None
    await table.remove(route(1).session_id)
    assert front.told[-1] == {}


async def test_a_mistake_in_a_publisher_is_a_route_error_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    front = Front()
    front.failure = ZeroDivisionError("mistake")
    with pytest.raises(RouteError, match="ZeroDivisionError"):
        await RouteTable([front]).add(route(1))
    assert "mistake" in caplog.text


async def test_a_caller_who_goes_away_does_not_disturb_the_others() -> None:
    front = Front()
    table = RouteTable([front])
    front.gate.clear()
    tasks = [asyncio.create_task(table.add(route(n))) for n in range(3)]
    await until(lambda: front.busy)
    tasks[1].cancel()
    front.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), asyncio.CancelledError, type(None)]


async def test_starting_replaces_what_was_left_and_closing_ends_it() -> None:
    front = Front()
    table = RouteTable([front])
    await table.start([route(7)])
    assert list(front.told[-1]) == [route(7).session_id]
    assert table.lookup(route(7).session_id)
    await table.close()
    assert front.closed
    assert table.lookup(route(7).session_id) is None
    with pytest.raises(RouteError, match="ending"):
        await table.add(route(8))


@pytest.mark.parametrize(
    ("session_id", "address"),
    [
        ("short", TCPAddress("127.0.0.1", 80)),
        ("a" * 65, TCPAddress("127.0.0.1", 80)),
        ("a" * 30 + "\n", TCPAddress("127.0.0.1", 80)),
        ("a" * 30 + " ", TCPAddress("127.0.0.1", 80)),
        ("ä" * 30, TCPAddress("127.0.0.1", 80)),
        ("../" * 10, TCPAddress("127.0.0.1", 80)),
        ("a" * 30, TCPAddress("localhost", 80)),
        ("a" * 30, TCPAddress("10.0.0.1", 80)),
        ("a" * 30, TCPAddress("127.0.0.1\nb 127.0.0.1", 80)),
        ("a" * 30, TCPAddress("127.0.0.1", 0)),
        ("a" * 30, TCPAddress("127.0.0.1", 65536)),
        ("a" * 30, TCPAddress("127.0.0.1", -1)),
        ("a" * 30, UnixAddress(Path("relative.sock"))),
    ],
)
def test_a_route_that_could_mean_something_else_cannot_be_made(
    session_id: str, address: Address
) -> None:
    with pytest.raises(RouteError):
        Route(session_id, address)
