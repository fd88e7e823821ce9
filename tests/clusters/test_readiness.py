"""The ready line in the bytes of a log, and many logs followed at once."""

import asyncio
import logging
import os
import pwd
import random
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hpcbridge.clusters import readiness
from hpcbridge.clusters.readiness import Follower, Following, ReadyLine, parse_status, printable
from hpcbridge.clusters.remains import Remains
from hpcbridge.config.clusters import SSHSettings
from hpcbridge.errors import ClusterUnreachable
from hpcbridge.transports.base import Slice, Transport
from hpcbridge.transports.connection import SSHHost
from hpcbridge.transports.local import LocalTransport
from hpcbridge.transports.ssh import SSHTransport
from tests.sshpeer import SSHPeer
from tests.waiting import until

LINE = "Starting factory"


def nothing() -> None:
    """No one has to be told."""


# -- the line


@pytest.mark.parametrize(
    "stream", [b"x App running at:", b"xStarting factory", b"AppApp Starting factory"]
)
def test_the_first_of_several_lines_is_found_over_every_split(stream: bytes) -> None:
    for cut in range(len(stream)):
        line = ReadyLine(LINE, "App running at:", "No")
        assert [line.feed(stream[:cut]), line.feed(stream[cut:])] == [False, True]
        assert not ReadyLine(LINE, "App running at:", "No").feed(stream[:-1])


def test_the_line_is_found_over_every_split() -> None:
    stream = b"noise Start\nwslink: Starting factory"
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            line = ReadyLine(LINE)
            parts = [stream[:first], stream[first:second], stream[second:]]
            found = [line.feed(part) for part in parts]
            assert any(found)
            assert not any(ReadyLine(LINE).feed(part[:-1]) for part in [stream])


def test_the_line_is_found_byte_by_byte_and_not_before_its_last() -> None:
    line = ReadyLine(LINE)
    stream = b"Starting Starting factorStarting factory"
    assert [line.feed(bytes([byte])) for byte in stream] == [False] * (len(stream) - 1) + [True]


@pytest.mark.parametrize(
    "noise",
    [b"", b"\r\n" * 50, b"\x00" * 1000, bytes(range(256)) * 20, b"\x1b[31m", b"Starting fact\n"],
)
def test_noise_before_the_line_is_no_trouble(noise: bytes) -> None:
    line = ReadyLine(LINE)
    assert not line.feed(noise)
    assert line.feed(LINE.encode())


def test_a_line_that_is_not_quite_it_is_not_it() -> None:
    line = ReadyLine(LINE)
    for part in (
        b"Starting Factory",
        b"Starting  factory",
        b"starting factory",
        b"Starting\nfactory",
    ):
        assert not line.feed(part)


@pytest.mark.parametrize("text", ["x", "öä", "Bereit: 100 %", "a" * 5000])
def test_any_text_may_be_the_line(text: str) -> None:
    data = text.encode()
    line = ReadyLine(text)
    assert not line.feed(b"-" + data[:-1])
    assert line.feed(data[-1:] + b"-")


def test_a_random_stream_is_cut_anywhere() -> None:
    chance = random.Random(1)
    for _ in range(300):
        stream = bytes(chance.choices(b"Starting fcoy\n", k=200))
        stream += LINE.encode() + bytes(chance.choices(b"abc", k=20))
        line, position, seen = ReadyLine(LINE), 0, False
        while position < len(stream):
            size = chance.randint(1, 30)
            seen = line.feed(stream[position : position + size]) or seen
            position += size
        assert seen


# -- the status file


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("port=8080\n", {"port": 8080}),
        ("port=1024\nexit=0\n", {"port": 1024, "exit": 0}),
        ("port=65535", {"port": 65535}),
        ("port=0\n", {}),
        ("port=22\n", {}),
        ("port=1023\n", {}),
        ("port=65536\n", {}),
        ("port=99999999999999999999\n", {}),
        ("port=-8080\n", {}),
        ("port=+8080\n", {}),
        ("port=8080.0\n", {}),
        ("port=0x1f90\n", {}),
        ("port= 8080\n", {}),
        ("port=8_080\n", {}),
        ("port=\n", {}),
        ("port\n", {}),
        ("port=8080;rm\n", {}),
        ("port=evil\nport=9000\n", {"port": 9000}),
        ("port=٨٠٨٠\n", {}),
        ("host=evil\nport=8080\n", {"port": 8080}),
        ("exit=139\n", {"exit": 139}),
        ("exit=256\n", {}),
        ("exit=-1\n", {}),
        ("\x00\xff\n", {}),
        ("", {}),
    ],
)
def test_only_sensible_numbers_are_taken_from_a_job(text: str, found: dict[str, int]) -> None:
    assert parse_status(text.encode()) == found


def test_a_huge_status_file_is_not_read_to_its_end() -> None:
    assert parse_status(b"x" * 10_000_000 + b"\nport=8080\n") == {}


@pytest.mark.parametrize("known", [None, 8080])
def test_a_port_is_taken_once_and_another_one_is_of_another_run(known: int | None) -> None:
    moved: list[int] = []
    following = Following("/s", [LINE], lambda: moved.append(1), port=known)
    following.read_status(b"port=8080\n")
    assert (following.port, following.rerun) == (8080, False)
    assert moved == ([] if known else [1])  # only where it is news
    following.read_status(b"log=7\n")
    assert not following.rerun
    following.read_status(b"port=9090\n")
    following.read_status(b"port=9090\nover=1\nexit=1\n")
    assert (following.port, following.rerun) == (8080, True)
    assert (following.over, following.exited.is_set()) == (None, False)
    following.read_status(b"port=8080\n")
    assert following.rerun


# -- what people get to see


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain\n\n", "plain"),
        (b"\x1b[1;31mred\x1b[0m", "red"),
        (b"\x1b[2J\x1b[Hgone\x07", "gone"),
        (b"a\r\nb\rc", "a\nb\nc"),
        (b"tab\there", "tab\there"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        ("grüße 日本".encode(), "grüße 日本"),
        (b"a\x00b\x08c\x7f", "abc"),
        ("a\x9b31mb".encode(), "ab"),
        (b"<script>", "<script>"),
        (b"\x1b", ""),
        (b"\x1b[", ""),
        (b"\x1b]0;root@head\x07ok", "ok"),
        (b"\x1b]8;;http://evil\x1b\\here\x1b]8;;\x1b\\!", "here!"),
        (b"\x1b]52;c;ZXZpbA==\nnext", "next"),
        (b"\x1bPq#0\x1b\\\x1b_G\x1b\\\x1bcx\x1b(By", "xy"),
        ("\x9d0;title\x9c!\x90q\x9c.\x1b[31".encode(), "!."),
        ("safe \u202egnp.exe\u202c \u2066x\u2069\u200e\u061c".encode(), "safe gnp.exe x"),
        ("a\u2028b\u2029c\x85d\x0be\x0cf".encode(), "a\nb\nc\nd\ne\nf"),
        ("ze\u200bro\ufeff\u2060\U000e0041\xad".encode(), "zero"),
        ("\u0915\u094d\u200d\u0937 \u202b\u05d0".encode(), "\u0915\u094d\u200d\u0937 \u05d0"),
    ],
)
def test_terminal_and_control_codes_are_removed(data: bytes, text: str) -> None:
    assert printable(data) == text


def test_whoever_waits_is_told_once_of_each_thing_that_a_job_tells() -> None:
    moved: list[int] = []
    following = Following("/d", [LINE], lambda: moved.append(1))
    told = b""
    for number, word in enumerate(
        (b"port=8080\n", b"listening=0\n", b"listening=1\n", b"exit=3\n")
    ):
        told += word
        for _ in range(3):
            following.read_status(told)
        assert (len(moved), following.exited.is_set()) == (number + 1, number == 3)
    for _ in range(3):
        following.read_output(LINE.encode())
    assert len(moved) == 5
    assert not following.serving, "what was told before the line does not count"
    for _ in range(3):
        following.read_status(told)
    assert (len(moved), following.serving) == (6, True)


@pytest.mark.parametrize(
    ("told", "serving"),
    [
        ("port=8080\n", True),
        ("port=8080\nlistening=0\n", False),
        ("port=8080\nlistening=0\nlistening=1\n", True),
        ("port=8080\nlistening=1\ntaken=1\n", False),
        ("log=7\n", False),
    ],
)
def test_an_application_serves_once_it_is_ready_and_has_its_port_for_itself(
    told: str, *, serving: bool
) -> None:
    following = Following("/d", [LINE], nothing)
    following.read_output(LINE.encode())
    assert (following.serving, following.hasty) == (False, True)
    following.read_status(told.encode())
    assert (following.serving, following.hasty) == (serving, not serving)
    following.read_status(f"{told}over=0\n".encode())
    assert (following.over, following.hasty) == (0, False)
    assert not Following("/d", [], nothing, quiet=True).hasty


def test_of_a_run_before_nothing_counts_that_its_job_has_told() -> None:
    following = Following("/d", [], nothing, 8080)
    following.read_status(b"port=8080\nlog=3\nlistening=1\nexit=1\n")
    assert (following.waits_for_run, following.port, following.offset) == (True, None, 0)
    assert not following.exited.is_set()
    following.read_status(b"log=300\nport=9090\n")
    assert (following.waits_for_run, following.port, following.offset) == (False, 9090, 300)
    following.read_status(b"log=300\nport=7070\n")
    assert following.port == 9090
    unknown = Following("/d", [], nothing, 0)
    unknown.read_status(b"exit=1\n")
    assert unknown.waits_for_run
    unknown.read_status(b"port=8080\n")
    assert (unknown.waits_for_run, unknown.port, unknown.offset) == (False, 8080, 0)


def test_a_text_of_one_letter_needs_nothing_of_what_was_read_before() -> None:
    line = ReadyLine("x")
    assert [line.feed(part) for part in (b"x", b"y", b"", b"yx")] == [True, False, False, True]


def test_only_the_end_of_a_log_is_kept() -> None:
    following = Following("/s", [LINE], nothing)
    for _ in range(100):
        following.read_output(b"x" * 1000)
    following.read_output(b"end")
    assert following.offset == 100_003
    assert len(following.tail) == readiness.TAIL
    assert following.tail.endswith(b"xend")


# -- following


class Sessions:
    """Session directories below one root, followed by one follower."""

    def __init__(self, root: Path, transport: Transport) -> None:
        self.root = root
        self.woken = 0
        self.follower = Follower(transport, self._wake)

    def _wake(self) -> None:
        self.woken += 1

    def directory(self, name: str) -> Path:
        path = self.root / name
        path.mkdir()
        return path

    def follow(self, path: Path, moved: Callable[[], None] = nothing) -> Following:
        return self.follower.follow(str(path), [LINE], moved)


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Sessions]:
    sessions = Sessions(tmp_path, LocalTransport())
    yield sessions
    await sessions.follower.close()


@pytest.fixture
async def over_ssh(tmp_path: Path, peer: SSHPeer) -> AsyncIterator[Sessions]:
    host = SSHHost(peer.settings())
    transport = SSHTransport(host)
    sessions = Sessions(tmp_path, transport)
    yield sessions
    await sessions.follower.close()
    await transport.close()
    await host.close()


SSHD = Path("/usr/sbin/sshd")


@pytest.fixture
async def over_sshd(tmp_path: Path) -> AsyncIterator[Sessions]:
    """A real sshd of this account's own."""
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host_key", "client_key"):
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(key, check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = tmp_path / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host_key\nUsePAM no\n"
        f"AuthorizedKeysFile {tmp_path}/client_key.pub\nStrictModes no\nPidFile none\n"
        f"PermitRootLogin yes\nPermitUserEnvironment no\nSubsystem sftp internal-sftp\n"
    )
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {(tmp_path / 'host_key.pub').read_text()}")
    log = tmp_path / "sshd.log"
    log.touch()
    sshd = await asyncio.create_subprocess_exec(SSHD, "-D", "-f", config, "-E", log)
    host = SSHHost(
        SSHSettings(
            host="127.0.0.1",
            port=port,
            user=pwd.getpwuid(os.geteuid()).pw_name,
            known_hosts=known,
            identity_files=[tmp_path / "client_key"],
        )
    )
    transport = SSHTransport(host)
    sessions = Sessions(tmp_path, transport)
    try:
        await until(lambda: "listening" in log.read_text())
        yield sessions
    finally:
        await sessions.follower.close()
        await transport.close()
        await host.close()
        sshd.terminate()
        await sshd.wait()


@pytest.fixture(params=["local", "over_ssh"])
def sessions(request: pytest.FixtureRequest) -> Sessions:
    found: Sessions = request.getfixturevalue(request.param)
    return found


async def test_either_of_two_lines_makes_a_session_ready(sessions: Sessions) -> None:
    for name, said in (("wslink", b"wslink: Starting factory"), ("trame", b"App running at:\n")):
        path = sessions.directory(name)
        (path / "output.log").write_bytes(b"some noise\n" + said)
        both = [LINE, "App running at:"]
        following = sessions.follower.follow(str(path), both, nothing)
        await asyncio.wait_for(following.ready.wait(), 60)


async def test_a_log_that_appears_late_is_followed_to_its_ready_line(sessions: Sessions) -> None:
    path = sessions.directory("s")
    moved = asyncio.Event()
    following = sessions.follow(path, moved.set)
    await asyncio.sleep(0.1)
    log = path / "output.log"
    log.write_bytes(b"wslink: Star")
    await until(lambda: following.offset == 12)
    assert not following.ready.is_set()
    with log.open("ab") as file:
        file.write(b"ting factory")
    async with asyncio.timeout(60):
        await moved.wait()
    assert following.ready.is_set()
    assert following.tail == b"wslink: Starting factory"


async def test_a_port_and_an_exit_status_are_hints_to_ask_the_scheduler(sessions: Sessions) -> None:
    path = sessions.directory("s")
    following = sessions.follow(path)
    (path / "status").write_text("port=8080\n")
    (path / "output.log").touch()
    await until(lambda: following.port == 8080)
    assert sessions.woken == 1
    (path / "status").write_text("port=8080\nexit=3\n")
    await until(following.exited.is_set)
    await until(lambda: sessions.woken == 2)


async def test_the_port_is_known_soon_after_the_first_output(sessions: Sessions) -> None:
    path = sessions.directory("s")
    (path / "status").write_text("port=8080\n")
    following = sessions.follow(path)
    (path / "output.log").write_text(LINE)
    await until(following.ready.is_set)
    await until(lambda: following.port is not None)


async def test_a_link_or_a_foreign_file_in_the_logs_place_is_not_followed(
    sessions: Sessions, tmp_path: Path
) -> None:
    path = sessions.directory("s")
    (tmp_path / "elsewhere").write_text(LINE)
    (path / "output.log").symlink_to(tmp_path / "elsewhere")
    following = sessions.follow(path)
    good = sessions.directory("good")
    (good / "output.log").write_text(LINE)
    other = sessions.follow(good)
    await until(other.ready.is_set)
    assert not following.ready.is_set()
    assert following.offset == 0


async def test_the_end_of_a_log_is_told_for_people(sessions: Sessions) -> None:
    path = sessions.directory("s")
    tail = sessions.follower.tail
    assert await tail(str(path)) == ""
    (path / "scheduler.out").write_bytes(b"job.sh: not found\n")
    assert await tail(str(path)) == "job.sh: not found"
    (path / "output.log").write_bytes(b"x" * 10_000 + b"\n\x1b[1mlast\x1b[0m\n")
    assert (await tail(str(path))).endswith("\nlast")
    assert len(await tail(str(path))) <= readiness.TAIL


async def test_asking_for_the_end_of_a_log_disturbs_nobody_who_follows_it(
    sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "hpcbridge")
    path = sessions.directory("s")
    (path / "output.log").write_text("loading\n")
    following = sessions.follow(path)
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        assert await sessions.follower.tail(str(path)) == "loading"
    with (path / "output.log").open("a") as file:
        file.write(LINE)
    await until(following.ready.is_set)
    assert caplog.messages == []


def nothing_asked(wanted: Sequence[Slice]) -> None:
    pass


class Counted(LocalTransport):
    """Counts what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.slices: list[Slice] = []
        self.bytes = 0
        self.failing: Exception | None = None
        self.asked: Callable[[Sequence[Slice]], None] = nothing_asked

    async def read(self, wanted: Sequence[Slice]) -> list[bytes | None]:
        self.asked(wanted)
        if self.failing is not None:
            raise self.failing
        self.slices += wanted
        found = await super().read(wanted)
        self.bytes += sum(len(each or b"") for each in found)
        return found


@pytest.fixture
async def counted(tmp_path: Path) -> AsyncIterator[tuple[Sessions, Counted]]:
    transport = Counted()
    sessions = Sessions(tmp_path, transport)
    yield sessions, transport
    await sessions.follower.close()


async def test_only_new_bytes_are_read(counted: tuple[Sessions, Counted]) -> None:
    sessions, transport = counted
    path = sessions.directory("s")
    following = sessions.follow(path)
    with (path / "output.log").open("wb", buffering=0) as log:
        for _ in range(20):
            log.write(b"x" * 5000)
            await asyncio.sleep(0.01)
        log.write(LINE.encode())
        await until(following.ready.is_set)
    assert transport.bytes == 100_000 + len(LINE)


async def test_a_log_of_a_gigabyte_is_read_in_pieces(
    counted: tuple[Sessions, Counted], monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions, transport = counted
    monkeypatch.setattr(readiness, "CHUNK", 2**26)
    path = sessions.directory("s")
    with (path / "output.log").open("wb") as log:
        log.truncate(2**30)  # a hole: it takes no space
        log.seek(2**30)
        log.write(LINE.encode())
    following = sessions.follow(path)
    quick = sessions.directory("quick")
    other = sessions.follow(quick)
    (quick / "output.log").write_text(LINE)
    await until(other.ready.is_set)
    await until(following.ready.is_set)
    assert following.offset == 2**30 + len(LINE)
    assert len(following.tail) == readiness.TAIL
    assert max(each.limit for each in transport.slices) == 2**26


async def test_jobs_that_are_not_known_to_run_cost_the_same_however_many_they_are(
    counted: tuple[Sessions, Counted],
) -> None:
    sessions, transport = counted
    rounds: list[int] = []
    transport.asked = lambda wanted: rounds.append(len(wanted))
    for number in range(500):
        sessions.follow(sessions.root / f"waiting{number}")
    path = sessions.directory("runs")
    following = sessions.follow(path)
    (path / "output.log").touch()
    sessions.follower.runs(following)
    await until(lambda: len(rounds) > 100)
    few = readiness.WAITING_RATE * readiness.WAITING_INTERVAL
    assert max(rounds) <= few + 1
    looks = [each.path for each in transport.slices].count(f"{path}/output.log")
    assert looks > len(rounds) / 4  # the running one, in each round over logs
    (path / "output.log").write_text(LINE)
    await until(following.ready.is_set)


async def test_many_ready_sessions_are_looked_at_in_turn(
    counted: tuple[Sessions, Counted],
) -> None:
    sessions, transport = counted
    for number in range(readiness.END_RATE + 50):
        sessions.follower.follow_end(f"{sessions.root}/{number}", nothing)
    rounds: list[int] = []
    transport.asked = lambda wanted: rounds.append(len(wanted))
    await until(lambda: len(transport.slices) > readiness.END_RATE)
    assert max(rounds) == readiness.END_RATE * readiness.END_INTERVAL


async def test_nothing_is_read_when_nobody_waits(counted: tuple[Sessions, Counted]) -> None:
    sessions, transport = counted
    path = sessions.directory("s")
    following = sessions.follow(path)
    await until(lambda: transport.slices)
    sessions.follower.drop(following)
    await asyncio.sleep(0.1)
    before = len(transport.slices)
    await asyncio.sleep(0.1)
    assert len(transport.slices) == before
    again = sessions.follow(path)
    (path / "output.log").write_text(LINE)
    await until(again.ready.is_set)


@pytest.mark.parametrize("error", [ClusterUnreachable("down"), RuntimeError("a bug")])
async def test_following_goes_on_after_trouble(
    counted: tuple[Sessions, Counted],
    error: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sessions, transport = counted
    path = sessions.directory("s")
    following = sessions.follow(path)
    transport.failing = error
    await until(lambda: "cannot be read" in caplog.text)
    transport.failing = None
    (path / "output.log").write_text(LINE)
    await until(following.ready.is_set)


@pytest.mark.parametrize(
    "sessions",
    [
        "local",
        pytest.param("over_sshd", marks=pytest.mark.skipif(not SSHD.exists(), reason="needs sshd")),
    ],
    indirect=True,
)
async def test_fifty_ready_lines_are_each_seen(sessions: Sessions) -> None:
    paths = [sessions.directory(f"s{number}") for number in range(50)]
    for path in paths:
        (path / "output.log").write_bytes(b"loading\n")
        (path / "status").write_text("port=8080\n")
    followings = [sessions.follow(path) for path in paths]
    await until(lambda: all(each.offset for each in followings))
    for number in random.Random(1).sample(range(50), 50):
        assert not followings[number].ready.is_set()
        with (paths[number] / "output.log").open("ab", buffering=0) as log:
            log.write(b"wslink: Starting factory")
        await until(followings[number].ready.is_set)


# -- one round of it


def by_hand(sessions: Sessions, *followings: Following) -> Follower:
    """The follower, whose rounds the test makes; the jobs run, or their sessions are ready."""
    follower = sessions.follower
    follower._followed = set(followings)
    follower._starting = {each for each in followings if not each.quiet}
    for each in followings:
        if each.quiet:
            follower._ready.add(each)
    return follower


async def read_in_a_round(sessions: Sessions, transport: Counted) -> tuple[bool, list[str]]:
    """Whether there is more to read, and the files that were looked at."""
    transport.slices.clear()
    behind = await sessions.follower._read_logs()
    return behind, sorted(each.path.removeprefix(f"{sessions.root}/") for each in transport.slices)


async def test_of_a_job_that_has_begun_its_status_is_read_along_with_its_log(
    counted: tuple[Sessions, Counted], monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions, transport = counted
    monkeypatch.setattr(readiness, "CHUNK", 10)
    path = sessions.directory("s")
    following = Following(str(path), [LINE], nothing)
    by_hand(sessions, following, Following(str(path), [LINE], nothing, 8080))
    assert await read_in_a_round(sessions, transport) == (False, ["s/output.log"])
    (path / "output.log").touch()
    assert await read_in_a_round(sessions, transport) == (False, ["s/output.log", "s/status"])
    (path / "output.log").write_text("0123456789")
    assert await read_in_a_round(sessions, transport) == (True, ["s/output.log", "s/status"])
    (path / "status").write_text("port=8080\n")
    assert sessions.woken == 0
    assert await read_in_a_round(sessions, transport) == (False, ["s/output.log", "s/status"])
    assert (following.port, sessions.woken) == (8080, 1)
    assert await read_in_a_round(sessions, transport) == (False, ["s/output.log"])
    (path / "output.log").write_text(f"0123456789{LINE}")
    assert await read_in_a_round(sessions, transport) == (True, ["s/output.log"])
    assert await read_in_a_round(sessions, transport) == (False, ["s/output.log", "s/status"])
    assert (following.serving, sessions.woken) == (True, 1)
    assert await read_in_a_round(sessions, transport) == (False, [])


async def test_status_files_are_looked_at_often_where_something_is_waited_for(
    counted: tuple[Sessions, Counted], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    begun, printed = (Following(name, [LINE], nothing) for name in ("begun", "printed"))
    printed.read_output(LINE.encode())
    follower = by_hand(counted[0], begun, printed, Following("ready", [], nothing, quiet=True))

    def due(at: float) -> set[str]:
        clock[0] = 100 + at
        return {each.directory for each in follower._due()}

    assert due(0) == {"begun", "printed", "ready"}
    assert due(0.2) == {"printed"}
    assert due(0.25) == {"begun", "printed"}
    assert due(0.3) == {"printed"}
    assert due(0.9) == {"begun", "printed"}
    assert due(1) == {"printed", "ready"}


async def test_of_a_ready_application_nothing_is_read_but_whether_it_is_over(
    counted: tuple[Sessions, Counted],
) -> None:
    sessions, transport = counted
    path, moved = sessions.directory("s"), asyncio.Event()
    (path / "output.log").write_text(LINE)
    (path / "status").write_text("port=8080\nlistening=1\nover=3\n")
    following = sessions.follower.follow_end(str(path), moved.set)
    assert (following.quiet, following.ready.is_set()) == (True, True)
    await until(moved.is_set)
    assert following.over == 3
    assert {each.path for each in transport.slices} == {f"{path}/status"}


async def test_what_a_job_left_is_told_as_far_as_it_can_be_read(
    counted: tuple[Sessions, Counted],
) -> None:
    sessions, transport = counted
    path = sessions.directory("s")

    async def left() -> Remains:
        return await sessions.follower.remains(str(path))

    assert await left() == Remains()
    (path / "status").write_text("listening=0\n")
    assert await left() == Remains(began=True)
    (path / "scheduler.out").write_text("slurmstepd: error\n")
    said = "slurmstepd: error"
    assert await left() == Remains(said, said, began=True)
    (path / "status").write_text("port=8080\ntaken=1\nover=3\n")
    (path / "output.log").write_text("no licence\n")
    known: dict[str, Any] = {"began": True, "told": True, "taken": True}
    assert await left() == Remains("no licence", said, 3, **known)
    (path / "status").write_text("port=8080\nover=3\nexit=4\n")
    assert await left() == Remains("no licence", said, 4, began=True, told=True)
    (path / "status").unlink()
    assert await left() == Remains("no licence", said, began=True)
    transport.failing = ClusterUnreachable("down")
    assert await left() == Remains()


async def test_why_output_cannot_be_read_is_known_until_it_can(
    counted: tuple[Sessions, Counted],
) -> None:
    sessions, transport = counted
    follower = sessions.follower
    transport.failing = ClusterUnreachable("The login host does not answer.")
    following = sessions.follow(sessions.directory("s"))
    await until(lambda: follower.trouble == "The login host does not answer.")
    transport.failing = RuntimeError("a bug")
    await until(lambda: follower.trouble == "see the service's log")
    transport.failing = None
    await until(lambda: follower.trouble == "")
    follower.drop(following)
