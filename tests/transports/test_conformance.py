"""What a transport promises, over each of them."""

import asyncio
import os
import stat
from pathlib import Path

import pytest

from hpcbridge.errors import ClusterError, ClusterUnreachable, OutcomeUnknown, UnexpectedReply
from hpcbridge.transports import local as local_module
from hpcbridge.transports import ssh as connection_module
from hpcbridge.transports.base import Slice, StagedFile, Transport


async def read_one(transport: Transport, path: Path, offset: int = 0, limit: int = 2**20):
    return (await transport.read([Slice(str(path), offset, limit)]))[0]


async def test_a_command_answers_with_its_streams_and_status(transport: Transport) -> None:
    done = await transport.run(["sh", "-c", "cat; echo err >&2; exit 3"], stdin=b"in", timeout=60)
    assert (done.exit_status, done.stdout, done.stderr) == (3, b"in", b"err\n")
    assert done.argv[0] == "sh"


async def test_arguments_are_not_interpreted(transport: Transport) -> None:
    words = ["$HOME", "`id`", "a b", "'", '"', "*", "\n", "", "-n", ";", "\\", "!x", "é", "\x1f"]
    done = await transport.run(["printf", "%s|", *words], timeout=60)
    assert done.out.split("|")[:-1] == words


async def test_bytes_that_are_not_utf8_are_no_trouble(transport: Transport) -> None:
    done = await transport.run(["printf", r"\377\376x"], timeout=60)
    assert done.stdout == b"\xff\xfex"
    assert done.out == "\ufffd\ufffdx"


async def test_a_command_that_does_not_answer_has_an_unknown_outcome(transport: Transport) -> None:
    with pytest.raises(OutcomeUnknown, match=r"sleep.*did not answer within 0.3 s"):
        await transport.run(["sleep", "600"], timeout=0.3)


async def test_a_command_that_does_not_read_its_input_is_no_trouble(transport: Transport) -> None:
    done = await transport.run(["true"], stdin=b"x" * 1_000_000, timeout=60)
    assert done.exit_status == 0


async def test_too_much_output_is_an_unexpected_reply(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_module, "OUTPUT_LIMIT", 1000)
    monkeypatch.setattr(connection_module, "OUTPUT_LIMIT", 1000)
    done = await transport.run(["head", "-c", "1000", "/dev/zero"], timeout=60)
    assert len(done.stdout) == 1000
    with pytest.raises(UnexpectedReply, match="more than 1000 bytes"):
        await transport.run(["head", "-c", "100000", "/dev/zero"], timeout=60)


async def test_a_missing_command_cannot_be_taken_for_an_answer(transport: Transport) -> None:
    try:
        done = await transport.run(["no-such-command"], timeout=60)
    except ClusterUnreachable:
        return
    assert done.exit_status == 127


async def test_many_commands_run_at_once(transport: Transport) -> None:
    done = await asyncio.gather(
        *(transport.run(["echo", str(number)], timeout=60) for number in range(8))
    )
    assert [each.out.strip() for each in done] == [str(number) for number in range(8)]


async def test_home_is_absolute(transport: Transport) -> None:
    assert Path(await transport.home()).is_dir()
    assert (await transport.home()).startswith("/")


# -- staging


FILES = {
    "job.sh": StagedFile(b"#!/bin/sh\n", mode=0o700),
    "secret": StagedFile(b"s3cret"),
    "empty": StagedFile(b""),
}


async def test_staged_files_are_private_and_so_are_new_directories(
    transport: Transport, tmp_path: Path
) -> None:
    directory = tmp_path / "new root" / "below" / "it's"
    await transport.stage(str(directory), FILES)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert modes == {"job.sh": 0o700, "secret": 0o600, "empty": 0o600}
    assert (directory / "secret").read_bytes() == b"s3cret"
    for path in (directory, directory.parent, directory.parent.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


async def test_a_wide_or_narrow_umask_changes_no_mode(transport: Transport, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        await transport.stage(str(tmp_path / "wide"), FILES)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "wide").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "wide" / "secret").stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["directory", "file", "link"])
async def test_what_is_there_already_is_not_staged_into(
    transport: Transport, tmp_path: Path, kind: str
) -> None:
    place, elsewhere = tmp_path / "there", tmp_path / "elsewhere"
    elsewhere.mkdir()
    if kind == "directory":
        place.mkdir()
    elif kind == "file":
        place.write_text("mine")
    else:
        place.symlink_to(elsewhere)
    with pytest.raises(ClusterError, match="cannot be written"):
        await transport.stage(str(place), FILES)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    ("mode", "owner", "safe"),
    [
        (0o777, 0, False),
        (0o775, 0, False),
        (0o2775, 0, False),
        (0o1777, 12345, False),
        (0o1777, 0, True),
        (0o1775, 0, True),
        (0o755, 12345, False),
        (0o755, 0, True),
    ],
)
async def test_nothing_is_staged_where_others_could_put_theirs_in_its_place(
    transport: Transport, tmp_path: Path, mode: int, owner: int, safe: bool
) -> None:
    """Somebody was first to make the account's directory in a scratch directory of all."""
    scratch = tmp_path / "scra tch"
    root = scratch / "alice" / "hpcbridge"
    root.mkdir(parents=True)
    scratch.chmod(mode)
    os.chown(root.parent, owner, -1)
    if safe:
        await transport.stage(str(root / "s"), FILES)
        assert (root / "s" / "secret").read_bytes() == b"s3cret"
    else:
        with pytest.raises(ClusterError, match=f"others could replace what is in {scratch}"):
            await transport.stage(str(root / "s"), FILES)
        assert list(root.iterdir()) == []


async def test_a_directory_for_all_may_be_the_root_itself(
    transport: Transport, tmp_path: Path
) -> None:
    tmp_path.chmod(0o1777)
    await transport.stage(str(tmp_path / "s"), FILES)
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700


async def test_a_root_that_cannot_be_written_is_told(transport: Transport, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ClusterError, match="session_root") as caught:
        await transport.stage(str(tmp_path / "file" / "s"), FILES)
    assert "s3cret" not in str(caught.value)


# -- reading


async def test_a_slice_is_read_from_its_offset(transport: Transport, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"0123456789")
    assert await read_one(transport, path) == b"0123456789"
    assert await read_one(transport, path, 4, 3) == b"456"
    assert await read_one(transport, path, -4) == b"6789"
    assert await read_one(transport, path, -4, 2) == b"67"
    assert await read_one(transport, path, -400) == b"0123456789"
    assert await read_one(transport, path, 10) == b""
    assert await read_one(transport, path, 4000) == b""


async def test_a_long_slice_is_read_whole(transport: Transport, tmp_path: Path) -> None:
    path = tmp_path / "log"
    content = os.urandom(300_000)
    path.write_bytes(content)
    assert await read_one(transport, path) == content
    assert await read_one(transport, path, 100, 200_000) == content[100:200_100]
    assert await read_one(transport, path, 0, 16384) == content[:16384]


async def test_the_far_end_of_a_huge_file_is_read(transport: Transport, tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.truncate(2**33)
        file.seek(2**33)
        file.write(b"Starting factory")
    assert await read_one(transport, path, 2**33) == b"Starting factory"
    assert await read_one(transport, path, -7, 7) == b"factory"


async def test_what_is_no_plain_file_of_the_owner_is_not_there(
    transport: Transport, tmp_path: Path
) -> None:
    good = tmp_path / "good"
    good.write_bytes(b"x")
    (tmp_path / "link").symlink_to(good)
    (tmp_path / "dir").mkdir()
    os.mkfifo(tmp_path / "fifo")
    wanted = [good, *(tmp_path / name for name in ("link", "dir", "fifo", "missing", "a/b"))]
    if os.geteuid() == 0:
        other = tmp_path / "other"
        other.write_bytes(b"other")
        os.chown(other, 12345, 12345)
        wanted.append(other)
    async with asyncio.timeout(60):
        found = await transport.read([Slice(str(path), 0, 100) for path in wanted])
    assert found == [b"x"] + [None] * (len(wanted) - 1)


async def test_what_is_appended_is_seen(transport: Transport, tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert await read_one(transport, path) is None
    text = b""
    for number in range(5):
        with path.open("ab") as file:
            file.write(b"%d" % number)
        assert await read_one(transport, path, len(text)) == b"%d" % number
        text += b"%d" % number


async def test_reading_nothing_is_nothing(transport: Transport) -> None:
    assert await transport.read([]) == []


async def test_several_may_read_the_same_file_at_once(
    transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "HANDLE_AGE", 0.0)  # every read finds an old handle
    path = tmp_path / "log"
    path.write_bytes(b"hello")

    async def often() -> set[bytes | None]:
        return {await read_one(transport, path) for _ in range(5)}

    assert await asyncio.gather(*(often() for _ in range(8))) == [{b"hello"}] * 8


# -- removing


async def test_a_directory_is_removed_with_all_below_it(
    transport: Transport, tmp_path: Path
) -> None:
    directory = tmp_path / "-rf s"
    await transport.stage(str(directory), FILES)
    (directory / "sub").mkdir()
    (directory / "sub" / "x").write_text("")
    await read_one(transport, directory / "secret")
    await transport.remove(str(directory))
    assert not directory.exists()
    await transport.remove(str(directory))


async def test_removing_a_link_leaves_its_target(transport: Transport, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine").write_text("")
    (tmp_path / "link").symlink_to(target)
    await transport.remove(str(tmp_path / "link"))
    assert not (tmp_path / "link").is_symlink()
    assert (target / "mine").exists()


async def test_what_cannot_be_removed_is_told(transport: Transport) -> None:
    with pytest.raises(ClusterError, match="cannot be removed"):
        await transport.remove("/proc/self/task")
