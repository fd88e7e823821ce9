"""A login shell that talks: nothing that it says, before or after, is part of an answer."""

from collections.abc import Callable

import pytest

from hpcbridge.errors import ClusterUnreachable, OutcomeUnknown
from hpcbridge.schedulers.slurm import SlurmScheduler
from hpcbridge.transports.connection import SSHHost
from hpcbridge.transports.pipes import opener_on
from hpcbridge.transports.ssh import SSHTransport
from tests.sshpeer import SSHPeer

LOUD = """
echo "Lmod has detected the following error: Connection refused" >&2
date +%N; date +%N >&2; printf 'Welcome to {Example} <?xml'
"""
Login = Callable[[str], None]


@pytest.fixture
def login(peer: SSHPeer, monkeypatch: pytest.MonkeyPatch) -> Login:
    """Gives the account start-up lines, which its shell runs before each command."""
    run = peer.run_process

    def start_up(lines: str) -> None:
        monkeypatch.setattr(
            peer, "run_process", lambda channel, command: run(channel, f"{lines}\n{command}")
        )

    return start_up


@pytest.mark.parametrize(
    "lines",
    [
        LOUD,
        "trap 'echo bye; echo error >&2; exit 0' EXIT",
        f"{LOUD}\ntrap 'echo 0; exit 77' EXIT",
        "(sleep 0.05; echo late; echo late >&2) &",
        "head -c 60000 /dev/zero | tr '\\\\0' n",
    ],
)
async def test_noise_around_a_command_is_no_part_of_its_answer(
    ssh: SSHTransport, login: Login, lines: str
) -> None:
    login(lines)
    words = ["sh", "-c", "cat; printf out; sleep 0.1; printf err >&2; exit 170"]
    for _ in range(3):
        done = await ssh.run(words, stdin=b"in ", timeout=60)
        late = lines.startswith("(")
        out, err = (done.stdout.replace(b"late\n", b""), done.stderr.replace(b"late\n", b""))
        assert (done.exit_status, out, err) == (170, b"in out", b"err")
        assert late or (done.stdout, done.stderr) == (out, err)


async def test_an_answer_is_found_although_the_login_joins_both_streams(
    ssh: SSHTransport, login: Login
) -> None:
    login("echo hello; exec 2>&1")
    done = await ssh.run(["sh", "-c", "echo 1; exit 3"], timeout=60)
    assert (done.exit_status, done.out, done.err) == (3, "1\n", "")


async def test_a_login_that_throws_messages_away_keeps_the_answer(
    ssh: SSHTransport, login: Login
) -> None:
    login("echo hello; exec 2>/dev/null")
    done = await ssh.run(["sh", "-c", "echo 1; echo 2 >&2"], timeout=60)
    assert (done.out, done.err) == ("1\n", "")


@pytest.mark.parametrize("ending", ["", "\n", "no line"])
async def test_the_answer_keeps_its_last_bytes(
    ssh: SSHTransport, login: Login, ending: str
) -> None:
    login(LOUD)
    done = await ssh.run(["printf", "%s", f"x{ending}"], timeout=60)
    assert done.out == f"x{ending}"


async def test_a_login_shell_that_runs_nothing_is_told_in_its_words(
    ssh: SSHTransport, login: Login
) -> None:
    await ssh.home()
    login("echo 'This account is currently not available.'; exit 1")
    with pytest.raises(ClusterUnreachable, match=r"did not run squeue .*currently not av") as e:
        await ssh.run(["squeue"], timeout=60)
    assert not isinstance(e.value, OutcomeUnknown)


async def test_a_command_whose_shell_was_killed_has_an_unknown_outcome(ssh: SSHTransport) -> None:
    with pytest.raises(OutcomeUnknown, match="ended without a whole answer"):
        await ssh.run(["sh", "-c", "echo 12; kill -9 $(ps -o ppid= $PPID)"], timeout=60)


async def test_what_is_talked_with_is_not_disturbed_by_a_banner(
    host: SSHHost, login: Login
) -> None:
    login(LOUD)
    pipe = await opener_on(host)(["sh", "-c", "cat; echo sudo: no >&2"])
    await pipe.write(b"\x00\x00\x00\x01x")
    assert await pipe.read(5) == b"\x00\x00\x00\x01x"
    assert await pipe.close() == "sudo: no"


async def test_a_listing_is_read_whatever_the_login_says(
    ssh: SSHTransport, peer: SSHPeer, login: Login
) -> None:
    squeue = peer.home / "squeue"
    squeue.write_text(
        "#!/bin/sh\nfor each; do case $each in --format=*) f=${each#--format=};; esac; done\n"
        'printf "%s\\n" "$f"\n'
    )
    squeue.chmod(0o755)
    login(f"PATH={peer.home}:$PATH; {LOUD}")
    assert (await SlurmScheduler(ssh, timeout=60).list_jobs()).jobs == {}


async def test_a_sites_options_for_commands_of_the_scheduler_do_not_reach_them(
    ssh: SSHTransport, login: Login
) -> None:
    login(
        "export SQUEUE_PARTITION=short SLURM_CLUSTERS=all SACCT_FORMAT=x SBATCH_ARRAY_INX=0-1 "
        "SBATCH_CLUSTERS='a\nSQUEUE_X=1' PBS_DPREFIX='#X' SLURM_CONF=/site/slurm.conf OTHER=1"
    )
    words = ["env", "SLURM_TIME_FORMAT=%s", "sh", "-c", "env | sort"]
    told = (await ssh.run(words, timeout=60)).out.splitlines()
    cleared = ("SQUEUE_", "SACCT_", "SBATCH_", "SLURM_CLUSTERS", "PBS_DPREFIX")
    assert [each for each in told if each.startswith(cleared)] == []
    assert {"SLURM_CONF=/site/slurm.conf", "SLURM_TIME_FORMAT=%s", "OTHER=1"} <= set(told)
