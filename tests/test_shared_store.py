"""What services on one database tell each other, on a real SQLite file.

That they do so on PostgreSQL, side by side, is told in tests/postgres.
"""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hpcbridge.database.endpoints import RemoteClients
from hpcbridge.database.replicas import FORGOTTEN, STALE
from hpcbridge.store import SessionRow, State, Store


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[list[Store]]:
    url = f"sqlite+aiosqlite:///{tmp_path}/db.sqlite"
    stores = [await Store.open(url, replica) for replica in ("one", "two", "three")]
    yield stores
    for store in stores:
        await store.close()


def row(number: int, **columns: Any) -> SessionRow:
    given = {"secret": "s3cret", "application": "cone", "cluster": "here"}
    return SessionRow(id=f"{number:040d}", job_name=f"hpcb-x-{number}", **(given | columns))


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The databases' clocks are so far ahead from now on."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + seconds)


async def test_a_replica_counts_the_others_that_were_heard_of_lately(
    stores: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = (store.replicas for store in stores)
    assert [await one.announce(), await two.announce(), await three.announce()] == [0, 1, 2]
    assert await one.announce() == 2
    await three.leave()
    assert await one.announce() == 1
    later(monkeypatch, STALE + 1)
    assert await one.announce() == 0


async def test_replicas_long_gone_leave_no_trace(
    stores: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, _ = stores
    await two.replicas.announce()
    await one.prune(0)
    with monkeypatch.context() as patch:
        patch.setattr("hpcbridge.database.replicas.STALE", 10 * FORGOTTEN)
        assert await one.replicas.announce() == 1
        later(patch, FORGOTTEN + 1)
        await one.prune(0)
        assert await one.replicas.announce() == 0


async def test_the_first_service_on_a_database_gives_its_jobs_their_mark(
    stores: list[Store],
) -> None:
    one, two, _ = stores
    assert await one.replicas.mark("aaaa") == "aaaa"
    assert await two.replicas.mark("bbbb") == "aaaa"


async def test_a_replica_learns_who_is_connected_at_the_others(
    stores: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = stores
    for store in stores:
        await store.replicas.announce()
        for session in ("a", "b"):
            await store.endpoints.put(session, "127.0.0.1:4000")
    assert await one.endpoints.remote_clients() == {}, "nobody has told anything"
    await one.endpoints.report("a", 7, 0.0)
    await two.endpoints.report("a", 1, 50.0)
    await three.endpoints.report("a", 2, 30.0)
    told = await one.endpoints.remote_clients()
    assert told == {"a": RemoteClients(3, pytest.approx(30, abs=2))}  # type: ignore[arg-type]
    assert (await two.endpoints.remote_clients())["a"].connections == 9
    await three.replicas.leave()
    told = await one.endpoints.remote_clients()
    assert told == {"a": RemoteClients(1, pytest.approx(50, abs=2))}  # type: ignore[arg-type]
    later(monkeypatch, STALE + 1)
    assert await one.endpoints.remote_clients() == {}


async def test_the_local_ends_of_forgotten_and_ended_sessions_are_forgotten(
    stores: list[Store],
) -> None:
    one, two, _ = stores
    await one.add(row(1))
    for session in (row(1).id, "forgotten"):
        await one.endpoints.put(session, "127.0.0.1:1")
    await one.prune(0)
    assert await one.endpoints.here() == {row(1).id: "127.0.0.1:1"}
    assert await two.endpoints.here() == {}
    await two.endpoints.put(row(1).id, "127.0.0.1:2")
    await two.endpoints.drop("another")
    assert await one.endpoints.here() == {row(1).id: "127.0.0.1:1"}
    await one.endpoints.drop(row(1).id)
    assert [await store.endpoints.here() for store in (one, two)] == [{}, {}]


async def test_each_change_of_a_session_counts_for_who_reads_it(stores: list[Store]) -> None:
    one, two, _ = stores
    gone = row(3, state=State.ENDED, job_ended=True)
    cleaning = row(4, state=State.ENDED, job_ended=False)
    rows = [row(1), row(2), gone, cleaning]
    for each in rows:
        await one.add(each)
    await one.note(rows[0], claimed=True)
    assert await two.versions() == {
        rows[0].id: (rows[0].job_name, 1),
        rows[1].id: (rows[1].job_name, 0),
        cleaning.id: (cleaning.job_name, 0),
    }
    read = await two.named([rows[0].job_name, gone.job_name])
    assert {(each.id, each.claimed) for each in read} == {(rows[0].id, True), (gone.id, False)}


async def test_what_clients_want_is_put_down_with_the_time(stores: list[Store]) -> None:
    one, two, _ = stores
    wanted, other = row(1), row(2)
    for each in (wanted, other):
        await one.add(each)
    told: list[str] = []

    async def tell(_: Any, name: str) -> None:
        told.append(name)

    two.tell = tell  # type: ignore[method-assign]
    await two.wanted([wanted.id])
    assert told == [wanted.job_name]
    read = await one.get(wanted.id), await one.get(other.id)
    assert [each.version for each in read if each] == [1, 0]
    assert read[0] is not None
    assert read[0].wanted_at == pytest.approx(time.time(), abs=5)


async def test_a_change_of_what_another_has_changed_meanwhile_is_not_made_where_that_counts(
    stores: list[Store],
) -> None:
    one, two, _ = stores
    mine = row(1)
    await one.add(mine)
    theirs = await two.get(mine.id)
    assert theirs is not None
    assert await two.update(theirs, message="theirs")
    assert not await one.update(mine, unchanged=True, message="mine")
    assert mine.message != "mine"
    assert await one.update(mine, message="mine")
