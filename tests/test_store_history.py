"""What a long history of ended sessions costs: nothing, as the database plans its queries."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import event

from hpcbridge import store as module
from hpcbridge.database.engine import make_engine
from hpcbridge.database.listing import WHICH
from hpcbridge.store import Quota, Selection, SessionRow, State, Store
from hpcbridge.warm.store import WarmStore


def row(number: int, **columns: Any) -> SessionRow:
    given = {
        "id": f"{number:040}",
        "secret": "s3cret",
        "application": "cone",
        "cluster": "here",
        "job_name": f"hpcb-{number}",
    }
    return SessionRow(**(given | columns))


def ended(number: int, ago: float, **columns: Any) -> SessionRow:
    then = time.time() - ago
    return row(number, state=State.ENDED, ended_at=then, **({"job_ended": True} | columns))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without a session."""
    path = tmp_path_factory.mktemp("empty") / "hpcbridge.sqlite"

    async def make() -> None:
        await (await Store.open(f"sqlite+aiosqlite:///{path}")).close()

    asyncio.run(make())
    return path


@pytest_asyncio.fixture
async def store(tmp_path: Path, empty: Path) -> AsyncIterator[Store]:
    path = shutil.copy(empty, tmp_path)
    store = Store(make_engine(f"sqlite+aiosqlite:///{path}"))
    yield store
    await store.close()


LISTED: list[tuple[str, ...]] = [
    *((), ("user",), ("application",), ("cluster",), ("visitor",), ("visitor", "application")),
    *(("user", "application"), ("application", "cluster"), ("user", "application", "cluster")),
]
Question = Callable[[Store], Awaitable[object]]

QUOTAS = [
    Quota(10, "{}", {}),
    Quota(10, "{}", {"application": "cone"}),
    Quota(10, "{}", {"user": "ann"}, queued=True),
]
QUESTIONS: dict[str, Question] = {
    "launch": lambda store: store.launch(row(1, request="r"), QUOTAS),
    "launch with a key": lambda store: store.launch(row(1, idempotency_key="k"), QUOTAS),
    "get": lambda store: store.get("x"),
    "named": lambda store: store.named(["a", "b"]),
    "known": lambda store: store.known(["hpcb-a-b"]),
    "unfinished": lambda store: store.unfinished(),
    **{
        f"page of {which} {columns}": lambda store, which=which, columns=columns: store.page(
            Selection(which, **dict.fromkeys(columns, "x")), 200
        )
        for which in WHICH
        for columns in LISTED
    },
    "waits": lambda store: store.waits("cone", "here"),
    "versions": lambda store: store.versions(),
    "note": lambda store: store.note(row(1), claimed=True),
    "wanted": lambda store: store.wanted(["a"]),
    "forsake": lambda store: store.forsake(),
    "prune": lambda store: store.prune(3600),
    "warm sessions": lambda store: WarmStore(store).rows("cone", 0.0),
}


@pytest.mark.parametrize("question", QUESTIONS)
async def test_no_question_reads_the_whole_table(store: Store, question: str) -> None:
    asked: list[tuple[str, Any]] = []

    def note(_c: Any, _k: Any, statement: str, parameters: Any, _x: Any, many: bool) -> None:
        if "sessions" in statement and not many:
            asked.append((statement, parameters))

    event.listen(store.engine.sync_engine, "before_cursor_execute", note)
    await QUESTIONS[question](store)
    event.remove(store.engine.sync_engine, "before_cursor_execute", note)
    assert asked
    async with store.engine.connect() as connection:
        for statement, parameters in asked:
            explained = await connection.exec_driver_sql(
                f"EXPLAIN QUERY PLAN {statement}", parameters
            )
            plan = [str(each[-1]) for each in explained]
            read_whole = [step for step in plan if step.startswith("SCAN sessions")]
            assert not read_whole, f"{statement}: {plan}"
            if question.startswith("page"):
                newest = [step for step in plan if "INDEX ix_sessions_newest" in step]
                assert plan == newest, f"{statement}: {plan}"  # and nothing is sorted
                assert not question.startswith("page of live") or "living" in plan[0], plan


async def test_old_sessions_are_forgotten_piece_by_piece(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PRUNED_AT_ONCE", 2)
    for number in range(5):
        await store.add(ended(number, 100))
    await store.add(ended(10, 1))
    await store.add(ended(11, 100, job_ended=False))
    await store.add(row(12))
    pieces = 0

    def note(_c: Any, _k: Any, statement: str, *_: Any) -> None:
        nonlocal pieces
        pieces += statement.startswith("DELETE FROM sessions")

    event.listen(store.engine.sync_engine, "before_cursor_execute", note)
    await store.prune(50)
    assert pieces == 3
    names = [f"hpcb-{number}" for number in range(13)]
    assert sorted(each.job_name for each in await store.named(names)) == [
        "hpcb-10",
        "hpcb-11",
        "hpcb-12",
    ]
