"""The text map on real file systems, full and read-only ones included."""

import asyncio
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcbridge.errors import RouteError
from hpcbridge.frontends import textmap
from hpcbridge.frontends.base import Route
from hpcbridge.frontends.textmap import TextMap, parse_map, render_map
from hpcbridge.network.addresses import TCPAddress, UnixAddress


def routes(count: int, port: int = 5000) -> dict[str, Route]:
    made = [Route(f"session-{n:020}", TCPAddress("127.0.0.1", port)) for n in range(count)]
    return {route.session_id: route for route in made}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "proxy.txt"


async def test_the_map_has_a_line_for_each_tcp_route_and_reads_back(path: Path) -> None:
    known = routes(10_000)
    known["unix-" + "u" * 20] = Route("unix-" + "u" * 20, UnixAddress(path))
    await TextMap(path).publish(known)
    assert path.read_text().splitlines()[0] == "session-00000000000000000000 127.0.0.1:5000"
    del known["unix-" + "u" * 20]
    assert parse_map(path.read_text()) == {key: known[key].address for key in known}


async def test_what_a_crash_left_is_replaced(path: Path) -> None:
    path.write_text("old 127.0.0.1:1\nhalf a li")
    path.with_name(".proxy.txt.new").write_text("half a map")
    await TextMap(path).start({})
    assert path.read_text() == ""
    assert [entry.name for entry in path.parent.iterdir()] == ["proxy.txt"]


async def test_closing_leaves_no_route_behind(path: Path) -> None:
    text_map = TextMap(path)
    await text_map.publish(routes(3))
    await text_map.close()
    assert path.read_text() == ""


async def test_only_the_front_ends_group_may_read_it(path: Path) -> None:
    group = os.getgrouplist("www-data", 33)[0] if os.getuid() == 0 else os.getgid()
    before = os.umask(0)
    try:
        await TextMap(path, group=group).publish(routes(1))
    finally:
        os.umask(before)
    status = path.stat()
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert status.st_gid == group


def test_a_group_that_does_not_exist_says_so(path: Path) -> None:
    with pytest.raises(RouteError, match="no group 'no-such-group'"):
        TextMap(path, group="no-such-group")


async def test_readers_never_see_a_part_of_a_map(path: Path) -> None:
    text_map = TextMap(path)
    await text_map.start(routes(500, 1000))
    stop = threading.Event()
    seen: set[frozenset[TCPAddress]] = set()
    wrong: list[str] = []

    def read() -> None:
        while not stop.is_set():
            found = parse_map(path.read_text())
            seen.add(frozenset(found.values()))
            if len(found) != 500 or len(set(found.values())) != 1:
                wrong.append(f"{len(found)} routes")

    readers = [asyncio.create_task(asyncio.to_thread(read)) for _ in range(3)]
    for port in range(1001, 1101):
        await text_map.publish(routes(500, port))
    stop.set()
    await asyncio.gather(*readers)
    assert not wrong
    assert len(seen) > 1


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file may grow beyond 4 KiB: to the writer that is a disk without room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


async def test_a_full_disk_is_a_route_error_and_the_old_map_stays(
    path: Path, full_disk: None
) -> None:
    text_map = TextMap(path)
    await text_map.publish(routes(3))
    with pytest.raises(RouteError, match="room on the disk"):
        await text_map.publish(routes(1000))
    assert len(parse_map(path.read_text())) == 3
    assert [entry.name for entry in path.parent.iterdir()] == ["proxy.txt"]
    await text_map.publish(routes(4))


async def test_a_map_that_reads_back_differently_is_not_used(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await TextMap(path).publish(routes(3))
    for damage in ("", render_map(routes(1)), render_map(routes(2))[:-1], "\0" * 80):
        monkeypatch.setattr(textmap, "render_map", lambda known, text=damage: text)
        with pytest.raises(RouteError):
            await TextMap(path).publish(routes(2))
    assert len(parse_map(path.read_text())) == 3
    assert [entry.name for entry in path.parent.iterdir()] == ["proxy.txt"]


async def test_a_directory_that_is_missing_is_a_route_error(tmp_path: Path) -> None:
    with pytest.raises(RouteError, match=r"none/map.*No such file or directory.*must"):
        await TextMap(tmp_path / "none" / "map").start({})


AS_NOBODY = """
import asyncio, os, sys
from pathlib import Path
from hpcbridge.errors import RouteError
from hpcbridge.frontends.textmap import TextMap

path, warm_up, group = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
asyncio.run(TextMap(warm_up).start({}))  # imports all there is; the next account may not read it
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    asyncio.run(TextMap(path, group=group).start({}))
except RouteError as error:
    print(error)
"""


def as_nobody(path: Path, warm_up: Path, group: int) -> str:
    """What an account without rights is told (root may write everywhere)."""
    command = [sys.executable, "-c", AS_NOBODY, str(path), str(warm_up), str(group)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """Unlike tmp_path, one that other accounts can reach."""
    with tempfile.TemporaryDirectory(prefix="hpcb-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_directory_that_is_not_writable_is_a_route_error(
    open_directory: Path, tmp_path: Path
) -> None:
    path = open_directory / "map"
    path.write_text("old")
    open_directory.chmod(0o555)
    said = as_nobody(path, tmp_path / "warm", os.getgid())
    assert "Permission denied" in said
    assert "must be able to create files" in said
    assert path.read_text() == "old"
    open_directory.chmod(0o755)


def test_a_group_that_the_service_is_not_in_is_a_route_error(
    open_directory: Path, tmp_path: Path
) -> None:
    open_directory.chmod(0o777)
    said = as_nobody(open_directory / "map", tmp_path / "warm", 0)
    assert "Operation not permitted" in said
    assert "member of the front end's group" in said
    assert not list(open_directory.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "x" * 30,
        "x" * 30 + " 127.0.0.1:80",
        "x" * 30 + "  127.0.0.1:80\n",
        "x" * 30 + " 10.0.0.1:80\n",
        "x" * 30 + " 127.0.0.1:eighty\n",
        "x" * 30 + " 127.0.0.1:٨٠\n",
        "x" * 30 + " 127.0.0.1:0\n",
        "x" * 30 + " 127.0.0.1:80 more\n",
        "x" * 30 + " 127.0.0.1:80\r\n",
        "short 127.0.0.1:80\n",
        "\n",
        ("x" * 30 + " 127.0.0.1:80\n") * 2,
    ],
)
def test_a_map_with_anything_else_in_it_is_refused(text: str) -> None:
    with pytest.raises(RouteError):
        parse_map(text)


def test_an_empty_map_is_a_map() -> None:
    assert parse_map(render_map({})) == {}
