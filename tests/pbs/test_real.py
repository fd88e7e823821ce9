"""``make test-pbs`` as somebody with a real PBS would type it, over a real sshd.

What the logins find there is the fake server, so this tries the way to it and the suite itself.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpcbridge.schedulers.pbs.readers import read_section
from tests.fakepbs import FakePBS
from tests.pbs import loginhost, site
from tests.schedulers.pbs.recordings import recorded

ROOT = Path(__file__).parents[2]
SUITES = ["tests/pbs/test_suite.py", "tests/conformance/test_pbs.py"]
# One of each kind: jobs that wait, print, fail and cannot start, and commands that fail.
SOME = "then_runs or job_prints or outage or is_killed or cannot_start"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakePBS]:
    fake = FakePBS(tmp_path / "pbs")
    yield fake
    fake.close()


@pytest.fixture
def run(fake: FakePBS, tmp_path: Path) -> Iterator[Run]:
    """Run a module as ``make test-pbs`` does."""
    with loginhost.running(tmp_path, fake.bin) as variables:

        def run(*module: str, **more: str) -> subprocess.CompletedProcess[str]:
            given = {f"HPCBRIDGE_TEST_PBS_{name.upper()}": value for name, value in more.items()}
            return subprocess.run(
                [sys.executable, "-m", *module],
                cwd=ROOT,
                env={**os.environ, "HPCBRIDGE_TEST_PBS_INTERVAL": "0", **variables, **given},
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )

        yield run


@pytest.mark.timeout(600)
def test_the_suite_passes_over_ssh_and_leaves_nothing(
    run: Run, fake: FakePBS, tmp_path: Path
) -> None:
    done = run("pytest", "-q", "-p", "no:cacheprovider", *SUITES, "-k", SOME)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout
    assert fake.living == []
    assert not list(tmp_path.glob("hpcbridge-test-*"))


def test_a_site_that_works_is_told_in_two_lines(run: Run, fake: FakePBS) -> None:
    done = run("tests.pbs")
    assert done.returncode == 0, done.stderr
    about, job = done.stdout.splitlines()
    assert about.startswith("PBS 23.06.06, server pbslab: queue workq; nodes that are up: 1, ")
    assert job.startswith("A job ran on localhost after ")
    assert fake.living == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"commands": "/nosuch"}, "/nosuch/qstat -B -f -F json told no Server (127)"),
        ({"options": "-l select=1:ncpus=99"}, "can never run"),
        ({"options": "-l select=1:nosuch=1"}, "Unknown resource"),
    ],
)
def test_a_site_that_cannot_be_used_is_told_why(
    run: Run, fake: FakePBS, given: dict[str, str], words: str
) -> None:
    done = run("tests.pbs", **given)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert fake.living == []


def test_a_server_that_is_down_is_told_in_its_words(run: Run, fake: FakePBS) -> None:
    fake.set(down=True)
    assert "cannot connect to server pbslab" in run("tests.pbs").stderr


def told(name: str, section: str) -> dict[str, dict[str, str]]:
    """What a real server told."""
    return read_section(recorded(name).out, section) or {}


def test_the_hosts_and_limits_of_a_real_server_are_read() -> None:
    assert site._hosts(site._up(told("pbsnodes_json", "nodes"))) == {"pbslab"}
    assert site._roomy(told("qstat_server_Bf_json", "Server")["pbslab"])


@pytest.mark.parametrize(
    ("given", "changes", "words"),
    [
        ("nosuch", {}, "There is no queue 'nosuch'"),
        ("", {"default_queue": ""}, "no default queue"),
        ("disabledq", {}, "is not enabled"),
        ("stoppedq", {}, "is not started"),
        ("", {"scheduling": "False"}, "starts no jobs"),
    ],
)
def test_a_queue_that_starts_no_jobs_is_told(
    monkeypatch: pytest.MonkeyPatch, given: str, changes: dict[str, str], words: str
) -> None:
    queues = told("qstat_queues_Qf_json", "Queue")
    server = told("qstat_server_Bf_json", "Server")["pbslab"]
    assert site._queue(queues, server) == "workq"
    monkeypatch.setitem(site.GIVEN, "queue", given)
    with pytest.raises(site.Unusable, match=words):
        site._queue(queues, server | changes)


@pytest.mark.parametrize(
    ("limits", "roomy"),
    [
        ({"max_queued": "[o:PBS_ALL=5000],[u:PBS_GENERIC=200]"}, False),
        ({"queued_jobs_threshold": "[u:PBS_GENERIC=5000]"}, True),
        ({"max_queuable": "500"}, False),
        ({"max_queued_res.ncpus": "[u:PBS_GENERIC=8]", "max_run": "[u:PBS_GENERIC=2]"}, True),
    ],
)
def test_a_limit_on_waiting_jobs_is_seen(limits: dict[str, str], roomy: bool) -> None:
    assert site._roomy(limits) == roomy


def test_a_host_has_its_whole_and_its_short_name() -> None:
    nodes = {
        "n1": {"state": "free", "Mom": "n1.cluster.example.org"},
        "n2": {"state": "down,offline", "Mom": "n2.cluster.example.org"},
    }
    assert site._hosts(site._up(nodes)) == {"n1", "n1.cluster.example.org"}


def test_nodes_that_are_all_down_are_told() -> None:
    with pytest.raises(site.Unusable, match="n1 is down and offline"):
        site._up({"n1": {"state": "down,offline"}})
