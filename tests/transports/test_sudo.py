"""Files and commands by sudo: over a stand-in that runs them as this account."""

import asyncio
import contextlib
import gc
import os
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hpcbridge.errors import ClusterError, ClusterUnreachable, UnexpectedReply
from hpcbridge.identity.sudoers import HELPER
from hpcbridge.transports import local as local_module
from hpcbridge.transports import sudo as sudo_module
from hpcbridge.transports.base import Slice, StagedFile
from hpcbridge.transports.connection import SSHHost
from hpcbridge.transports.local import LocalTransport
from hpcbridge.transports.pipes import open_here, opener_on
from hpcbridge.transports.ssh import SSHTransport
from hpcbridge.transports.sudo import SudoTransport
from tests.sshpeer import SSHPeer
from tests.waiting import until

# What of sudo(8) is used. It notes how it was called, and may refuse.
SUDO = """\
#!/bin/sh
printf '%s\\n' "$*" >>{folder}/calls
[ "$1 $2 $3 $5" = "-n -H -u --" ] || exit 99
if [ -e {folder}/refusal ]; then cat {folder}/refusal >&2; exit 1; fi
shift 5
exec "$@"
"""

FILES = {
    "job.sh": StagedFile(b"#!/bin/sh\n", mode=0o700),
    "secret": StagedFile(b"s3cret"),
    "empty": StagedFile(b""),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "scratch" / "sessions"


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    sudo = folder / "sudo"
    sudo.write_text(SUDO.format(folder=folder))
    sudo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
async def sudo(stand_in: Path, root: Path) -> AsyncIterator[SudoTransport]:
    helper = [sys.executable, str(HELPER), "0", str(root)]
    transport = SudoTransport(
        "alice", LocalTransport(), open_here, helper=helper, commands_dir="/bin"
    )
    yield transport
    await transport.close()


async def read_one(sudo: SudoTransport, path: Path, offset: int = 0, limit: int = 2**20):
    return (await sudo.read([Slice(str(path), offset, limit)]))[0]


# -- commands


async def test_a_command_runs_as_the_account_by_its_whole_path(
    sudo: SudoTransport, stand_in: Path
) -> None:
    done = await sudo.run(["echo", "-n", "a b"], timeout=5)
    assert done.out == "a b"
    assert (stand_in / "calls").read_text() == "-n -H -u alice -- /bin/echo -n a b\n"


@pytest.mark.parametrize(
    "said",
    [
        "sudo: a password is required",
        "sudo: unknown user alice\nsudo: error initializing audit plugin sudoers_audit",
        "Sorry, user bridge is not allowed to execute '/bin/echo' as alice on head.",
        "sudo: account validation failure, is your account locked?",
    ],
)
async def test_a_refusal_says_who_what_why_and_the_cure(
    sudo: SudoTransport, stand_in: Path, said: str
) -> None:
    (stand_in / "refusal").write_text(f"{said}\n")
    with pytest.raises(ClusterUnreachable, match="'hpcbridge sudoers' prints") as caught:
        await sudo.run(["echo"], timeout=5)
    assert "/bin/echo as 'alice'" in str(caught.value)
    assert said.partition("\n")[0] in str(caught.value)
    assert caught.value.lasting
    with pytest.raises(ClusterUnreachable, match="'hpcbridge sudoers' prints") as caught:
        await sudo.home()
    assert said.partition("\n")[0] in str(caught.value)


async def test_env_which_no_rule_can_allow_is_not_even_tried(
    sudo: SudoTransport, stand_in: Path
) -> None:
    with pytest.raises(UnexpectedReply, match="environment"):
        await sudo.run(["env", "A=1", "squeue"], timeout=5)
    assert not (stand_in / "calls").exists()


async def test_a_command_that_fails_by_itself_is_no_refusal(sudo: SudoTransport) -> None:
    done = await sudo.run(["sh", "-c", "echo oops >&2; exit 1"], timeout=5)
    assert (done.exit_status, done.err) == (1, "oops\n")


async def test_what_sudo_started_may_not_be_killed_and_a_timeout_ends_all_the_same(
    sudo: SudoTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError

    pids: list[int] = []
    monkeypatch.setattr(local_module.os, "killpg", lambda pid, _: pids.append(pid) or forbidden())
    with pytest.raises(ClusterUnreachable, match="did not answer within"):
        await sudo.run(["sleep", "60"], timeout=0.3)
    monkeypatch.undo()
    with contextlib.suppress(ProcessLookupError):  # where it was seen to end meanwhile
        os.killpg(pids[0], 9)
    # Reaped, so that nothing is told of it later.
    await until(lambda: not Path(f"/proc/{pids[0]}").exists(), "its end")
    await asyncio.sleep(0.05)
    gc.collect()  # or it would be told in the middle of another test
    await until(lambda: not Path(f"/proc/{pids[0]}").exists())


# -- files


async def test_what_is_staged_is_private_and_is_read_and_removed(
    sudo: SudoTransport, root: Path
) -> None:
    directory = root / "hpcb-1"
    await sudo.stage(str(directory), FILES)
    for path in (directory, root, root.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert modes == {"job.sh": 0o700, "secret": 0o600, "empty": 0o600}
    assert await read_one(sudo, directory / "secret") == b"s3cret"
    assert await read_one(sudo, directory / "secret", 2, 2) == b"cr"
    assert await read_one(sudo, directory / "secret", -3) == b"ret"
    assert await read_one(sudo, directory / "missing") is None
    await sudo.remove(str(directory))
    assert not directory.exists()
    await sudo.remove(str(directory))


async def test_one_helper_serves_all_requests(
    sudo: SudoTransport, stand_in: Path, root: Path
) -> None:
    await sudo.stage(str(root / "s"), FILES)
    found = await asyncio.gather(*(read_one(sudo, root / "s" / "secret") for _ in range(20)))
    assert set(found) == {b"s3cret"}
    assert (stand_in / "calls").read_text().count("\n") == 1


async def test_nothing_is_staged_where_others_could_put_theirs_in_its_place(
    sudo: SudoTransport, root: Path
) -> None:
    """Somebody was first to make the account's directory in a scratch directory of all."""
    root.mkdir(parents=True)
    root.parent.chmod(0o1777)
    os.chown(root, 12345, -1)
    with pytest.raises(ClusterError, match="others could replace what is in"):
        await sudo.stage(str(root / "s"), FILES)
    os.chown(root, os.getuid(), -1)
    await sudo.stage(str(root / "s"), FILES)


async def test_what_is_there_already_is_not_staged_into(sudo: SudoTransport, root: Path) -> None:
    await sudo.stage(str(root / "s"), FILES)
    with pytest.raises(ClusterError, match="session_root") as caught:
        await sudo.stage(str(root / "s"), FILES)
    assert "s3cret" not in str(caught.value)
    elsewhere = root / "elsewhere"
    elsewhere.mkdir()
    (root / "link").symlink_to(elsewhere)
    with pytest.raises(ClusterError, match="cannot be written"):
        await sudo.stage(str(root / "link"), FILES)
    assert list(elsewhere.iterdir()) == []


async def test_links_devices_and_what_is_no_file_are_not_read(
    sudo: SudoTransport, root: Path, tmp_path: Path
) -> None:
    directory = root / "s"
    await sudo.stage(str(directory), FILES)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("theirs")
    (directory / "link").symlink_to(outside / "secret")
    (root / "linked").symlink_to(outside)
    os.mkfifo(directory / "fifo")
    (directory / "folder").mkdir()
    os.link(outside / "secret", directory / "second")
    wanted = [directory / "link", root / "linked" / "secret", directory / "fifo"]
    wanted += [directory / "folder", directory / "second"]
    async with asyncio.timeout(60):
        found = await sudo.read([Slice(str(path), 0, 100) for path in wanted])
    assert found == [None] * len(wanted)


async def test_removing_a_link_leaves_its_target(
    sudo: SudoTransport, root: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine").write_text("")
    await sudo.stage(str(root / "s"), FILES)
    (root / "link").symlink_to(target)
    (root / "s" / "link").symlink_to(target)
    await sudo.remove(str(root / "link"))
    await sudo.remove(str(root / "s"))
    assert (target / "mine").exists()


async def test_a_directory_elsewhere_is_refused(sudo: SudoTransport, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    for where in (tmp_path, tmp_path / "scratch", "/etc"):
        with pytest.raises(ClusterError, match="where sudoers lets hpcbridge-files work"):
            await sudo.remove(str(where))
        with pytest.raises(ClusterError, match="where sudoers lets hpcbridge-files work"):
            await sudo.stage(f"{where}/x", FILES)
    assert (tmp_path / "mine").exists()


@pytest.mark.parametrize("name", ["..", ".", ".ssh", "a b", "a\n", ""])
async def test_a_name_that_is_a_path_or_hidden_is_refused_by_the_helper(
    sudo: SudoTransport, root: Path, name: str
) -> None:
    root.mkdir(parents=True)
    with pytest.raises(ClusterError, match=r"hpcbridge-files does not know"):
        await sudo.remove(f"{root}/{name}")
    assert root.exists()


async def test_a_helper_that_died_is_started_again(
    sudo: SudoTransport, root: Path, stand_in: Path
) -> None:
    await sudo.stage(str(root / "s"), FILES)
    assert sudo._pipe is not None
    sudo._pipe._process.kill()
    with pytest.raises(ClusterUnreachable, match="is over"):
        await read_one(sudo, root / "s" / "secret")
    assert await read_one(sudo, root / "s" / "secret") == b"s3cret"


async def test_a_helper_that_died_while_nobody_asked_it_is_no_trouble_to_who_asks_next(
    sudo: SudoTransport, root: Path
) -> None:
    await sudo.stage(str(root / "s"), FILES)
    assert sudo._pipe is not None
    sudo._pipe._process.kill()
    await sudo._pipe._process.wait()
    assert await read_one(sudo, root / "s" / "secret") == b"s3cret"


async def test_so_is_one_that_has_lost_its_connection(
    stand_in: Path, root: Path, host: SSHHost, peer: SSHPeer
) -> None:
    helper = [sys.executable, str(HELPER), "0", str(root)]
    sudo = SudoTransport(
        "alice", SSHTransport(host), opener_on(host), helper=helper, commands_dir="/bin"
    )
    await sudo.stage(str(root / "s"), FILES)
    peer.drop()
    await until(lambda: not host.connected)
    assert await read_one(sudo, root / "s" / "secret") == b"s3cret"
    await sudo.close()


async def test_a_helper_that_hangs_is_told_in_time_and_replaced(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sudo_module, "ANSWER_LIMIT", 0.3)
    hanging = SudoTransport(
        "alice", LocalTransport(), open_here, helper=["cat", "/dev/null", "-"], commands_dir="/bin"
    )
    monkeypatch.setattr(hanging, "_helper", ["sleep", "60"])
    with pytest.raises(ClusterUnreachable, match="did not answer within"):
        await hanging.home()
    await hanging.close()


async def test_a_program_that_is_no_helper_is_told(stand_in: Path) -> None:
    strange = SudoTransport(
        "alice", LocalTransport(), open_here, helper=["yes"], commands_dir="/bin"
    )
    with pytest.raises(UnexpectedReply, match="hpcbridge-files"):
        await strange.home()
    await strange.close()


async def test_a_helper_that_is_missing_is_told_with_what_prints_it(stand_in: Path) -> None:
    missing = SudoTransport(
        "alice", LocalTransport(), open_here, helper=["/no/such/helper"], commands_dir="/bin"
    )
    with pytest.raises(ClusterUnreachable, match=r"'hpcbridge sudoers --helper'"):
        await missing.home()
    await missing.close()


async def test_the_helper_works_for_no_account_of_the_system(stand_in: Path) -> None:
    least = str(os.getuid() + 1)
    system = SudoTransport(
        "alice",
        LocalTransport(),
        open_here,
        helper=[sys.executable, str(HELPER), least],
        commands_dir="/bin",
    )
    with pytest.raises(ClusterUnreachable, match="is the system's own"):
        await system.home()
    await system.close()


async def test_a_request_that_was_given_up_does_not_answer_the_next(
    sudo: SudoTransport, root: Path
) -> None:
    await sudo.stage(str(root / "a"), {"log": StagedFile(b"a" * 900_000)})
    await sudo.stage(str(root / "b"), {"log": StagedFile(b"b")})
    for _ in range(5):
        task = asyncio.create_task(read_one(sudo, root / "a" / "log"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await read_one(sudo, root / "b" / "log") == b"b"


async def test_when_it_is_closed_no_helper_is_left(sudo: SudoTransport, root: Path) -> None:
    await sudo.stage(str(root / "s"), FILES)
    assert sudo._pipe is not None
    pid = sudo._pipe._process.pid
    await sudo.close()
    await until(lambda: not Path(f"/proc/{pid}").exists())
