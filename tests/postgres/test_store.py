"""What the store does on PostgreSQL that it does not need to on SQLite."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from hpcbridge.auth.tickets import Tickets
from hpcbridge.database.listing import page, place
from hpcbridge.database.tables import About
from hpcbridge.errors import LeadershipLost, NoCapacity, StoreError
from hpcbridge.replication import leadership as leadership_module
from hpcbridge.replication.leadership import Leadership
from hpcbridge.replication.notifications import Notifications
from hpcbridge.store import FIRST, Place, Quota, Selection, SessionRow, State, Store
from testbed.postgresql import PostgreSQL
from tests.waiting import until

SECRET = "s3cret-s3cret-s3cret-s3cret"


def row(number: int = 1, **columns: Any) -> SessionRow:
    given = {"secret": SECRET, "application": "cone", "cluster": "here", "request": "r"}
    name = f"hpcb-01234567-{number:024x}"
    return SessionRow(id=f"{number:040x}", job_name=name, **(given | columns))


@pytest.fixture
async def stores(url: str) -> AsyncIterator[list[Store]]:
    """Three replicas, which found the database empty at the same moment."""
    opened = list(await asyncio.gather(*(Store.open(url, f"replica {n}") for n in range(3))))
    yield opened
    for each in opened:
        await each.close()


class Part:
    """A replica's part in the leadership."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.leads = 0
        self.leadership = Leadership(store, self._lead, self._follow)
        self.task = asyncio.create_task(self.leadership.run())

    async def _lead(self) -> None:
        self.leads += 1

    async def _follow(self) -> None:
        """Nothing is at work."""

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_what_one_replica_announces_all_have_at_once(stores: list[Store]) -> None:
    for text_, drain in (("soon", False), ("new disks", True)):
        said = {"text": text_, "drain": drain, "by": "olga"}
        await stores[0].announcements.put(About.CLUSTER, "here", **said)
    for each in stores:
        (found,) = await each.announcements.all()
        assert (found.about, found.text, found.drain) == (About.CLUSTER, "new disks", True)
    assert await stores[1].announcements.remove(About.CLUSTER, "here")
    assert not await stores[2].announcements.remove(About.CLUSTER, "here")
    assert await stores[0].announcements.all() == []


async def test_a_visitor_finds_a_session_at_every_replica(stores: list[Store]) -> None:
    await stores[0].add(row(1, visitor="mine", submitting_at=5.0))
    await stores[0].add(row(2, submitting_at=6.0))
    for each in stores:
        found = await each.page(Selection("all", visitor="mine"), 9)
        assert [session.id for session in found] == [row(1).id]


async def test_the_first_mark_is_everybodys(stores: list[Store]) -> None:
    marks = await asyncio.gather(
        *(each.replicas.mark(f"mark {n}") for n, each in enumerate(stores))
    )
    assert len(set(marks)) == 1


async def test_what_is_written_comes_back_in_its_types(stores: list[Store]) -> None:
    given = {"file": "a'; DROP TABLE sessions; --", "level": 3, "half": 0.5, "on": True}
    await stores[0].add(row(parameters=given, log_tail="größer ☃ 𝄞", submitting_at=1795305736.9))
    found = await stores[1].get(row().id)
    assert found is not None
    assert (found.parameters, found.log_tail) == (given, "größer ☃ 𝄞")
    assert (found.state, found.submitting_at, found.job_ended) == (
        State.SUBMITTING,
        1795305736.9,
        False,
    )


async def test_errors_hold_neither_secrets_nor_the_password(
    stores: list[Store], postgresql: PostgreSQL, url: str
) -> None:
    await stores[0].add(row())
    with pytest.raises(StoreError) as caught:
        await stores[1].add(row())
    said = f"{caught.value} {caught.value.__cause__}"
    assert "duplicate key" in said
    assert SECRET not in said
    with pytest.raises(StoreError) as caught:
        await Store.open(url.replace(postgresql.password, "wr0ng"))
    assert "authentication failed" in str(caught.value)
    assert "wr0ng" not in str(caught.value)


async def test_a_server_that_is_not_there_is_told(url: str, postgresql: PostgreSQL) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        await Store.open(url.replace(f":{postgresql.port}/", ":1/"))


async def test_a_missing_driver_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(StoreError, match=r"pip install 'hpcbridge\[postgresql\]'"):
        await Store.open(url)


async def test_a_call_that_is_cancelled_has_ended_when_its_caller_has(
    stores: list[Store], caplog: pytest.LogCaptureFixture
) -> None:
    """In whatever moment: it is written or it is not, and no connection is lost by halves."""
    store = stores[0]
    pool: Any = store.engine.pool
    for number in range(40):
        task = asyncio.create_task(store.add(row(number)))
        await asyncio.sleep(number * 0.0002)
        task.cancel()
        await asyncio.wait({task})
        assert pool.checkedout() == 0
        if await store.get(row(number).id) is None:
            await store.add(row(number))
    assert [each.getMessage() for each in caplog.records if each.levelno > logging.INFO] == []


async def test_limits_are_exact_however_many_launch_at_once(stores: list[Store]) -> None:
    quotas = [Quota(5, "All {} are taken.", {"application": "cone"})]
    launches = [stores[n % 3].launch(row(n, request=str(n)), quotas) for n in range(30)]
    results = await asyncio.gather(*launches, return_exceptions=True)
    refused = [each for each in results if isinstance(each, NoCapacity)]
    assert len(refused) == 25
    assert str(refused[0]) == "All 5 are taken."
    assert len(await stores[0].unfinished()) == 5


async def test_one_who_left_is_replaced_once_however_many_ask_at_once(stores: list[Store]) -> None:
    first = await stores[0].launch(row(100), [])
    await stores[0].note(first, forsaken=True)
    launches = [stores[n % 3].launch(row(n), []) for n in range(9)]
    found = [each.id for each in await asyncio.gather(*launches)]
    assert found.count(first.id) == 1
    assert len(set(found)) == 9


async def test_before_anybody_leads_nobody_does(stores: list[Store]) -> None:
    assert [await each.replicas.leader() for each in stores] == [None, None, None]


async def test_only_the_leader_of_now_drives(stores: list[Store]) -> None:
    first, second = Part(stores[0]), Part(stores[1])
    try:
        await until(lambda: first.leads + second.leads)
        leader, follower = (first, second) if first.leads else (second, first)
        for each in stores:
            assert await each.replicas.leader() == leader.store.token
        mine = await leader.store.launch(row(), [])
        await leader.store.update(mine, state=State.QUEUED)
        theirs = await follower.store.get(mine.id)
        assert theirs is not None
        with pytest.raises(LeadershipLost):
            await follower.store.update(theirs, state=State.ENDED)
        assert await follower.store.note(theirs, claimed=True)
        term = leader.store.term
        await leader.end()
        await leader.leadership.release(term)
        follower.leadership.freed()
        await until(lambda: follower.leads)
        assert await leader.store.replicas.leader() == follower.store.token
        leader.store.term = term  # it believes that it still leads
        with pytest.raises(LeadershipLost):
            await leader.store.update(mine, state=State.ENDED)
        with pytest.raises(LeadershipLost):
            await leader.store.check()
        assert (follower.store.term or 0) > (term or 0)
    finally:
        await first.end()
        await second.end()


async def test_a_leader_without_its_database_stops_before_its_lease_is_over(
    stores: list[Store],
    postgresql: PostgreSQL,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = Part(stores[0])
    try:
        await until(lambda: first.leads)

        async def away(_: int) -> bool:
            raise StoreError("The database is away.")

        monkeypatch.setattr(first.leadership, "_renew", away)
        await until(lambda: not stores[0].term, seconds=leadership_module.LEASE)
        left = "SELECT expires_at - extract(epoch FROM clock_timestamp()) FROM leadership"
        assert float(postgresql.ask(database, left)[0]) > 0
    finally:
        await first.end()


async def test_an_end_that_another_replica_has_overtaken_is_not_written(
    stores: list[Store],
) -> None:
    leader = Part(stores[0])
    try:
        await until(lambda: leader.leads)
        mine = await stores[0].launch(row(), [])
        theirs = await stores[1].get(mine.id)
        assert theirs is not None
        await stores[1].note(theirs, claimed=True)
        assert not await stores[0].update(mine, unchanged=True, state=State.ENDED)
        assert mine.state == State.SUBMITTING
    finally:
        await leader.end()


async def test_a_session_that_has_ended_cannot_be_claimed(stores: list[Store]) -> None:
    mine = row(state=State.ENDED)
    await stores[0].add(mine)
    assert not await stores[1].note(mine, claimed=True)
    assert not mine.claimed


async def test_changes_are_heard_by_the_others_and_again_after_a_lost_connection(
    stores: list[Store], postgresql: PostgreSQL, database: str
) -> None:
    heard: dict[int, set[str]] = {0: set(), 1: set()}
    missed = {0: 0, 1: 0}

    def listener(number: int) -> Notifications:
        async def hear(names: set[str]) -> None:
            heard[number] |= names

        async def reread() -> None:
            missed[number] += 1

        return Notifications(stores[number], hear, reread)

    tasks = [asyncio.create_task(listener(number).run()) for number in heard]
    try:
        await until(lambda: all(missed.values()))
        mine = await stores[0].launch(row(1), [])
        await until(lambda: mine.job_name in heard[1])
        assert heard[0] == set()
        postgresql.ask(
            database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{database}' AND pid != pg_backend_pid()",
        )
        await until(lambda: missed[1] == 2)
        await until(lambda: missed[0] == 2)
        other = await stores[0].launch(row(2, request="other"), [])
        await until(lambda: other.job_name in heard[1])
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_visitors_are_those_of_replicas_at_work(stores: list[Store]) -> None:
    one, two, gone = stores
    session_id = row().id
    for each, connections in ((one, 1), (two, 2), (gone, 4)):
        await each.endpoints.put(session_id, "127.0.0.1:1")
        await each.endpoints.report(session_id, connections, 5.0)
    for each in (one, two):
        await each.replicas.announce()
    assert {
        key: each.connections for key, each in (await one.endpoints.remote_clients()).items()
    } == {session_id: 2}
    await two.replicas.leave()
    assert await one.endpoints.remote_clients() == {}


async def test_a_ticket_admits_once_whatever_replica_it_comes_to(stores: list[Store]) -> None:
    at = [Tickets(each) for each in stores]
    ticket = at[0].ticket(row(), "alice")
    admitted = await asyncio.gather(*(each.redeem(row(), ticket) for each in at * 4))
    assert sorted(map(str, admitted)) == ["None"] * 11 + ["alice"]
    assert at[1].user(row(), at[2].cookie(row(), "bob")) == "bob"


async def test_pages_of_a_long_history_come_from_one_index_and_are_not_sorted(
    stores: list[Store],
) -> None:
    """Every page, the last one too; PostgreSQL says what it would read."""
    store, users = stores[0], ("alice", "bob")
    async with store.writing() as session:
        for number in range(4000):
            over: dict[str, Any] = {"state": State.ENDED, "job_ended": True, "ended_at": 5.0}
            columns = {"user": users[number % 2], "submitting_at": 1000.25 + number // 3}
            session.add(row(number, **columns, **(over if number % 200 else {})))
    async with store.engine.connect() as connection:
        await connection.execute(text("ANALYZE sessions"))
        await connection.commit()
    for which, user in (("all", None), ("all", "bob"), ("ended", None), ("live", "alice")):
        selection, seen, before = Selection(which, user), [], FIRST
        while rows := await store.page(selection, 300, before):
            seen += [each.job_name for each in rows]
            before = place(rows[-1])
        wanted = [
            number
            for number in range(4000)
            if which == "all" or (number % 200 == 0) == (which == "live")
            if user in (None, users[number % 2])
        ]
        assert seen == [row(number).job_name for number in reversed(wanted)]
    some = Place(1500.25, "z")
    for selection in (
        Selection("all"),
        Selection("ended"),
        Selection("live"),
        Selection("all", "bob"),
        Selection("live", "alice"),
        Selection("ended", "bob", "cone", "here"),
        Selection("all", None, "cone", "here"),
    ):
        query = page(selection, 50, some).compile(
            store.engine.sync_engine, compile_kwargs={"literal_binds": True}
        )
        async with store.engine.connect() as connection:
            told = await connection.exec_driver_sql(f"EXPLAIN {query}")
            plan = "\n".join(str(each[0]) for each in told)
        assert "ix_sessions_newest" in plan, plan
        assert "Seq Scan" not in plan, plan
        # Of the few that live it may find and sort all.
        assert "Sort" not in plan or selection.which == "live", plan
