"""One warm session goes to one launch, whoever else asks, and its user's limit holds."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hpcbridge.errors import NoCapacity
from hpcbridge.store import Quota, Selection, SessionRow, State, Store
from hpcbridge.warm.store import Asked, WarmStore

HERE = {"here": None}
ALL = [f"{number:040x}" for number in range(10)]


def warm(number: int = 1, **columns: Any) -> SessionRow:
    now = time.time()
    given = {
        "secret": "s3cret",
        "application": "cone",
        "cluster": "here",
        "pool": "p",
        "claimed": True,
        "state": State.READY,
        "starting_at": now - 60,
        "ready_at": now - 50 + number,
    }
    name = f"hpcb-01234567-{number:024x}"
    return SessionRow(id=f"{number:040x}", job_name=name, **(given | columns))


def asked(number: int = 1, **more: Any) -> Asked:
    return Asked(**({"request": f"r{number}", "key": None, "user": None, "cluster": None} | more))


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[list[Store]]:
    """Two on one file."""
    url = f"sqlite+aiosqlite:///{tmp_path}/db.sqlite"
    opened = [await Store.open(url), await Store.open(url)]
    yield opened
    for each in opened:
        await each.close()


@pytest.fixture
def warm_store(stores: list[Store]) -> WarmStore:
    return WarmStore(stores[0])


async def take(warm_store: WarmStore, wish: Asked, **more: Any) -> SessionRow | None:
    accounts = more.pop("accounts", HERE)
    given = {"among": ALL, "wholly": True} | more
    return await warm_store.assign("p", wish, given.pop("after", 0.0), accounts, **given)


async def test_each_goes_to_one_launch_of_many(stores: list[Store]) -> None:
    for number in range(4):
        await stores[0].add(warm(number))
    wishes = [take(WarmStore(stores[0]), asked(each)) for each in range(10)]
    got = [each for each in await asyncio.gather(*wishes) if each]
    assert len(got) == 4
    assert len({each.id for each in got}) == 4


async def test_the_oldest_goes_first_and_is_the_users_then(
    stores: list[Store], warm_store: WarmStore
) -> None:
    for number in (2, 1, 3):
        await stores[0].add(warm(number))
    got = await take(warm_store, asked(key="k", user="alice"))
    assert got is not None
    kept = await stores[1].get(got.id)
    assert kept is not None
    assert kept.id == warm(1).id
    assert (kept.user, kept.request, kept.idempotency_key, kept.claimed) == (
        "alice",
        "r1",
        "k",
        True,
    )
    assert kept.taken_at == pytest.approx(time.time(), abs=10)
    assert not kept.warm
    assert kept.was_warm


@pytest.mark.parametrize(
    "columns",
    [
        {"state": State.STARTING},
        {"state": State.ENDED},
        {"stopped": True},
        {"taken_at": 1.0},
        {"pool": "other"},
        {"pool": None},
        {"starting_at": 5.0},
        {"cluster": "there"},
        {"account": "bob"},
    ],
)
async def test_what_is_not_ready_not_free_too_old_or_elsewhere_is_not_given(
    stores: list[Store], warm_store: WarmStore, columns: dict[str, Any]
) -> None:
    await stores[0].add(warm(**columns))
    assert await take(warm_store, asked(), after=10.0) is None


async def test_it_is_found_again_by_the_browser_that_launched_it(
    stores: list[Store], warm_store: WarmStore
) -> None:
    await stores[0].add(warm(1, submitting_at=time.time()))
    assert await stores[1].page(Selection(visitor="mine"), 9) == []
    got = await take(warm_store, asked(visitor="mine"))
    assert got is not None
    assert [each.id for each in await stores[1].page(Selection(visitor="mine"), 9)] == [got.id]
    assert await stores[1].page(Selection(visitor="another"), 9) == []


async def test_one_that_this_replica_does_not_reach_is_not_given(
    stores: list[Store], warm_store: WarmStore
) -> None:
    await stores[0].add(warm(1))
    await stores[0].add(warm(2))
    got = await take(warm_store, asked(), among=[warm(2).id])
    assert got is not None
    assert got.id == warm(2).id


async def test_a_launch_that_has_its_session_gets_no_second(
    stores: list[Store], warm_store: WarmStore
) -> None:
    await stores[0].add(warm(1))
    await stores[0].add(warm(2))
    wish = asked(key="k")
    assert await take(warm_store, wish)
    assert await take(warm_store, wish) is None


async def test_a_users_limit_holds_also_for_launches_side_by_side(
    stores: list[Store], warm_store: WarmStore
) -> None:
    for number in range(4):
        await stores[0].add(warm(number))
    quota = Quota(2, "alice has {}", {"user": "alice"})
    wishes = [take(warm_store, asked(each, user="alice", quotas=[quota])) for each in range(4)]
    results = await asyncio.gather(*wishes, return_exceptions=True)
    assert [type(each) for each in results].count(NoCapacity) == 2


async def test_one_that_is_put_aside_is_the_users_only_when_it_is_given(
    stores: list[Store], warm_store: WarmStore
) -> None:
    await stores[0].add(warm())
    wish = asked(key="k", user="alice")
    aside = await take(warm_store, wish, wholly=False)
    assert aside is not None
    kept = await stores[0].get(aside.id)
    assert kept is not None
    assert (kept.claimed, kept.idempotency_key, kept.secret) == (False, None, "s3cret")
    assert await take(warm_store, asked(2)) is None
    assert await warm_store.give(aside, wish, "n3w")
    kept = await stores[0].get(aside.id)
    assert kept is not None
    assert (kept.claimed, kept.idempotency_key, kept.secret) == (True, "k", "n3w")


async def test_what_a_user_has_is_not_retired_and_what_is_retired_no_user_gets(
    stores: list[Store], warm_store: WarmStore
) -> None:
    first, second = warm(1), warm(2)
    await stores[0].add(first)
    await stores[0].add(second)
    assert await take(warm_store, asked())
    assert not await warm_store.retire(first)
    assert await warm_store.retire(second)
    assert await take(warm_store, asked(2)) is None


async def test_no_more_are_added_than_there_may_be(
    stores: list[Store], warm_store: WarmStore
) -> None:
    assert await warm_store.add(warm(1), [], 1)
    assert not await warm_store.add(warm(2), [], 1)
    with pytest.raises(NoCapacity):
        await warm_store.add(warm(3), [Quota(1, "full", {})], 9)


async def test_the_past_tells_launches_that_found_none_too(
    stores: list[Store], warm_store: WarmStore
) -> None:
    await stores[0].add(warm(1, submitting_at=5.0))
    cold = {"submitting_at": 70.0, "taken_at": 70.0, "starting_at": 71.0, "ready_at": 80.0}
    await stores[0].add(warm(2, **cold))
    past = await warm_store.past("p")
    assert (past.first, past.asked, past.worked) == (5.0, 70.0, 80.0)
    gone = cold | {"state": State.ENDED, "ended_at": 90.0}
    await stores[0].add(warm(3, **gone))
    await stores[0].add(warm(4, state=State.ENDED, ended_at=90.0))
    there = {row.id for row in await warm_store.rows("cone", 0.0)}
    assert there == {warm(number).id for number in (1, 2, 4)}
    assert {row.id for row in await warm_store.rows("cone", 91.0)} == there - {warm(4).id}
