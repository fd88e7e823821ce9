"""The database of sessions, on real SQLite files."""

import asyncio
import contextlib
import logging
import os
import re
import shutil
import sqlite3
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import pytest
import pytest_asyncio
from sqlalchemy.exc import SQLAlchemyError

from hpcbridge.database import engine as database
from hpcbridge.database import transactions
from hpcbridge.database.transactions import whole
from hpcbridge.errors import StoreError
from hpcbridge.schedulers.base import EndReason
from hpcbridge.store import SessionRow, State, Store

SECRET = "s3cret-s3cret-s3cret-s3cret"
HEAD = max(Path(database.__file__).parent.glob("migrations/versions/0*.py")).stem


def row(session_id: str = "a" * 40, **columns: Any) -> SessionRow:
    given = {
        "secret": SECRET,
        "application": "cone",
        "cluster": "here",
        "job_name": f"hpcb-{session_id[:24]}",
    }
    return SessionRow(id=session_id, **(given | columns))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hpcbridge.sqlite"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[Store]:
    store = await Store.open(url)
    yield store
    await store.close()


async def refused(url: str) -> str:
    with pytest.raises(StoreError) as caught:
        await Store.open(url)
    return str(caught.value)


def dump(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        return list(connection.iterdump())
    finally:
        connection.close()


# -- opening


async def test_an_empty_database_gets_the_newest_schema(store: Store, path: Path) -> None:
    text = "\n".join(dump(path))
    assert re.search(r"CREATE TABLE \"?sessions", text)
    assert f"'{HEAD}'" in text


async def test_the_migrations_make_what_the_models_say(store: Store, path: Path) -> None:
    connection = sqlite3.connect(path)
    made = {
        (name, bool(needed))
        for _, name, _, needed, _, _ in connection.execute("PRAGMA table_info(sessions)")
    }
    connection.close()
    table = SessionRow.metadata.tables["sessions"]
    assert {name for name, _ in made} == set(table.columns.keys())
    loose = {name for name, needed in made if not needed}
    assert {column.name for column in table.columns if column.nullable} <= loose


async def test_opening_again_changes_nothing(url: str, path: Path) -> None:
    first = await Store.open(url)
    await first.add(row())
    await first.close()
    before = dump(path)
    second = await Store.open(url)
    assert (await second.get("a" * 40)) is not None
    await second.close()
    assert dump(path) == before


async def test_a_newer_database_is_refused_and_left_alone(url: str, path: Path) -> None:
    store = await Store.open(url)
    await store.add(row())
    await store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = dump(path)
    said = await refused(url)
    assert "newer hpcbridge" in said
    assert str(path) in said
    assert dump(path) == before


async def test_a_database_of_another_program_is_refused_and_left_alone(
    url: str, path: Path
) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE sessions (x)")
    connection.close()
    before = dump(path)
    assert "sessions already exists" in await refused(url)
    assert dump(path) == before


async def test_a_file_that_is_no_database_is_refused(url: str, path: Path) -> None:
    path.write_bytes(b"not a database at all " * 100)
    said = await refused(url)
    assert "not a database" in said
    assert path.read_bytes() == b"not a database at all " * 100


async def test_a_damaged_database_is_told(url: str, path: Path) -> None:
    store = await Store.open(url)
    await store.add(row())
    await store.close()
    content = bytearray(path.read_bytes())
    content[100:] = os.urandom(len(content) - 100)
    path.write_bytes(content)
    assert "cannot be opened" in await refused(url)


async def test_a_full_file_system_is_told_as_the_cause(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.mkdir()
    assert "is full" not in await refused(url)
    usage = shutil.disk_usage(path)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert (await refused(url)).endswith(
        f"The file system of {path.parent} is full: make room there."
    )


async def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    said = await refused(f"sqlite+aiosqlite:///{tmp_path}/missing/x.sqlite")
    assert "cannot be opened: No such file" in said


async def test_a_directory_in_place_of_the_file_is_told(path: Path, url: str) -> None:
    path.mkdir()
    assert "cannot be opened" in await refused(url)


@contextlib.contextmanager
def no_superuser(directory: str) -> Iterator[None]:
    """Run as the account "nobody", who gets the directory, where we are the superuser."""
    if os.geteuid() != 0:
        yield
        return
    for each in (directory, *(str(inner) for inner in Path(directory).iterdir())):
        os.chown(each, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_a_read_only_file_is_told() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "hpcbridge.sqlite"
        await (await Store.open(f"sqlite+aiosqlite:///{path}")).close()
        path.chmod(0o400)
        with no_superuser(directory):
            said = await refused(f"sqlite+aiosqlite:///{path}")
        assert "Permission denied" in said


async def test_a_database_that_cannot_be_written_says_so_at_the_first_change(
    url: str, path: Path
) -> None:
    store = await Store.open(url)
    async with store.engine.begin() as connection:
        await connection.exec_driver_sql("PRAGMA query_only = 1")
    with pytest.raises(StoreError, match="readonly database") as caught:
        await store.add(row())
    assert SECRET not in str(caught.value)
    await store.close()


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "",
        "sqlite:///x.sqlite",
        "nosuchthing://user:p4ssw0rd@host/db",
        "postgresql+nosuchdriver://user:p4ssw0rd@host/db",
        "mysql+aiomysql://user:p4ssw0rd@host:port/db",
    ],
)
async def test_an_address_that_leads_nowhere_is_told_without_its_password(url: str) -> None:
    said = await refused(url)
    assert said.startswith("store.url: ")
    assert "p4ssw0rd" not in said


@pytest.mark.parametrize("url", ["u:p4ssw0rd@127.0.0.1:1/db", "127.0.0.1:1/db?password=p4ssw0rd"])
async def test_a_server_that_is_not_there_is_told_without_the_password(url: str) -> None:
    said = await refused(f"postgresql+asyncpg://{url}")
    assert "127.0.0.1:1/db cannot be opened" in said
    assert "p4ssw0rd" not in said


async def test_odd_characters_in_the_state_directory_are_only_characters(
    site: Any, tmp_path: Path
) -> None:
    directory = tmp_path / "a ?b=1 #c %20 ü"
    directory.mkdir()
    store = await Store.open(site.settings(server={"state_dir": str(directory)}).store_url)
    await store.close()
    assert [each.name for each in directory.iterdir()] == ["hpcbridge.sqlite"]


async def test_a_migration_that_fails_leaves_nothing(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate = database.migrate

    def cut_off(connection: Any) -> None:
        migrate(connection)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(database, "migrate", cut_off)
    assert "No space left on device" in await refused(url)
    assert [line for line in dump(path) if "CREATE" in line] == []
    monkeypatch.undo()
    await (await Store.open(url)).close()


# -- privacy


def _modes(path: Path) -> dict[str, int]:
    return {
        each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.glob(f"{path.name}*")
    }


async def test_only_the_service_can_read_the_files(url: str, path: Path) -> None:
    before = os.umask(0)
    try:
        store = await Store.open(url)
        await store.add(row())
        names = {path.name, f"{path.name}-wal", f"{path.name}-shm"}
        assert _modes(path) == dict.fromkeys(names, 0o600)
        await store.close()
    finally:
        os.umask(before)


async def test_a_file_that_others_could_read_is_closed_to_them(url: str, path: Path) -> None:
    await (await Store.open(url)).close()
    path.chmod(0o644)
    store = await Store.open(url)
    await store.add(row())
    assert set(_modes(path).values()) == {0o600}
    await store.close()


@pytest.mark.parametrize("name", ["", "/:memory:"])
async def test_a_database_in_memory_makes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    store = await Store.open(f"sqlite+aiosqlite://{name}")
    await store.add(row())
    assert await store.get(row().id) is not None
    await store.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite+aiosqlite:////var/lib/x.sqlite", Path("/var/lib/x.sqlite")),
        ("sqlite+aiosqlite:///x.sqlite", Path("x.sqlite")),
        ("sqlite+aiosqlite://", None),
        ("sqlite+aiosqlite:///", None),
        ("sqlite+aiosqlite:///:memory:", None),
        ("postgresql+asyncpg://host/name", None),
        ("no URL", None),
    ],
)
def test_the_file_of_a_database_is_known_where_it_is_one(url: str, file: Path | None) -> None:
    assert database.sqlite_file(url) == file


def test_a_full_file_system_is_only_looked_for_where_the_database_is_a_file_of_it(
    monkeypatch: pytest.MonkeyPatch, path: Path, url: str
) -> None:
    monkeypatch.setattr(database, "SCARCE", 1 << 62)
    engines = [database.make_engine(each) for each in (url, "sqlite+aiosqlite://")]
    engines.append(database.make_engine("postgresql+asyncpg://127.0.0.1/hpcbridge"))
    full = f" The file system of {path.parent} is full: make room there."
    assert [database._hint(engine) for engine in engines] == [full, "", ""]
    monkeypatch.setattr(database, "SCARCE", 0)
    assert database._hint(engines[0]) == ""


def test_the_drivers_own_errors_are_the_databases() -> None:
    class Lost(Exception):
        """As asyncpg raises where a connection is lost."""

    Lost.__module__ = "asyncpg.exceptions"
    known = (Lost(), OSError(), SQLAlchemyError(), RuntimeError(), ValueError())
    assert [database.is_from_database(each) for each in known] == [True, True, True, False, False]


async def test_errors_hold_no_secret(store: Store) -> None:
    await store.add(row())
    with pytest.raises(StoreError) as caught:
        await store.add(row())
    said = [str(each) for each in (caught.value, caught.value.__cause__)]
    assert "UNIQUE constraint failed" in said[0]
    assert not any(SECRET in each for each in said)


# -- rows


async def test_what_is_written_comes_back_in_its_types(url: str) -> None:
    store = await Store.open(url)
    written = row(
        parameters={"file": "a'; DROP TABLE sessions; --", "level": 3, "half": 0.5, "on": True},
        state=State.ENDED,
        reason=EndReason.OUT_OF_MEMORY,
        log_tail="größer ☃ 𝄞",
        submitting_at=1.5,
        exit_status=-9,
    )
    await store.add(written)
    await store.close()
    store = await Store.open(url)
    found = await store.get("a" * 40)
    await store.close()
    assert found is not None
    assert found.state is State.ENDED
    assert found.reason is EndReason.OUT_OF_MEMORY
    assert found.parameters == written.parameters
    assert found.parameters["on"] is True
    assert found.log_tail == "größer ☃ 𝄞"
    assert (found.submitting_at, found.exit_status, found.job_id) == (1.5, -9, None)
    assert found.job_ended is False


async def test_enums_are_stored_as_their_words(store: Store, path: Path) -> None:
    await store.add(row(state=State.READY, reason=EndReason.TIMED_OUT))
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT state, reason FROM sessions").fetchall() == [
        ("ready", "timed_out")
    ]
    connection.close()


async def test_a_change_is_in_the_database_and_in_the_row(store: Store) -> None:
    mine = row()
    await store.add(mine)
    await store.update(mine, state=State.QUEUED, job_id="17", queued_at=2.0)
    assert (mine.state, mine.job_id) == (State.QUEUED, "17")
    found = await store.get(mine.id)
    assert found is not None
    assert found.state is State.QUEUED
    assert (found.job_id, found.queued_at, found.secret) == ("17", 2.0, SECRET)


async def test_a_change_leaves_what_it_was_given_as_it_was(store: Store) -> None:
    mine = row()
    await store.add(mine)
    given = {"message": "changed"}
    async with store.writing() as session:
        changed = await store.change(session, mine, given)
    assert given == {"message": "changed"}
    assert changed == {"message": "changed", "version": 1}
    assert (mine.message, mine.version) == ("", 0)  # until the caller puts it there


async def test_a_change_touches_no_other_session(store: Store) -> None:
    one, two = row("1" * 40), row("2" * 40)
    await store.add(one)
    await store.add(two)
    await store.update(one, state=State.ENDED, secret=None)
    found = await store.get(two.id)
    assert found is not None
    assert (found.state, found.secret) == (State.SUBMITTING, SECRET)


async def test_an_unknown_session_is_none(store: Store) -> None:
    for session_id in ("nobody", "", "x" * 100_000, "' OR 1=1 --", "nul\0"):
        assert await store.get(session_id) is None


async def test_unfinished_are_those_that_live_or_may_still_have_a_job(store: Store) -> None:
    states = {state: str(number) * 40 for number, state in enumerate(State)}
    for state, session_id in states.items():
        await store.add(row(session_id, state=state))
    await store.add(row("f" * 40, state=State.ENDED, job_ended=True))
    found = {each.id for each in await store.unfinished()}
    assert found == set(states.values())


async def test_pruning_forgets_old_sessions_whose_jobs_are_gone(store: Store) -> None:
    old = time.time() - 100
    rows = {
        "old": row("0" * 40, state=State.ENDED, ended_at=old, job_ended=True),
        "recent": row("1" * 40, state=State.ENDED, ended_at=time.time(), job_ended=True),
        "job left": row("2" * 40, state=State.ENDED, ended_at=old),
        "alive": row("3" * 40, state=State.READY, ready_at=old),
    }
    for each in rows.values():
        await store.add(each)
    await store.prune(50)
    left = {name for name, each in rows.items() if await store.get(each.id)}
    assert left == {"recent", "job left", "alive"}


async def test_many_writers_do_not_lock_each_other_out(store: Store) -> None:
    rows = [row(f"{number:040}", job_name=f"hpcb-{number:024}") for number in range(60)]
    await asyncio.gather(*(store.add(each) for each in rows))
    await asyncio.gather(
        *(store.update(each, state=State.QUEUED) for each in rows),
        *(store.unfinished() for _ in range(20)),
    )
    assert all(each.state is State.QUEUED for each in await store.unfinished())


async def test_a_database_locked_by_another_program_is_told_and_usable_afterwards(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = row()
    await store.add(mine)
    async with store.engine.begin() as connection:
        await connection.exec_driver_sql("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked") as caught:
        await store.update(mine, state=State.QUEUED, secret="another-s3cret")
    assert "s3cret" not in str(caught.value)
    assert mine.state is State.SUBMITTING
    assert (await store.get(mine.id)) is not None  # readers are not in the way
    other.execute("ROLLBACK")
    other.close()
    await store.update(mine, state=State.QUEUED)
    assert mine.state is State.QUEUED


async def test_a_full_disk_is_told_loses_nothing_and_is_forgotten_when_there_is_room(
    store: Store, path: Path
) -> None:
    mine = row()
    await store.add(mine)
    async with store.engine.begin() as connection:
        pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
        await connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    large = row("b" * 40, job_name="hpcb-large", message="x" * 99_999)
    with pytest.raises(StoreError, match="database or disk is full") as caught:
        await store.add(large)
    assert SECRET not in str(caught.value)
    assert (await store.get(mine.id)) is not None
    before = dump(path)
    with pytest.raises(StoreError, match="full"):
        await store.update(mine, message="x" * 99_999)
    assert mine.message == ""
    assert dump(path) == before
    async with store.engine.begin() as connection:
        await connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    assert await store.update(mine, message="x" * 99_999)


async def test_a_cancelled_write_holds_nobody_up(store: Store) -> None:
    tasks = [
        asyncio.create_task(store.add(row(f"{number:040}", job_name=f"hpcb-{number:024}")))
        for number in range(20)
    ]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(60):
        await store.add(row())
    ids = {each.id for each in await store.unfinished()}
    assert {f"{number:040}" for number in range(1, 20, 2)} < ids


async def test_an_older_database_keeps_its_local_ends_and_its_one_row_a_job(
    url: str, path: Path
) -> None:
    """That of the version with one address for each session."""
    engine = database.make_engine(url)

    def older(connection: Any) -> None:
        config = alembic.config.Config()
        migrations = Path(database.__file__).parent / "migrations"
        config.set_main_option("script_location", str(migrations))
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0003")

    async with engine.begin() as connection:
        await connection.run_sync(older)
        await connection.exec_driver_sql(
            "INSERT INTO sessions (id, application, cluster, parameters, state, message, job_name,"
            " job_ended, directory, address, log_tail) VALUES"
            " ('a', 'cone', 'here', '{}', 'ready', '', 'hpcb-a', 0, '', '127.0.0.1:4000', '')"
        )
    await engine.dispose()
    store = await Store.open(url, "this replica")
    assert await store.endpoints.here() == {"a": "127.0.0.1:4000"}
    await store.endpoints.put("a", "127.0.0.1:4001")
    assert await store.endpoints.here() == {"a": "127.0.0.1:4001"}
    with pytest.raises(StoreError, match="UNIQUE"):
        await store.add(row("b", job_name="hpcb-a"))
    await store.close()


@pytest.mark.parametrize("steps", range(40))
async def test_a_call_that_is_cancelled_has_ended_when_its_caller_has(
    store: Store, caplog: pytest.LogCaptureFixture, steps: int
) -> None:
    """In whatever moment: its transaction is over, and nothing is thrown away."""
    task = asyncio.create_task(store.add(row()))
    for _ in range(steps):
        await asyncio.sleep(0.0002 * (steps % 2))  # some in the middle of what the driver does
    task.cancel()
    await asyncio.wait({task})
    pool: Any = store.engine.pool
    assert pool.checkedout() == 0
    if await store.get(row().id) is None:
        await store.add(row())  # nobody holds the file
    assert [each.getMessage() for each in caplog.records if each.levelno > logging.INFO] == []


@pytest.mark.parametrize("steps", range(0, 40, 3))
def test_a_service_that_ends_in_the_middle_of_a_call_leaves_no_traceback(
    url: str, caplog: pytest.LogCaptureFixture, steps: int
) -> None:
    async def serve() -> None:
        store = await Store.open(url)
        request = asyncio.create_task(store.add(row()))
        for _ in range(steps):
            await asyncio.sleep(0.0002 * (steps % 2))
        request.cancel()  # and nobody waits for it, as when a web server stops
        await store.close()

    asyncio.run(serve())
    assert [each.getMessage() for each in caplog.records if each.levelno > logging.INFO] == []


async def test_a_fault_that_is_not_the_databases_is_told_as_what_it_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        async with store.writing() as session:
            monkeypatch.setattr(session, "commit", broken)

    async def gives_up() -> None:
        async with store.writing() as session:
            session.add(row())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await gives_up()
    assert await store.get(row().id) is None
    pool: Any = store.engine.pool
    assert pool.checkedout() == 0


async def test_who_is_cancelled_twice_still_waits_for_the_end_of_the_transaction() -> None:
    going_on, rolled_back = asyncio.Event(), asyncio.Event()

    async def roll_back() -> None:
        await going_on.wait()
        rolled_back.set()

    task = asyncio.create_task(whole(roll_back()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    assert not task.done()
    going_on.set()
    async with asyncio.timeout(60):
        await asyncio.wait({task})
    assert task.cancelled()
    assert rolled_back.is_set()


async def test_who_is_cancelled_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "LIMIT", 0.01)
    stuck = asyncio.Event()
    task = asyncio.create_task(whole(stuck.wait()))
    await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(60):
        await asyncio.wait({task})
    stuck.set()


async def test_a_store_is_closed_at_once_when_nothing_is_under_way(store: Store) -> None:
    await store.add(row())
    async with asyncio.timeout(transactions.LIMIT / 2):
        await store.close()
